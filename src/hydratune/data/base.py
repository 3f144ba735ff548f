"""What every dataset does once its rows are read: canonical columns, splits, limits."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydratune.errors import ConfigError, Mistake, did_you_mean, one_of
from hydratune.hub import Repository

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


@dataclass(kw_only=True)
class Source(ABC):
    """A dataset as a config describes it; `load` gives the rows that a task sees.

    Args:
        columns: The task's name of a column -> its name in the data, e.g. `text: sentence1`; null where the
            data has no such column.
        labels: Names of the labels in the order of their ids; null to take them from the data.
        limit: Split -> the most rows to keep, drawn by `seed`; null for all.
        validation_size: Share of the training rows that is held out where there is no validation split.
        seed: Draws the held-out rows and the limits. Not the run's seed: runs are compared on the same rows.
    """

    columns: dict[str, str | None] = field(default_factory=dict)
    labels: list[str] | None = None
    limit: dict[str, int | None] = field(default_factory=dict)
    validation_size: float = 0.1
    seed: int = 0

    @abstractmethod
    def read(self) -> DatasetDict:
        """All rows with the columns of the data, in splits called train, validation and test."""

    def needs(self) -> dict[str, Repository]:
        """Key of the config -> what the hub or its cache has to serve for it."""
        return {}

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported or read."""
        named = [name for name in self.columns.values() if name is not None]
        if repeated := sorted({str(name) for name in named if named.count(name) > 1}):
            yield Mistake("columns", "a different column for each", f"{repeated} twice", "Set one of them to null.")
        for split, rows in self.limit.items():
            if split not in SPLITS:
                yield Mistake(f"limit.{split}", one_of(SPLITS), repr(split), _nearest_split("limit", split))
            elif rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
                yield Mistake(f"limit.{split}", "a number of rows above 0 or null", repr(rows), "Leave it out.")
        if not 0 < self.validation_size < 1:
            fix = "Set dataset.validation_size=0.1."
            yield Mistake("validation_size", "a share between 0 and 1", repr(self.validation_size), fix)
        if self.labels is not None and not all(isinstance(name, str) for name in self.labels):
            yield Mistake("labels", "names as text", repr(self.labels), "Put them in quotes; yaml reads no as false.")
        elif self.labels is not None and len(set(self.labels)) != len(self.labels):
            yield Mistake("labels", "different names", repr(self.labels), "Name each label once.")

    def check_columns(self, present: Sequence[str], where: str) -> Iterator[Mistake]:
        """A mistake for each column that the data was said to have and has not."""
        for ours, theirs in self.columns.items():
            if theirs is not None and theirs not in present:
                fix = did_you_mean(theirs, present, f"Set dataset.columns.{ours} to one of them.")
                yield Mistake(f"columns.{ours}", f"a column of {where}: {list(present)}", repr(theirs), fix)

    def load(self) -> DatasetDict:
        """The rows of each split under the task's column names; always with train and validation."""
        splits = self.read()
        if missing := [m for s in splits for m in self.check_columns(splits[s].column_names, f"the {s} split")]:
            raise ConfigError(*(mistake.under("dataset") for mistake in missing))
        if empty := [split for split in splits if len(splits[split]) == 0]:
            raise ConfigError(
                Mistake("dataset", "rows in every split", f"none in {', '.join(empty)}", "Check the data.")
            )
        for split in splits:
            splits[split] = self._renamed(splits[split])
        if "validation" not in splits:
            splits["train"], splits["validation"] = self._held_out(splits["train"])
        for split, rows in self.limit.items():
            if rows is not None and split in splits and rows < len(splits[split]):
                splits[split] = splits[split].shuffle(seed=self.seed).select(range(rows))
        log.info("data: %s", ", ".join(f"{split} {len(splits[split]):,} rows" for split in splits))
        return splits

    def _renamed(self, rows: Dataset) -> Dataset:
        mapping: Mapping[str, Any] = {theirs: ours for ours, theirs in self.columns.items() if theirs is not None}
        return rows.select_columns(list(mapping)).rename_columns(mapping)

    def _held_out(self, rows: Dataset) -> tuple[Dataset, Dataset]:
        if len(rows) < 2:
            fix = "Add rows, or a validation split."
            raise ConfigError(Mistake("dataset", "rows to hold out for validation", f"{len(rows)} in train", fix))
        halves = rows.train_test_split(test_size=self.validation_size, seed=self.seed)
        log.info("data: no validation split, so %.0f %% of train is held out", 100 * self.validation_size)
        return halves["train"], halves["test"]


def _nearest_split(key: str, split: str) -> str:
    return did_you_mean(split, SPLITS, f"Set dataset.{key}.train.")
