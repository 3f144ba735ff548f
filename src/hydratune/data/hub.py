"""Datasets of the Hugging Face Hub."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydratune.data.raw import RawDataset
from hydratune.data.source import Source
from hydratune.data.source_checks import SPLITS
from hydratune.data.streaming import typed
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError, Mistake, Problem, did_you_mean, one_of


@dataclass(kw_only=True)
class HubDataset(Source):
    """A dataset of the Hub, loaded by `datasets.load_dataset(path, name, revision=revision)`.

    Args:
        path: Hub id of the dataset, e.g. `nyu-mll/glue`.
        name: Configuration of the dataset, e.g. `mrpc`; null if it has only one.
        revision: A branch, tag, or commit; null for the newest.
        streaming: Whether to read training rows while they are used, and never download them as a whole.
        shuffle_buffer_size: Number of rows of a stream in the buffer that the next row is drawn from.
        splits: Split (train, validation, test) -> its name in the data; null if the data has no such split.
    """

    path: str
    name: str | None = None
    revision: str | None = None
    streaming: bool = False
    shuffle_buffer_size: int = 10_000
    splits: dict[str, str | None] = field(default_factory=lambda: {split: split for split in SPLITS})

    def check(self) -> Iterator[Problem]:
        """Add errors for unknown split names and invalid ids.

        `datasets` 5 no longer loads short ids such as `glue`.
        """
        yield from super().check()
        if self.path.count("/") != 1:
            yield Mistake("path", "a hub id of the form OWNER/NAME", repr(self.path), "Look it up on the hub.")
        if self.splits.get("train") is None:
            yield Mistake("splits.train", "the data's name of it", "null", "Name one of its splits.")
        for split in set(self.splits) - set(SPLITS):
            yield Mistake(f"splits.{split}", one_of(SPLITS), repr(split), did_you_mean(split, SPLITS, "Rename it."))

    def needs(self) -> dict[str, hub.Repository]:
        """Return the repository that the Hub or its cache must provide, by key of the config."""
        return {"path": hub.Repository("datasets", self.path)}

    def read(self) -> RawDataset:
        """Return the named splits; `datasets` downloads them once and caches them."""
        from datasets import DatasetDict, load_dataset_builder

        with hub.loading("dataset.path", self.path):
            builder = load_dataset_builder(self.path, self.name, revision=self.revision)
            self._check_files(builder.config.data_files or {})
            if self.streaming:
                loaded = builder.as_streaming_dataset()
            else:
                builder.download_and_prepare()
                loaded = builder.as_dataset()
        names = {split: name for split, name in self.splits.items() if name is not None}
        problems = [
            Mistake(
                f"dataset.splits.{split}",
                one_of(loaded),
                repr(name),
                did_you_mean(name, loaded, f"Set dataset.splits.{split}=null if there is none."),
            )
            for split, name in names.items()
            if name not in loaded
        ]
        if problems:
            raise ConfigError(*problems)
        splits = {split: loaded[name] for split, name in names.items()}
        if self.streaming:  # each evaluation needs the same rows, so only train is streamed
            with hub.loading("dataset.path", self.path):
                splits = {split: self._settled(split, typed(stream)) for split, stream in splits.items()}
        return RawDataset(DatasetDict(splits), shuffle_buffer_size=self.shuffle_buffer_size)

    def _check_files(self, data_files: Mapping[str, Sequence[str]]) -> None:
        """Raise ConfigError if the dataset's card names a file outside its repository or directory.

        The author of the dataset could read a file of the user, which the run would record.

        Args:
            data_files: Split -> resolved addresses or paths of its files.
        """
        folder, repository = Path(self.path), f"hf://datasets/{self.path}@"
        for address in itertools.chain.from_iterable(data_files.values()):
            location = address.rpartition("::")[2]  # of a file inside an archive, the address of the archive
            is_inside = location.startswith(repository) and ".." not in location.split("/")
            if folder.is_dir():
                is_inside = Path(location).resolve().is_relative_to(folder.resolve())
            if not is_inside:
                fix = "If you trust the dataset, download the file, and use dataset=local."
                raise ConfigError(
                    Mistake("dataset.path", f"a dataset with files inside {self.path!r}", repr(location), fix)
                )

    def _settled(self, split: str, stream: Any) -> Any:
        from datasets import Dataset

        if split == "train":
            return stream
        max_rows = self.max_samples.get(split)
        return Dataset.from_list(list(stream.take(max_rows) if max_rows else stream), features=stream.features)
