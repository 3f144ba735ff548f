"""Datasets of the Hugging Face Hub."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hydratune.data.eval_sets import check_sets, flat_sets, kind_of
from hydratune.data.raw import RawDataset
from hydratune.data.source import Source
from hydratune.data.source_checks import SPLITS
from hydratune.data.split_column import unknown_split
from hydratune.data.streaming import typed
from hydratune.utils import hub
from hydratune.utils.errors import KEY, ConfigError, Problem, nearest, one_of, setting
from hydratune.utils.files import is_inside

# Short ID that `datasets` no longer loads -> owner of the dataset.
_OWNERS = {
    **dict.fromkeys(("imdb", "sst2", "snli"), "stanfordnlp"),
    **dict.fromkeys(("squad", "squad_v2"), "rajpurkar"),
    **dict.fromkeys(("ag_news", "amazon_polarity", "dbpedia_14", "yelp_polarity"), "fancyzhx"),
    **dict.fromkeys(("glue", "multi_nli"), "nyu-mll"),
    **dict.fromkeys(("cifar10", "cifar100"), "uoft-cs"),
    "cnn_dailymail": "abisee",
    "conll2003": "eriktks",
    "emotion": "dair-ai",
    "food101": "ethz",
    "gsm8k": "openai",
    "mnist": "ylecun",
    "rotten_tomatoes": "cornell-movie-review-data",
    "super_glue": "aps",
    "swag": "allenai",
    "tweet_eval": "cardiffnlp",
    "wikitext": "Salesforce",
    "xsum": "EdinburghNLP",
    "yelp_review_full": "Yelp",
}
# Formats of repositories by their modules in `datasets`; `cache` reads what `datasets` has prepared before.
_FORMATS = ("arrow", "cache", "conll", "csv", "imagefolder", "json", "parquet", "text", "webdataset")
# Protocols for files inside an archive or a compressed file. Others, e.g. `reference`, read files that it names.
_ARCHIVES = tuple(f"{name}://" for name in ("bz2", "gzip", "lz4", "tar", "xz", "zip", "zstd"))


@dataclass(kw_only=True)
class HubDataset(Source):
    """A dataset of the Hub, loaded by `datasets.load_dataset(path, name, revision=revision)`.

    Args:
        path: Hub id of the dataset, e.g. `nyu-mll/glue`.
        name: Configuration of the dataset, e.g. `mrpc`; null if it has only one.
        revision: A branch, tag, or commit; null for the newest.
        streaming: Whether to read training rows while they are used, and never download them as a whole.
        shuffle_buffer_size: Number of rows of a stream in the buffer that the next row is drawn from.
        splits: Split (train, validation, test) -> its name in the data; null if the data has no such split. For
            validation and test also a mapping, set -> its name in the data.

    Example:
        >>> [problem.key for problem in HubDataset(path="glue").check()]
        ['path']
    """

    sets_option: ClassVar[str] = "splits"

    path: str
    name: str | None = None
    revision: str | None = None
    streaming: bool = False
    shuffle_buffer_size: int = 10_000
    splits: dict[str, str | dict[str, str] | None] = field(default_factory=lambda: {split: split for split in SPLITS})

    def check(self) -> Iterator[Problem]:
        """Add errors for unknown split names and invalid ids.

        `datasets` 5 no longer loads short ids such as `glue`.
        """
        yield from super().check()
        if self.path.count("/") != 1:
            owner = _OWNERS.get(self.path)
            hint = f"set {KEY}={owner}/{self.path}" if owner else "search for it at https://huggingface.co/datasets"
            yield Problem("path", f"{self.path!r} is not a Hub ID of the form OWNER/NAME", hint)
        if self.splits.get("train") is None:
            yield Problem("splits.train", f"{KEY} is required", f"set {KEY}=NAME")
        for split in set(self.splits) - set(SPLITS):
            yield unknown_split("splits", split)
        yield from check_sets("splits", self.splits)

    def needs(self) -> dict[str, hub.Repository]:
        """Return the repository that the Hub or its cache must provide, by key of the config."""
        return {"path": hub.Repository("datasets", self.path)}

    def read(self) -> RawDataset:
        """Return the named splits; `datasets` downloads them once and caches them."""
        from datasets import DatasetDict, load_dataset_builder

        with hub.loading("dataset.path", self.path):
            builder = load_dataset_builder(self.path, self.name, revision=self.revision)
            self._check_format(type(builder).__module__)
            check_addresses(self.path, builder.config.data_files or {})
            if self.streaming:
                loaded = builder.as_streaming_dataset()
            else:
                builder.download_and_prepare()
                loaded = builder.as_dataset()
        names = {split: name for split, name in flat_sets(self.splits).items() if name is not None}
        problems = [
            self._no_split(split, name, loaded).under("dataset") for split, name in names.items() if name not in loaded
        ]
        if problems:
            raise ConfigError(*problems)
        splits = {split: loaded[name] for split, name in names.items()}
        if self.streaming:  # each evaluation needs the same rows, so only train is streamed
            with hub.loading("dataset.path", self.path):
                splits = {split: self._settled(split, typed(stream)) for split, stream in splits.items()}
        return RawDataset(DatasetDict(splits), shuffle_buffer_size=self.shuffle_buffer_size)

    def _no_split(self, split: str, name: str, present: Collection[str]) -> Problem:
        """Return the error for a split that the data does not have."""
        close = nearest(name, present)
        hint = f"a similar split exists: {setting(KEY, close)}" if close else f"use {one_of(present)}"
        if split != "train" and not close:
            hint += f", or set {KEY}=null if there is none"
        return Problem(f"splits.{split}", f"{self.path} has no split {name!r}", hint)

    def _check_format(self, module: str) -> None:
        """Raise ConfigError for a format whose files can refer to other files, e.g. by external links of HDF5.

        Args:
            module: Module of the class with which `datasets` would read the files.
        """
        name = module.removeprefix("datasets.packaged_modules.").partition(".")[0]
        if name not in _FORMATS:
            text = f"{self.path!r} has files in the format {name}, which is not supported"
            hint = "convert the dataset to Parquet, and use dataset=local"
            raise ConfigError(Problem("path", text, hint).under("dataset"))

    def _settled(self, split: str, stream: Any) -> Any:
        from datasets import Dataset

        if split == "train":
            return stream
        max_rows = self.max_samples.get(kind_of(split))
        return Dataset.from_list(list(stream.take(max_rows) if max_rows else stream), features=stream.features)


def check_addresses(dataset: str, data_files: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError if a dataset's card names a file outside its repository or directory.

    The author of the dataset could read a file of the user, which the run would record.

    Args:
        dataset: Hub ID or directory of the dataset.
        data_files: Split -> resolved addresses or paths of its files.
    """
    repository, folder = f"hf://datasets/{dataset}@", Path(dataset)
    for address in itertools.chain.from_iterable(data_files.values()):
        *members, location = address.split("::")  # files inside archives, and the address of the outermost archive
        is_own = location.startswith(repository) and ".." not in location.split("/")
        if folder.is_dir():
            is_own = ":" not in location.partition("/")[0] and is_inside(Path(location), folder)
        if not is_own or not all(member.startswith(_ARCHIVES) for member in members):
            text = f"{dataset!r} refers to a file outside the dataset: {address!r}"
            hint = "if you trust the dataset, download the file and use dataset=local"
            raise ConfigError(Problem("path", text, hint).under("dataset"))
