"""A mixture of several datasets by weight."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hydratune.config.configurable import Configurable
from hydratune.data import splits
from hydratune.data.columns import Column, preview
from hydratune.data.cross_validation import NO_FOLDS, CrossValidation
from hydratune.data.dropped import DroppedRows
from hydratune.data.label_names import as_texts, check_label_names
from hydratune.data.source import Source
from hydratune.data.source_checks import SPLITS
from hydratune.data.streaming import format_length, is_stream
from hydratune.data.task_spec import TaskSpec
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, invalid_value, nearest, one_line, one_of
from hydratune.utils.hub import Repository

if TYPE_CHECKING:
    from datasets import DatasetDict

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Mixture(Configurable):
    """Datasets for one task, each with its own columns and limits.

    Training rows are drawn from the sources by weight. Each source is shuffled by `seed` first, unless the task needs
    its rows in order. Validation and test contain all rows of the sources.

    Args:
        sources: Name -> dataset.
        weights: Name -> its share of the training rows, relative to the others; 1 for sources without a weight.
        stopping_strategy: Strategy of `datasets.interleave_datasets`: `first_exhausted` ends with the first source
            that has no more rows; `all_exhausted` repeats the rows of smaller sources.
        labels: Names of the labels in the order of their ids, or a mapping from values to names, for all sources.
        seed: Seed of the shuffling and the draw.

    Example:
        >>> [problem.key for problem in Mixture(sources={}).check()]
        ['sources']
    """

    sources: dict[str, Source] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    stopping_strategy: Literal["first_exhausted", "all_exhausted"] = "first_exhausted"
    labels: list[str] | dict[str, str] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self.labels = as_texts(self.labels)
        self._dropped = DroppedRows()

    @property
    def dropped(self) -> DroppedRows:
        """The rows that `load` dropped from the sources, and the rows that their streams drop while they are read."""
        return self._dropped

    @property
    def places(self) -> Mapping[str, list[tuple[str, int]]]:
        """No places, since the positions of rows of several sources are ambiguous."""
        return {}

    def validation_sets(self) -> list[str]:
        """Return no names, since the validation rows of all sources are one set."""
        return []

    @property
    def label_names(self) -> list[str] | None:
        """The label names in the order of the ids, available after `load`; None for a task without labels."""
        lists = [source.label_names or [] for source in self.sources.values()]
        if all(names == lists[0] for names in lists):
            return lists[0] or None
        return sorted({name for names in lists for name in names}, key=_number_or_text)

    @property
    def streaming(self) -> bool:
        """Return whether training rows are read while they are used."""
        return any(getattr(source, "streaming", False) for source in self.sources.values())

    def check(self) -> Iterator[Problem]:
        """Yield an error for each invalid source or weight."""
        if not self.sources:
            yield Problem("sources", f"{KEY} is required", f"add at least one dataset, e.g. +dataset@{KEY}.a=local")
        for name, source in self.sources.items():
            if not isinstance(source, Source):
                yield invalid_value(f"sources.{name}", "a dataset with a _target_", preview(source))
                continue
            yield from (problem.under(f"sources.{name}") for problem in source.check())
            if option := next((key for key in ("files", "splits") if _has_sets(getattr(source, key, None))), None):
                text = f"{KEY} names several sets, which a mixture does not support"
                yield Problem(f"sources.{name}.{option}", text, "name one validation set and one test set")
            if source.labels is not None and source.labels != self.labels:
                text = f"{KEY} ({source.labels}) must match {NODE}labels ({self.labels or 'null'})"
                yield Problem(f"sources.{name}.labels", text, f"set {KEY}=null, and {NODE}labels for all sources")
        streamed = [name for name, source in self.sources.items() if getattr(source, "streaming", False)]
        if streamed and len(streamed) < len(self.sources):
            hint = f"set {' '.join(f'{KEY}.{name}.streaming=false' for name in streamed)}, or stream all sources"
            yield Problem("sources", f"only some of {KEY} are streamed: {', '.join(streamed)}", hint)
        yield from check_label_names(self.labels)
        for name, weight in self.weights.items():
            if name not in self.sources:
                close = nearest(name, self.sources)
                hint = f"a similar key exists: {NODE}weights.{close}" if close else f"use {one_of(self.sources)}"
                yield Problem(f"weights.{name}", f"unknown source {name!r} in {NODE}weights", hint)
            elif not isinstance(weight, int | float) or not 0 < weight < math.inf:
                yield invalid_value(f"weights.{name}", "a number above 0", repr(weight), f"set {KEY}=1")

    def check_columns(self, wanted: Mapping[str, Column]) -> Iterator[Problem]:
        """Yield an error for each column of a source that does not match the task."""
        for name, source in self.sources.items():
            yield from (problem.under(f"sources.{name}") for problem in source.check_columns(wanted))

    def needs(self) -> dict[str, Repository]:
        """Return the repositories that the Hub or its cache must provide for all sources, by key of the config."""
        return {
            f"sources.{n}.{key}": repo for n, source in self.sources.items() for key, repo in source.needs().items()
        }

    def load(self, task: TaskSpec, cv: CrossValidation = NO_FOLDS) -> DatasetDict:
        """Return the mixed training rows, and the concatenated validation and test rows of the sources."""
        from datasets import DatasetDict, concatenate_datasets, interleave_datasets

        opened, loaded = {}, {}
        for name, source in self.sources.items():
            source.labels = source.labels or self.labels
            with _errors_of(name):
                opened[name] = source.open(task, cv)
        label_names = self.label_names  # the model has the labels of all sources
        for name, source in self.sources.items():
            log.info("data: from %s", name)
            with _errors_of(name):
                rows = source.finish(opened[name], task, label_names, cv)
            loaded[name] = splits.without_groups(rows)  # groups of two sources may have equal values by chance
        parts_dropped = [source.dropped for source in self.sources.values()]
        self._dropped = DroppedRows([bad_row for part in parts_dropped for bad_row in part.before], parts=parts_dropped)
        weights = [self.weights.get(name, 1.0) for name in loaded]
        shares = [weight / sum(weights) for weight in weights]
        parts = {split: [rows[split] for rows in loaded.values() if split in rows] for split in SPLITS}
        if not task.keeps_order():  # otherwise, the rows that are not drawn would be the last ones of a sorted file
            parts["train"] = [self._shuffled(rows) for rows in parts["train"]]
        try:
            train: Any = interleave_datasets(
                parts.pop("train"), shares, seed=self.seed, stopping_strategy=self.stopping_strategy
            )
            mixed = DatasetDict(
                train=train, **{split: concatenate_datasets(rows) for split, rows in parts.items() if rows}
            )
        except ValueError as error:  # features that do not match, e.g. labels as ids and as names
            text = f"the columns of {KEY} do not match: {one_line(error, 200)}"
            hint = "give all sources the same columns and types"
            raise ConfigError(Problem("sources", text, hint).under("dataset")) from error
        for _, sentence in splits.overlap_between_splits(mixed, task.inputs):
            log.warning("data: mixed, %s; remove them from one of the sources", sentence)
        log.info("data: mixed, %s", ", ".join(f"{split} {format_length(rows)}" for split, rows in mixed.items()))
        return mixed

    def _shuffled(self, rows: Any) -> Any:
        """Return the rows shuffled by `seed`; a stream stays as it is, since its source shuffles it with a buffer."""
        return rows if is_stream(rows) else rows.shuffle(seed=self.seed)


def _has_sets(by_split: Any) -> bool:
    """Return whether an option of a source names several validation or test sets."""
    return isinstance(by_split, dict) and any(isinstance(value, dict) for value in by_split.values())


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Raise the errors of a source with the keys that it has in the mixture; labels are set for all sources."""
    try:
        yield
    except ConfigError as error:
        problems = (
            problem if problem.key == "dataset.labels" else problem.moved("dataset", f"dataset.sources.{name}")
            for problem in error.problems
        )
        raise ConfigError(*problems) from error


def _number_or_text(name: str) -> tuple[bool, int, str]:
    """Return a key that sorts whole numbers by value, before other names."""
    digits = name.removeprefix("-")
    is_number = digits.isdecimal()
    return not is_number, int(name) if is_number else 0, name
