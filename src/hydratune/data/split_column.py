"""A column of one file or split that names the split of each row, such as `partition` in MASSIVE."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydratune.data.columns import column_hint, listing, preview
from hydratune.data.raw import RawDataset
from hydratune.data.streaming import HEAD, is_stream
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, invalid_value, nearest, one_of, setting

log = logging.getLogger(__name__)

# Split -> its usual names, in any case.
USUAL = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "develop", "development"),
    "test": ("test", "testing"),
}
_SPLIT = {name: split for split, names in USUAL.items() for name in names}
# Other values of a column that names splits. Their rows are in no split.
_NO_SPLIT = ("", "none", "unassigned", "unused", "unlabeled", "unlabelled", "unsup", "unsupervised", "extra", "oos")
_KNOWN = frozenset((*_SPLIT, *_NO_SPLIT))
_BATCH = 1000  # rows of a stream that are filtered together
SplitValues = Mapping[str, "str | list[str] | None"]


def split_of(value: Any) -> str | None:
    """Return the split that a value usually names; None for other values."""
    return _SPLIT.get(value.strip().casefold()) if isinstance(value, str) else None


def may_be_split(value: Any) -> bool:
    """Return whether a value may occur in a column that names splits."""
    return value is None or (isinstance(value, str) and value.strip().casefold() in _KNOWN)


def are_splits(values: Collection[Any]) -> bool:
    """Return whether values name train and another split."""
    splits = {split_of(value) for value in values} - {None}
    return "train" in splits and len(splits) > 1


def candidates(columns: Mapping[str, Iterable[Any]]) -> dict[str, set[str]]:
    """Return the distinct values of each column whose values may all name splits."""
    distinct: dict[str, set[str]] = {}
    for name, values in columns.items():
        seen: set[str] = set()
        for value in values:
            if not may_be_split(value):
                break
            seen.add(value or "")
        else:
            distinct[name] = seen
    return distinct


def joined(files: Sequence[Mapping[str, Collection[str]]]) -> dict[str, set[str]]:
    """Return the combined `candidates` of several files, for columns that are candidates in each of them."""
    names = [name for name in files[0] if all(name in file for file in files)] if files else []
    return {name: {value for file in files for value in file[name]} for name in names}


def unknown_split(option: str, name: str) -> Problem:
    """Return the error for an unknown split.

    Args:
        option: Name of an option that is a mapping of splits, e.g. `files`.
        name: Unknown key of the mapping.
    """
    close = split_of(name) or nearest(name, USUAL)
    hint = f"a similar key exists: {NODE}{option}.{close}" if close else f"use {one_of(USUAL)}"
    return Problem(f"{option}.{name}", f"unknown split {name!r} in {NODE}{option}", hint)


def check_values(values: SplitValues | None) -> Iterator[Problem]:
    """Yield an error for each invalid part of `dataset.split_values`."""
    if values is None:
        return
    names_by_split = {split: _listed(value) for split, value in values.items()}
    for split in (key for key in names_by_split if key not in USUAL):
        yield unknown_split("split_values", split)
    name_counts = Counter(name for split_names in names_by_split.values() for name in split_names)
    if repeated := [name for name, count in name_counts.items() if count > 1]:
        yield Problem("split_values", f"{KEY} lists {listing(repeated)} twice", "list each value once")
    if not names_by_split.get("train"):
        usual_hint = f"set {NODE}split_values=null if the column has usual names such as train, dev, and test"
        hint = f"set {KEY} to the value that marks training rows\n{usual_hint}"
        yield Problem("split_values.train", f"{KEY} is required", hint)


def check_unsplit(raw: RawDataset, needed: Collection[str]) -> None:
    """Raise ConfigError if a column of the training rows seems to name their splits.

    Args:
        raw: Rows as they were read.
        needed: Columns that the task reads; these may hold such values.
    """
    rows = raw.splits["train"]
    columns = raw.split_names or ({} if is_stream(rows) else candidates(_texts(rows)))
    for name, values in columns.items():
        if name not in needed and are_splits(values):
            text = f"the column {name!r} of the training rows names several splits: {listing(sorted(values))}"
            hint = f"set {setting(KEY, name)} to split the rows by it\nset {KEY}=false to train on all rows"
            raise ConfigError(Problem("split_column", text, hint).under("dataset"))


def _texts(rows: Any) -> dict[str, Iterable[Any]]:
    """Return the text columns of a dataset, by name."""
    texts = [
        name for name, feature in rows.features.items() if getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    return {name: rows[name] for name in texts}


# --- split the rows --------------------------------------------------------------------------------------


@dataclass
class _Parts:
    """Positions of the rows of each split, and counts of the values that name splits.

    Attributes:
        column: Name of the column that names splits.
        by_value: Value -> split; None for the usual names.
        numbers: Split -> the positions of its rows before the split.
        values: Value -> its number of rows.
        first: Value -> the position of its first row.
    """

    column: str
    by_value: dict[str, str] | None
    numbers: dict[str, list[int]] = field(default_factory=lambda: {split: [] for split in USUAL})
    values: Counter[Any] = field(default_factory=Counter)
    first: dict[Any, int] = field(default_factory=dict)

    def split(self, value: Any) -> str | None:
        """Return the split of a value; None for a value of no split."""
        if self.by_value is None:
            return split_of(value)
        return self.by_value.get(str(value).strip()) if value is not None else None

    def add(self, number: int, value: Any, most_train: float) -> str | None:
        """Count a row, and return its split."""
        self.values[value] += 1
        self.first.setdefault(value, number)
        split = self.split(value)
        if split and (split != "train" or len(self.numbers[split]) < most_train):
            self.numbers[split].append(number)
        return split


def split_rows(raw: RawDataset, column: str, values: SplitValues | None) -> RawDataset:
    """Split the rows by the values of a column.

    Args:
        raw: Rows, all of them in train.
        column: Column of the data that names the split of each row.
        values: Split -> its values; rows with other values are left out. None for the usual names of splits; other
            values are then an error.

    Raises:
        ConfigError: If there are other splits, the column is missing, a value is invalid, or no row is in train.
    """
    from datasets import DatasetDict

    if other_splits := [split for split in raw.splits if split != "train"]:
        text = f"{KEY} splits the training rows, but the data has a {other_splits[0]} split"
        raise ConfigError(
            Problem("split_column", text, f"set {KEY}=false to use the splits of the data").under("dataset")
        )
    rows = raw.splits["train"]
    if column not in (rows.column_names or rows.features):
        hint = column_hint(KEY, column, raw.names("train"))
        requirement = "a column of the training rows"
        raise ConfigError(invalid_value("split_column", requirement, repr(column), hint).under("dataset"))
    by_value = None
    if values is not None:
        by_value = {name: split for split, value in values.items() for name in _listed(value)}
    parts = _Parts(column, by_value)
    splits = _streamed(rows, parts) if is_stream(rows) else _selected(rows, parts)
    _check_parts(parts, raw, values, splits)
    return replace(
        raw,
        splits=DatasetDict(splits),
        locate=lambda split, row: _place(parts, raw, split, row),
        number=lambda split, row: raw.number("train", parts.numbers[split][row]),
        columns=dict.fromkeys(splits, raw.names("train")),
    )


def _selected(rows: Any, parts: _Parts) -> dict[str, Any]:
    for number, value in enumerate(_named(rows.features[parts.column], rows[parts.column])):
        parts.add(number, value, float("inf"))
    return {split: rows.select(numbers) for split, numbers in parts.numbers.items() if numbers}


def _streamed(rows: Any, parts: _Parts) -> dict[str, Any]:
    """Return train as a stream, and the other splits in memory, after one pass over the rows."""
    from datasets import Dataset

    feature = rows.features[parts.column]
    records_by_split: dict[str, list[Any]] = {split: [] for split in USUAL if split != "train"}
    for number, row in enumerate(rows):
        (value,) = _named(feature, [row[parts.column]])
        split = parts.add(number, value, HEAD)
        if split in records_by_split:
            records_by_split[split].append(row)
    splits = {
        split: Dataset.from_list(records, features=rows.features)
        for split, records in records_by_split.items()
        if records
    }

    def trains(batch: Mapping[str, Sequence[Any]]) -> list[bool]:
        return [parts.split(value) == "train" for value in _named(feature, batch[parts.column])]

    if parts.numbers["train"]:
        splits["train"] = rows.filter(trains, batched=True, batch_size=_BATCH)
        rule = repr((rows.info.description, parts.column, parts.by_value))
        splits["train"].info.description = hashlib.sha256(rule.encode()).hexdigest()
    return splits


def _named(feature: Any, values: Iterable[Any]) -> Iterable[Any]:
    """Return the values, or their names if they are ids of a `ClassLabel`."""
    names = getattr(feature, "names", None)
    return values if names is None else [names[value] if value in range(len(names)) else None for value in values]


def _listed(names: str | list[str] | None) -> list[str]:
    return [str(names)] if isinstance(names, str | int) else [str(name) for name in names or ()]


def _check_parts(parts: _Parts, raw: RawDataset, values: SplitValues | None, splits: Mapping[str, Any]) -> None:
    """Raise ConfigError for invalid values or if no row is in train; log the number of rows in no split."""
    present = sorted({str(value).strip() for value in parts.values if value is not None})
    for split, names in (values or {}).items():
        if missing := [name for name in _listed(names) if name not in present]:
            text = f"the column {parts.column!r} has no value {listing(missing)}, which {KEY} lists"
            close = nearest(missing[0], present)
            hint = f"a similar value exists: {close!r}" if close else f"use {one_of(present)}"
            raise ConfigError(Problem(f"split_values.{split}", text, hint).under("dataset"))
    unknown = {value: count for value, count in parts.values.items() if parts.split(value) is None}
    if unknown and values is None:
        value, count = next(iter(unknown.items()))
        place = raw.locate("train", parts.first[value])
        text = f"{preview(value)} in the column {parts.column!r} does not name a split ({count:,} rows)"
        example = f"'{KEY}={{train: train, validation: dev, test: [test, other]}}'"
        hint = f"list the values of each split, e.g. {example}\nthe column has the values {listing(present)}"
        raise ConfigError(Problem("split_values", text, hint, source=place).under("dataset"))
    if "train" not in splits:
        text = f"no value of the column {parts.column!r} names the training rows"
        hint = f"set {NODE}split_values.train to {one_of(present)}"
        raise ConfigError(Problem("split_column", text, hint).under("dataset"))
    for value, count in unknown.items():
        log.warning(
            "data: %s rows with %s %s are in no split of dataset.split_values",
            f"{count:,}",
            parts.column,
            preview(value),
        )


def _place(parts: _Parts, raw: RawDataset, split: str, row: int) -> str:
    numbers = parts.numbers.get(split, [])
    return raw.locate("train", numbers[row]) if row < len(numbers) else f"row {row + 1} of {split}"
