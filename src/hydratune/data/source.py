"""Base class of all datasets: select the task's columns, handle bad rows, and split and limit the rows."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.config.configurable import Configurable
from hydratune.data.bad_rows import drop_bad_rows
from hydratune.data.cell_lists import split_cells
from hydratune.data.columns import (
    LISTS,
    MISSING,
    ONE_COLUMN,
    ROW_WEIGHT,
    Column,
    column_hint,
    column_name,
    listing,
    unknown_columns,
)
from hydratune.data.cross_validation import NO_FOLDS, CrossValidation
from hydratune.data.dropped import DroppedRows
from hydratune.data.duplicates import warn_of_duplicates
from hydratune.data.eval_sets import kind_of, set_names, sets_of
from hydratune.data.label_names import UnseenLabels, as_texts, check_spaces, doubtful_names
from hydratune.data.partition import HoldOut, by_kind, number_rows, partition
from hydratune.data.raw import RawDataset
from hydratune.data.shared_problems import merge_places
from hydratune.data.source_checks import SPLITS, check_source
from hydratune.data.split_column import check_unsplit, split_rows
from hydratune.data.splits import (
    drop_blanks,
    drop_keys,
    holds_lists_of_texts,
    join_texts,
    key_columns,
    nested,
    rows_with,
    select_columns,
    with_whole_labels,
)
from hydratune.data.streaming import checked, format_length, head, is_stream, length
from hydratune.data.task_spec import TaskSpec
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value
from hydratune.utils.hub import Repository

if TYPE_CHECKING:
    from datasets import DatasetDict

log = logging.getLogger(__name__)

_KEYS = ("stratify_by_column", "group_by_column", "split_column")  # keys that name a column of the data


@dataclass(kw_only=True)
class Source(Configurable, ABC):
    """A dataset that a config describes; `load` returns the rows that a task sees.

    Args:
        columns: The task's name of a column -> its name in the data, e.g. `text: sentence1`. A column that is not
            listed has the same name in the data. Null if the data has no such column. A dot selects a field of a
            struct (`translation.en`). A list of names makes one column of lists.
        labels: Names of the labels in the order of their ids, or a mapping from values in the data to names; null
            to take them from the training rows.
        list_separator: Separator of the elements of a list in one text, if the task reads lists: `;` for `a;b`, or
            `brackets` for lists as JSON or Python writes them. Null if the data has lists.
        max_samples: Split -> maximum number of rows, drawn by `seed` (for a stream, the first rows); null for all.
        validation_size: Share of all training rows to hold out if there is no validation split.
        test_size: Share of all training rows to hold out if there is no test split; 0 for no test split.
        stratify_by_column: A column of the data whose values keep their shares in the held-out rows.
        group_by_column: A column of the data, e.g. the document; no value of it occurs in two splits.
        split_column: A column of the data that names the split of each row, if all rows are in train. Null if there
            is no such column; then a column of train that looks like one is an error. False trains on all rows.
        split_values: Split -> its values in `split_column`; rows with other values are left out. Null for the usual
            names (train; dev, val, validation; test); other values are then an error.
        on_bad_rows: `error` ends the run before training; `skip` leaves out bad rows and lists them.
        unseen_labels: Policy for validation and test rows whose label no training row has. `error` ends the run,
            `keep` counts them as errors of the model, and `drop` excludes them from the score.
        seed: Seed that draws the held-out rows and the limits. It differs from the run's seed, so that runs are
            compared on the same rows.
    """

    sets_option: ClassVar[str] = ""  # option that may name several validation or test sets

    columns: dict[str, str | list[str] | None] = field(default_factory=dict)
    labels: list[str] | dict[str, str] | None = None
    list_separator: str | None = None
    max_samples: dict[str, int | None] = field(default_factory=dict)
    validation_size: float = 0.1
    test_size: float = 0.0
    stratify_by_column: str | None = None
    group_by_column: str | None = None
    split_column: str | bool | None = None
    split_values: dict[str, str | list[str] | None] | None = None
    on_bad_rows: Literal["error", "skip"] = "error"
    unseen_labels: UnseenLabels = "error"
    seed: int = 0

    def __post_init__(self) -> None:
        """Convert names to text: YAML and the command line read 0 and true as a number and a boolean."""
        self.columns = {
            str(task_name): [*map(column_name, data_name)] if isinstance(data_name, list) else column_name(data_name)
            for task_name, data_name in self.columns.items()
        }
        self.stratify_by_column = column_name(self.stratify_by_column)
        self.group_by_column = column_name(self.group_by_column)
        if self.split_column is not False:
            self.split_column = column_name(self.split_column)
        self.labels = as_texts(self.labels)
        self._label_names: list[str] | None = None
        self._places: dict[str, list[tuple[str, int]]] = {}
        self._dropped = DroppedRows()

    @property
    def dropped(self) -> DroppedRows:
        """The rows that `load` dropped, and the rows that a stream drops while it is read."""
        return self._dropped

    @property
    def places(self) -> Mapping[str, list[tuple[str, int]]]:
        """Place of each test row, available after `load`: the split of the files and its position in them, from 0.

        A position counts invalid rows too. The split is train for rows that are held out from train. With folds, the
        validation rows have places, too.
        """
        return self._places

    @property
    def label_names(self) -> list[str] | None:
        """The label names in the order of the ids, available after `load`; None for a task without labels."""
        return self._label_names

    @abstractmethod
    def read(self) -> RawDataset:
        """Return all rows with the columns of the data, in splits called train, validation, and test."""

    def read_columns(
        self,
        needed: Collection[str] | None,  # noqa: ARG002
        rest: bool = False,  # noqa: ARG002
        kinds: Mapping[str, Collection[str]] | None = None,  # noqa: ARG002
    ) -> RawDataset:
        """Return the same rows, possibly with some of the columns only.

        Args:
            needed: Columns whose values must have one type; None for all.
            rest: Whether to return the other columns too.
            kinds: Kind -> columns whose values need special parsing. In columns of numbers (`number`), other values
                make their rows invalid. In columns of labels (`label`), markers of missing values among numbers do.
                Cells of columns of texts (`text`) are never numbers. Columns of `references` hold texts or lists of
                texts.
        """
        return self.read()

    def validation_sets(self) -> list[str]:
        """Return the names of the validation sets; empty for one set without a name."""
        return set_names(getattr(self, self.sets_option), "validation") if self.sets_option else []

    def needs(self) -> dict[str, Repository]:
        """Return the repositories that the Hub or its cache must provide, by key of the config."""
        return {}

    def peek(self) -> Mapping[str, Sequence[str]]:
        """Return the columns that are visible without loading the data, by place, e.g. the path of a file."""
        return {}

    def check(self) -> Iterator[Problem]:
        """Yield errors that need no heavy import and no reading of the rows."""
        yield from check_source(self)

    def check_columns(self, wanted: Mapping[str, Column]) -> Iterator[Problem]:
        """Yield an error for each column that does not match the task, as far as visible without loading."""
        yield from unknown_columns(self.columns, wanted)
        for name, column in wanted.items():
            if column.required and self._theirs(name) in (None, []):
                yield Problem(f"columns.{name}", f"{KEY} is required", f"set {KEY}=NAME")
            if isinstance(names := self.columns.get(name), list) and column.kind in ONE_COLUMN:
                yield invalid_value(f"columns.{name}", "the name of one column", repr(names))
        has_target = any(column.target for column in wanted.values())  # unlike unlabeled rows for inference
        if self.list_separator and has_target and not any(column.kind in LISTS for column in wanted.values()):
            yield Problem("list_separator", f"{KEY} is set, but the task does not read lists", f"set {KEY}=null")
        columns = self.peek()
        yield from merge_places({place: [*self._missing(wanted, names, place)] for place, names in columns.items()})
        if columns:
            yield from self._missing_keys([*dict.fromkeys(name for present in columns.values() for name in present)])

    def _theirs(self, name: str) -> str | list[str] | None:
        """Return the data's name of a task's column; None if unset and another column has taken that name."""
        is_taken = name in self.columns.values() or name == ROW_WEIGHT  # `weight` may be any quantity of the data
        return self.columns.get(name, None if is_taken else name)

    def _needed(self, task_columns: Mapping[str, Column]) -> list[str]:
        """Return the columns of the data that the task and the splitting read."""
        names = [name for data_names in self._data_names(task_columns).values() for name in data_names]
        return [*dict.fromkeys(str(name) for name in [*names, *(getattr(self, key) for key in _KEYS)] if name)]

    def _data_names(self, task_columns: Iterable[str]) -> dict[str, list[str]]:
        """Return the columns of the data that each column of a task is read from."""
        data_names = {name: self._theirs(name) or [] for name in task_columns}
        return {name: [value] if isinstance(value, str) else value for name, value in data_names.items()}

    def _kinds(self, task_columns: Mapping[str, Column]) -> dict[str, list[str]]:
        """Return the columns of the data by the kinds that decide how their values are read."""
        kinds: dict[str, list[str]] = {"text": [], "number": [], "label": [], "references": []}
        for name, column in task_columns.items():
            data_names = self._theirs(name)
            if isinstance(data_names, list) and column.kind == "labels":
                kinds["number"] += data_names
            elif isinstance(data_names, str) and column.kind in kinds:
                kinds[column.kind].append(data_names)
        if any(name.casefold() in MISSING for name in self.labels or ()):  # a label may be called None
            kinds["label"] = []
        return kinds

    def _missing(
        self,
        task_columns: Mapping[str, Column],
        present: Sequence[str],
        where: str,
        nested: Sequence[str] | None = None,
    ) -> Iterator[Problem]:
        """Yield an error for each missing column; `nested` holds the names inside structs once the data is read."""
        first = [data_names[0] for data_names in self._data_names(task_columns).values() if data_names]
        is_present = any(path in present or path.partition(".")[0] in present for path in first)
        if not is_present and not any(column.required for column in task_columns.values()):
            hint = f"set {KEY}.{next(iter(task_columns))}=NAME; available columns: {listing(present)}"
            yield Problem("columns", f"{where} has none of the task's columns: {listing([*task_columns])}", hint)
            return
        for name, data_names in self._data_names(task_columns).items():
            is_required = task_columns[name].required or name in self.columns
            for data_name in data_names:
                is_nested = data_name.partition(".")[0] in present if nested is None else data_name in nested
                if is_required and data_name not in present and not is_nested:
                    hint = column_hint(KEY if len(data_names) == 1 else "", data_name, [*present, *(nested or ())])
                    yield Problem(f"columns.{name}", f"{where} has no column {data_name!r}", hint)

    def _missing_keys(self, present: Sequence[str]) -> Iterator[Problem]:
        """Yield an error for each column that the training rows should be split by but do not have."""
        for key in _KEYS:
            if (column := getattr(self, key)) and column not in present and column.partition(".")[0] not in present:
                hint = column_hint(KEY, column, present)
                yield invalid_value(key, "a column of the training rows", repr(column), hint)

    def load(self, task: TaskSpec, cv: CrossValidation = NO_FOLDS) -> DatasetDict:
        """Return the rows of each split under the task's column names; train and validation always exist.

        Test rows also have a column `GROUPS` if `group_by_column` is set and the data has that column.
        """
        return self.finish(self.open(task, cv), task, cv=cv)

    def open(self, task: TaskSpec, cv: CrossValidation = NO_FOLDS) -> RawDataset:
        """Return all rows under the task's column names, including invalid ones, and set `label_names`."""
        self._dropped = DroppedRows()
        needed = self._needed(task.columns)
        raw = self._split(self.read_columns(needed, kinds=self._kinds(task.columns)), needed)
        splits = raw.splits
        places = {tuple(raw.names(split)): split for split in reversed(splits)}  # once for splits with the same columns
        missing = [
            problem
            for split, rows in splits.items()
            if split in places.values()
            for problem in self._missing(task.columns, raw.names(split), f"the {split} split", [*nested(rows.features)])
        ]
        divided = ["train", *(["validation"] if cv.folds and "validation" in splits else [])]
        missing += [
            p for split in divided if not is_stream(splits[split]) for p in self._missing_keys(raw.names(split))
        ]
        if missing:
            raise ConfigError(*(problem.under("dataset") for problem in dict.fromkeys(missing)))
        keys = self.stratify_by_column, self.group_by_column
        kinds = {split: "train" if split in divided else split for split in splits}
        extra = {split: key_columns(kinds[split], splits[split], raw.names(split), *keys) for split in splits}
        splits = self.under_task_names(splits, task.columns, extra)
        splits, self._label_names = task.name_labels(splits, self.labels)
        if self.labels is None:
            self._check_label_names(raw, splits["train"], task)
        return replace(raw, splits=splits, data_columns=self._data_names(task.columns))

    def _check_label_names(self, raw: RawDataset, train: Any, task: TaskSpec) -> None:
        """Warn of label names of the data that may not be separate labels; raise ConfigError if they cannot be."""
        column = next((name for name, spec in task.columns.items() if spec.kind in ("label", "labels")), None)
        if column is None or not self._label_names:
            return
        sample = head(train) if is_stream(train) else train

        def place(name: str) -> str:
            return raw.locate("train", next(iter(rows_with(sample, column, [name])), 0))

        if errors := [*check_spaces(self._label_names, column, place)]:
            raise ConfigError(*errors)
        find_rows = partial(rows_with, sample, column)
        for warning in doubtful_names(self._label_names, length(train) or math.inf, find_rows):
            log.warning("data: %s", warning)

    def finish(
        self, raw: RawDataset, task: TaskSpec, label_names: list[str] | None = None, cv: CrossValidation = NO_FOLDS
    ) -> DatasetDict:
        """Return the valid rows of `open` in the splits of a run, as `load` returns them.

        Args:
            raw: Result of `open`.
            task: The task that was passed to `open`.
            label_names: Label names of all data of the run, if this is a part of it; None if this is all of it.
            cv: Folds of the training and validation rows.
        """
        splits, streams = raw.splits, is_stream(raw.splits["train"])
        names, drop = label_names or self._label_names, self.on_bad_rows == "skip"
        numbers = number_rows(splits, self.test_size, cv)
        self._dropped.before = drop_bad_rows(splits, raw, task, names, drop, self.unseen_labels)
        if streams:
            splits["train"] = checked(splits["train"], task, names, drop, self._dropped)
        if empty := [split for split in splits if length(splits[split]) == 0]:
            raise ConfigError(Problem("", f"{KEY} has no valid rows in {' and '.join(empty)}").under("dataset"))
        if streams and not sets_of(splits, "validation"):
            hint = f"add validation data, or set {KEY}=false"
            raise ConfigError(Problem("streaming", f"{KEY}=true requires a validation split", hint).under("dataset"))
        shares = {"validation": self.validation_size, "test": self.test_size}
        options = HoldOut(self.seed, self.stratify_by_column, self.group_by_column, not task.keeps_order())
        label = next((name for name, column in task.columns.items() if column.kind == "label"), None)
        warn_of_duplicates(splits["train"], raw, task, self._dropped.before)
        inputs = {name: raw.data_columns.get(name, ()) for name in task.inputs}
        places = partition(splits, numbers, shares, self.max_samples, inputs, label, options, cv)
        self._places = by_kind(places, raw.number)
        drop_keys(splits, self.stratify_by_column, self.group_by_column)
        if streams and not task.keeps_order():  # after the limit, so that each epoch has the same rows
            splits["train"] = splits["train"].shuffle(seed=self.seed, buffer_size=raw.shuffle_buffer_size)
        log.info("data: %s", ", ".join(f"{split} {format_length(splits[split])}" for split in splits))
        return splits

    def _split(self, raw: RawDataset, needed: Collection[str]) -> RawDataset:
        """Return the rows in the splits that a column names; raise ConfigError if the config ignores such a column."""
        if isinstance(self.split_column, str):
            return split_rows(raw, self.split_column, self.split_values)
        if self.split_column is None:
            check_unsplit(raw, needed)
        return raw

    def read_one(self, wanted: Mapping[str, Column]) -> tuple[str, RawDataset]:
        """Read one split with all columns of the data: test, else validation, else train.

        Bad rows are included, and no rows are held out or drawn. `under_task_names` returns the task's columns.

        Returns:
            The split's name, and its rows.

        Raises:
            ConfigError: If a column of `wanted` is missing.
        """
        raw = self.read_columns(self._needed(wanted), rest=True, kinds=self._kinds(wanted))
        if self.split_column in raw.names("train"):  # other data may lack it
            raw = self._split(raw, ())
        sets = next(sets for kind in reversed(SPLITS) if (sets := sets_of(raw.splits, kind)))
        split = next(iter(sets.values()))
        if len(sets) > 1:
            text = f"{KEY} names {len(sets)} sets, but only one can be read"
            problem = Problem(f"{self.sets_option}.{kind_of(split)}", text, f"set {KEY} to one of them")
            raise ConfigError(problem.under("dataset"))
        rows = raw.splits[split]
        if missing := [*self._missing(wanted, raw.names(split), f"the {split} split", [*nested(rows.features)])]:
            raise ConfigError(*(problem.under("dataset") for problem in missing))
        bad = [bad_row for bad_row in raw.bad if bad_row.split == split]
        splits = type(raw.splits)({split: rows})
        return split, replace(raw, splits=splits, bad=bad, data_columns=self._data_names(wanted))

    def under_task_names(
        self, splits: DatasetDict, wanted: Mapping[str, Column], extra: Mapping[str, Sequence[str]] | None = None
    ) -> DatasetDict:
        """Return the rows with the columns of the task, and the columns of `extra` (split -> names) prefixed by `_`.

        If the task reads a text and the data has a list of texts, e.g. sentences, they are joined with spaces.
        If the task reads a list and the data has a text, `list_separator` splits it. Of columns that are references of
        one source, those that are blank in a row do not count, since rows may have fewer references than others.
        """
        names = {name: self._theirs(name) for name in wanted}
        renamed = type(splits)(
            {split: select_columns(rows, names, (extra or {}).get(split, ())) for split, rows in splits.items()}
        )
        several = [name for name, spec in wanted.items() if spec.kind == "references" and isinstance(names[name], list)]
        renamed = type(splits)({split: drop_blanks(rows, several) for split, rows in renamed.items()})
        texts = [name for name, column in wanted.items() if column.kind == "text"]
        lists = {name for name in texts for rows in renamed.values() if holds_lists_of_texts(rows, name)}
        if lists:
            log.info("data: the texts of each list in %s are joined with spaces", ", ".join(sorted(lists)))
            renamed = type(splits)({split: join_texts(rows, lists) for split, rows in renamed.items()})
        if self.list_separator:
            kinds = {name: column.kind for name, column in wanted.items() if column.kind in LISTS}
            renamed = split_cells(renamed, kinds, self.list_separator)
        labels = [name for name, column in wanted.items() if column.kind == "label"]
        return with_whole_labels(renamed, labels)
