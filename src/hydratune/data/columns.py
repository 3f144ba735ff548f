"""Kinds of columns, the rules that make a row invalid, and the errors that report invalid rows."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from hydratune.utils.errors import KEY, NODE, Problem, nearest, setting, similar

if TYPE_CHECKING:
    from datasets import Dataset

ONE_COLUMN = ("text", "label", "number")  # kinds that cannot be combined from several columns
LISTS = ("texts", "labels")  # kinds of columns that hold lists
SHOWN = 10  # number of bad rows that a message shows; all are counted
MISSING = ("n/a", "#n/a", "na", "nan", "null", "none", "?")  # common markers of a missing value
COLUMN = "\ue001"  # stands for the name of the column in the text of a bad row
ROW_WEIGHT = "weight"  # column of the weights of rows in the loss
BRACKETS = "brackets"  # replaces a separator if cells are lists as JSON or Python writes them
_SEPARATORS = (";", "|", ",", "/", " ")  # between elements of lists in cells, most likely first
_LOOKED_AT = 1000  # number of cells that are searched for a separator
_TEXT = ("string", "large_string")
_VALUE_LENGTH = 60
_LISTED = 20  # values in a message, e.g. columns
_THOUSANDS = re.compile(r"-?[0-9]{1,3},[0-9]{3}")
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")


class Column(NamedTuple):
    """Requirements of a task for one column of the data.

    Args:
        kind: A key of `KINDS`.
        required: Whether the data must have the column.
        target: Whether the column holds the target, which unlabeled rows for inference may lack.
    """

    kind: str
    required: bool = True
    target: bool = False


@dataclass(frozen=True)
class BadRow:
    """A row that a task cannot use.

    Args:
        split: Split that the row is in.
        row: Number of the row in the split as read, from 0; None for a line that is not a row.
        column: The task's name of the invalid column; empty for the row as a whole.
        text: What is wrong, with `COLUMN` for the name of the column, and the shortened `repr` of the invalid value.
        hint: How to fix it; empty if the text says enough.
        value: The shortened `repr` of the invalid value alone; empty if the row is invalid as a whole.
        where: File and line; empty if unknown.
        unseen_label: Whether the only error is a label that the model will not have.
    """

    split: str
    row: int | None
    column: str
    text: str
    hint: str = ""
    value: str = ""
    where: str = ""
    unseen_label: bool = False

    @property
    def position(self) -> tuple[str, int]:
        """File and line, or else the row number: the order in which a reader of the data meets the rows."""
        path, _, line = self.where.rpartition(":")
        return (path, int(line)) if line.isdecimal() else (self.where, self.row or 0)

    @property
    def reason(self) -> str:
        """What is wrong, with the task's name of the column if `located` did not insert the data's name."""
        return self.text.replace(COLUMN, repr(self.column))

    @property
    def place(self) -> str:
        """File and line, or the number of the row in its split if these are unknown."""
        return self.where or f"row {(self.row or 0) + 1} of {self.split}"

    def problem(self) -> Problem:
        """Return the row as an error."""
        key = f"dataset.columns.{self.column}" if self.column else "dataset"
        return Problem(key, self.reason, self.hint, source=self.place)

    def located(self, where: str, data_columns: Sequence[str] = ()) -> BadRow:
        """Return the row with its place, and with the data's names of the column in its text.

        Args:
            where: File and line.
            data_columns: Columns of the data that the column was read from; empty to keep the task's name.
        """
        names = ", ".join(map(repr, data_columns)) or repr(self.column)
        return replace(self, where=self.where or where, text=self.text.replace(COLUMN, names))


def problems(bad: Sequence[BadRow], sizes: Mapping[str, int]) -> list[Problem]:
    """Return errors for the first ten bad rows, each with its place, and one error with the count of all."""
    # A row may have several errors.
    rows = {(bad_row.split, bad_row.row, bad_row.where if bad_row.row is None else "") for bad_row in bad}
    counts = Counter(split for split, _, _ in rows)
    per_split = ", ".join(f"{counts[split]:,} of {sizes[split]:,} in {split}" for split in sizes if counts[split])
    more = f"; the first {SHOWN} are shown" if len(bad) > SHOWN else ""
    hint = f"fix them, or skip them with {KEY}.on_bad_rows=skip"
    shown = first_problems(bad)
    summary = Problem("dataset", f"invalid rows: {per_split}{more}", hint, count=max(len(bad) - SHOWN, 0))
    return [*shown, summary]


def first_problems(bad: Sequence[BadRow]) -> list[Problem]:
    """Return errors for the first ten bad rows, in the order of the files; a shared hint is given once."""
    splits = [*dict.fromkeys(bad_row.split for bad_row in bad)]
    ordered = sorted(bad, key=lambda bad_row: (splits.index(bad_row.split), *bad_row.position))
    shown = [*dict.fromkeys(bad_row.problem() for bad_row in ordered[:SHOWN])]
    hints = [problem.hint for problem in shown]
    return [replace(problem, hint="" if problem.hint in hints[:i] else problem.hint) for i, problem in enumerate(shown)]


def preview(value: Any) -> str:
    """Return the `repr` of a value, shortened to 60 characters for a message."""
    text = repr(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 3]}..."


def column_hint(key: str, name: str, present: Sequence[str]) -> str:
    """Return the hint for a column that the data does not have.

    Args:
        key: Key of the config that names the column; empty if the key has a list of names.
        name: Name of the missing column.
        present: Names of the columns of the data.
    """
    if key and name in ("true", "false") and (same := [option for option in present if option.casefold() == name]):
        return f"quote the name: \"{key}='{same[0]}'\""
    if close := nearest(name, present):
        return f"a similar column exists: {setting(key, close) if key else repr(close)}"
    if not present:
        return ""
    return (f"set {key}=COLUMN\n" if key else "") + f"available columns: {listing(present)}"


def listing(values: Sequence[Any]) -> str:
    """Return the `repr` of up to 20 values, separated by commas, and the number of values if there are more."""
    more = f", ... ({len(values)} in total)" if len(values) > _LISTED else ""
    return ", ".join(map(repr, values[:_LISTED])) + more


def column_name(typed: Any) -> Any:
    """Return the name of a column as text: `0` for 0, `true` for true.

    Other values than numbers and booleans are returned unchanged.
    """
    if isinstance(typed, bool):
        return str(typed).lower()
    return str(typed) if isinstance(typed, int | float) else typed


def unknown_columns(columns: Mapping[str, Any], wanted: Iterable[str]) -> Iterator[Problem]:
    """Yield an error for each key of `dataset.columns` that is not a column of the task."""
    wanted = [*wanted]
    for name, value in columns.items():
        if name not in wanted:
            reversed_hint = f"the task's name comes first: set {NODE}columns.{value}={name}" if value in wanted else ""
            hint = reversed_hint or similar("column", name, wanted)
            yield Problem(f"columns.{name}", f"{KEY} is not a column of the task", hint)


# --- kinds of columns ------------------------------------------------------------------------------------


def wrong_type(kind: str, split: str, name: str, rows: Dataset) -> Problem | None:
    """Return an error if the type of a whole column is invalid for `kind`, else None."""
    column_kind = KINDS[kind]
    feature = rows.features[name]
    if column_kind.fits(feature):
        return None
    key, dtype = f"dataset.columns.{name}", getattr(feature, "dtype", str(feature))
    dtype = dtype if len(dtype) <= _VALUE_LENGTH else f"{dtype[:_VALUE_LENGTH]}..."
    example, hint = "", ""
    if kind == "label" and _is_number(feature):
        hint = "set task=regression for numbers with a fraction"
    if kind in LISTS and (_is_text(feature) or (kind == "labels" and _is_label(feature))):
        example = f" such as {preview(value)}" if (value := next((cell for cell in rows[name] if cell), None)) else ""
        hint = "store one list per row"
        if separator := _separator(kind, rows[name]):
            hint = f"set {setting(f'{NODE}dataset.list_separator', separator)} for lists in one cell"
    if kind == "number" and _is_text(feature) and (value := next((cell for cell in rows[name] if cell), None)):
        example = f" such as {preview(value)}"
        if _DECIMAL_COMMA.fullmatch(value):
            hint = f"set {NODE}dataset.decimal=, for numbers with a decimal comma"
            hint += "\nremove commas that separate thousands" if _THOUSANDS.fullmatch(value) else ""
        elif not any(character.isdigit() for character in value):
            hint = "for labels that are words, set task=sequence_classification"
    text = f"{KEY} must name a column of {column_kind.plural}; in {split}, it has {dtype} values{example}"
    return Problem(key, text, hint)


def _separator(kind: str, cells: Iterable[Any]) -> str | None:
    """Guess the separator of lists in cells.

    If no separator occurs, return a comma for labels, since each cell may be a list of one label. Return None for
    texts.
    """
    texts = [str(cell).strip() for cell, _ in zip(cells, range(_LOOKED_AT), strict=False) if cell not in (None, "")]
    if any(text.startswith("[") and text.endswith("]") for text in texts):
        return BRACKETS
    has = any if kind == "labels" else all  # a row may have one label, but rarely one token
    return next(
        (separator for separator in _SEPARATORS if has(separator in text for text in texts)),
        "," if kind == "labels" else None,
    )


def bad_values(kind: str, split: str, name: str, rows: Dataset) -> Iterator[BadRow]:
    """Yield a bad row for each value of a column that is invalid for `kind`."""
    import pyarrow as pa

    column_kind = KINDS[kind]
    column = rows.select_columns(name).with_format("arrow")[:][name]
    suspects = column_kind.suspects(column) if column_kind.suspects else pa.compute.is_null(column)
    for row in pa.compute.indices_nonzero(suspects).to_pylist():
        value = column[row].as_py()
        yield BadRow(split, row, name, _why_bad(kind, value), value=preview(value))


def _why_bad(kind: str, value: Any) -> str:
    """Return what is wrong with an invalid value of a column, with `COLUMN` for its name."""
    if value is None:
        return f"missing {COLUMN}"
    if kind == "number":
        return f"{COLUMN} is not a finite number: {value!r}"
    if value in ("", []):
        return f"empty {COLUMN}"
    if isinstance(value, str):
        return f"blank {COLUMN}: {preview(value)}"
    return f"{COLUMN} has {'a missing' if None in value else 'an empty'} element: {preview(value)}"


class ColumnKind(NamedTuple):
    """A kind of column: its name in messages, its valid features, and its invalid values.

    Args:
        plural: Plural name, for messages.
        fits: Function that returns whether a feature of `datasets` can hold this kind.
        suspects: Arrow column -> boolean column of invalid values; None if only nulls are invalid.
    """

    plural: str
    fits: Callable[[Any], bool]
    suspects: Callable[[Any], Any] | None = None


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def _inside(feature: Any) -> Any:
    """Return the feature of a list's elements; None for other features."""
    return getattr(feature, "feature", None)


def _is_text(feature: Any) -> bool:
    return _dtype(feature) in _TEXT


def _is_label(feature: Any) -> bool:
    return hasattr(feature, "names") or _is_text(feature) or _dtype(feature).startswith(("int", "uint", "bool"))


def _is_number(feature: Any) -> bool:
    return not hasattr(feature, "names") and _dtype(feature).startswith(("int", "uint", "float", "double"))


def _is_element(feature: Any) -> bool:
    """Return whether a feature holds labels or indicators, and not lists or objects."""
    return _is_label(feature) or _is_number(feature) or _dtype(feature) == "null"


def _no_label(column: Any) -> Any:
    """Return which values are null or blank texts; a CSV file has the latter for a missing label."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _blank(column)
    return pa.compute.is_null(column)


def _blank(column: Any) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)


def _empty(column: Any) -> Any:
    import pyarrow.compute as pc

    return pc.or_(pc.fill_null(pc.equal(pc.list_value_length(column), 0), True), _has_null(column))


def _no_references(column: Any) -> Any:
    """Return which values are blank texts, empty lists, or lists with a blank text or a null."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _blank(column)
    return pa.array([not texts or any(not (text or "").strip() for text in texts) for texts in column.to_pylist()])


def _has_null(column: Any) -> Any:
    """Return which lists are null or contain a null."""
    import pyarrow as pa

    if not pa.compute.list_flatten(column).null_count:  # the fast path, which nearly all columns take
        return pa.compute.is_null(column)
    return pa.array([value is None or None in value for value in column.to_pylist()])


def _not_finite(column: Any) -> Any:
    import pyarrow as pa

    return pa.array([value is None or not math.isfinite(value) for value in column.to_pylist()])


def _none_suspect(column: Any) -> Any:
    import pyarrow as pa

    return pa.array([False] * len(column))


KINDS: dict[str, ColumnKind] = {
    "text": ColumnKind("texts", _is_text, _blank),
    "texts": ColumnKind("lists of texts", lambda f: _is_text(_inside(f)), _empty),
    "references": ColumnKind("texts or lists of texts", lambda f: _is_text(f) or _is_text(_inside(f)), _no_references),
    "label": ColumnKind("texts, integers, or booleans", _is_label, _no_label),
    "labels": ColumnKind("lists of labels", lambda f: _is_element(_inside(f)), _has_null),
    "number": ColumnKind("numbers", _is_number, _not_finite),
    "any": ColumnKind("values", lambda _: True),
    "optional": ColumnKind("values", lambda _: True, _none_suspect),
}
