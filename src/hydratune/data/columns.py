"""Rows that cannot be trained on: what makes them bad, and how a user hears of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from hydratune.utils.errors import Mistake, did_you_mean, one_of, setting

if TYPE_CHECKING:
    from datasets import Dataset

ONE_COLUMN = ("text", "label", "number")  # kinds that several columns cannot make up together
LISTS = ("texts", "labels")  # kinds of columns that hold lists
SHOWN = 10  # bad rows that a message shows; all are counted
MISSING = ("n/a", "#n/a", "na", "nan", "null", "none", "?")  # usual marks of a missing value
BRACKETS = "brackets"  # instead of a separator: cells are lists as JSON or Python writes them
_SEPARATORS = (";", "|", ",", "/", " ")  # between elements of lists in cells, the likeliest first
_LOOKED_AT = 1000  # cells in which a message looks for a separator
_TEXT = ("string", "large_string")
_VALUE_LENGTH = 60
_THOUSANDS = re.compile(r"-?[0-9]{1,3},[0-9]{3}")
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")


class Column(NamedTuple):
    """What a task reads from one column of the data.

    Args:
        kind: A key of `KINDS`.
        required: Whether the data must have it.
        target: Whether it holds what is to be predicted, which rows to predict for need not have.
    """

    kind: str
    required: bool = True
    target: bool = False


@dataclass(frozen=True)
class BadRow:
    """A row that a task cannot use.

    Args:
        split: Where it is.
        row: Its number in the split as read, from 0; None where it never became a row.
        column: The task's name of the column that is wrong; empty for the row as a whole.
        expected: What would have been right.
        got: What there is.
        fix: What to do about it.
        where: File and line, where they are known.
        unseen_label: Whether the only fault is a label that the model will not have.
    """

    split: str
    row: int | None
    column: str
    expected: str
    got: str
    fix: str
    where: str = ""
    unseen_label: bool = False

    def mistake(self) -> Mistake:
        """The row as a message."""
        where = self.where or f"row {(self.row or 0) + 1} of {self.split}"
        key = f"dataset.columns.{self.column}" if self.column else "dataset"
        return Mistake(key, self.expected, f"{self.got} at {where}", self.fix)


def located(bad: Iterable[BadRow], locate: Callable[[str, int], str]) -> list[BadRow]:
    """The same rows with file and line."""
    return [replace(one, where=one.where or locate(one.split, one.row or 0)) for one in bad]


def mistakes(bad: Sequence[BadRow], sizes: Mapping[str, int]) -> list[Mistake]:
    """The first ten bad rows, each with its place, and the count of all."""
    rows = {(one.split, one.row, one.where if one.row is None else "") for one in bad}  # one may have several errors
    counts = Counter(split for split, _, _ in rows)
    per_split = ", ".join(f"{counts[split]:,} of {sizes[split]:,} in {split}" for split in sizes if counts[split])
    more = f"; the first {SHOWN} are shown" if len(bad) > SHOWN else ""
    fix = "Mend them, or leave them out with dataset.on_bad_row=drop."
    total = Mistake("dataset", "rows that can be trained on", f"{len(rows):,} that cannot: {per_split}{more}", fix)
    return [*(one.mistake() for one in bad[:SHOWN]), total]


def preview(value: Any) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 3]}..."


def column_name(typed: Any) -> Any:
    """The name of a column as text: 0 is `0`, true is `true`; anything but a number or a boolean as it is."""
    if isinstance(typed, bool):
        return str(typed).lower()
    return str(typed) if isinstance(typed, int | float) else typed


def unknown_columns(columns: Iterable[str], wanted: Iterable[str]) -> Iterator[Mistake]:
    """Yield an error for each key of `dataset.columns` that is not a column of the task."""
    wanted = [*wanted]
    for name in columns:
        if name not in wanted:
            fix = did_you_mean(name, wanted, "Leave it out.")
            yield Mistake(f"columns.{name}", one_of(wanted), repr(name), fix)


# --- kinds of columns ------------------------------------------------------------------------------------


def wrong_type(kind: str, split: str, name: str, rows: Dataset) -> Mistake | None:
    """A mistake where a whole column is of a type that `kind` cannot be."""
    known = KINDS[kind]
    feature = rows.features[name]
    if known.fits(feature):
        return None
    key, dtype = f"dataset.columns.{name}", getattr(feature, "dtype", str(feature))
    dtype = dtype if len(dtype) <= _VALUE_LENGTH else f"{dtype[:_VALUE_LENGTH]}..."
    got, fix = f"values of type {dtype}", f"Name a column of {known.said} in {key}."
    if kind == "label" and _is_number(feature):
        fix += " Numbers with a fraction are for task=regression."
    if kind in LISTS and (_is_text(feature) or (kind == "labels" and _is_label(feature))):
        got += f" such as {preview(value)}" if (value := next((one for one in rows[name] if one), None)) else ""
        fix = f"Name a column of {known.said} in {key}, with one row for each list."
        if separator := _separator(kind, rows[name]):
            typed = setting("dataset.list_separator", separator)
            fix = f"Set {typed} for lists in one cell, or name a column of {known.said} in {key}."
    if kind == "number" and _is_text(feature) and (value := next((one for one in rows[name] if one), None)):
        got += f" such as {preview(value)}"
        if _DECIMAL_COMMA.fullmatch(value):
            fix = "Set dataset.decimal=, for numbers with a decimal comma."
            fix += " Remove commas that separate thousands." if _THOUSANDS.fullmatch(value) else ""
    return Mistake(key, f"{known.said} in {split}", got, fix)


def _separator(kind: str, cells: Iterable[Any]) -> str | None:
    """The separator that lists in cells seem to have.

    Where none is seen, cells have one label each, which may be lists with commas, or they have no lists of texts.
    """
    texts = [str(cell).strip() for cell, _ in zip(cells, range(_LOOKED_AT), strict=False) if cell not in (None, "")]
    if any(text.startswith("[") and text.endswith("]") for text in texts):
        return BRACKETS
    has = any if kind == "labels" else all  # a row may have one label, but rarely one token
    return next((one for one in _SEPARATORS if has(one in text for text in texts)), "," if kind == "labels" else None)


def bad_values(kind: str, split: str, name: str, rows: Dataset) -> Iterator[BadRow]:
    """A bad row for each value of a column that `kind` cannot be."""
    import pyarrow as pa

    known = KINDS[kind]
    column = rows.select_columns(name).with_format("arrow")[:][name]
    suspects = known.suspects(column) if known.suspects else pa.compute.is_null(column)
    for row in pa.compute.indices_nonzero(suspects).to_pylist():
        value = column[row].as_py()
        got = "no value" if value is None else preview(value)
        yield BadRow(split, row, name, f"{known.one} in every row", got, "Fill it in or drop the row.")


class ColumnKind(NamedTuple):
    """A kind of column: what it is called, which features it may have, and which of its values are suspect.

    Args:
        said: Plural, for messages.
        one: Singular, for messages.
        fits: Whether a feature of `datasets` can hold it.
        suspects: Arrow column -> boolean column of values that cannot be used; None for nulls alone.
    """

    said: str
    one: str
    fits: Callable[[Any], bool]
    suspects: Callable[[Any], Any] | None = None


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def _inside(feature: Any) -> Any:
    """What a list holds; None for other features."""
    return getattr(feature, "feature", None)


def _is_text(feature: Any) -> bool:
    return _dtype(feature) in _TEXT


def _is_label(feature: Any) -> bool:
    return hasattr(feature, "names") or _is_text(feature) or _dtype(feature).startswith(("int", "uint", "bool"))


def _is_number(feature: Any) -> bool:
    return not hasattr(feature, "names") and _dtype(feature).startswith(("int", "uint", "float", "double"))


def _is_element(feature: Any) -> bool:
    """Whether a feature is that of labels or of indicators, and not of lists or objects."""
    return _is_label(feature) or _is_number(feature) or _dtype(feature) == "null"


def _no_label(column: Any) -> Any:
    """Nulls, and texts of nothing, such as a csv file has for a label that is missing."""
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
    """Blank texts; lists that are empty, or have a blank text or null in them."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _blank(column)
    return pa.array([not texts or any(not (text or "").strip() for text in texts) for texts in column.to_pylist()])


def _has_null(column: Any) -> Any:
    """Lists that are null or have a null in them."""
    import pyarrow as pa

    if not pa.compute.list_flatten(column).null_count:  # nearly always
        return pa.compute.is_null(column)
    return pa.array([value is None or None in value for value in column.to_pylist()])


def _not_finite(column: Any) -> Any:
    import pyarrow as pa

    return pa.array([value is None or not math.isfinite(value) for value in column.to_pylist()])


def _none_suspect(column: Any) -> Any:
    import pyarrow as pa

    return pa.array([False] * len(column))


KINDS: dict[str, ColumnKind] = {
    "text": ColumnKind("texts", "a text", _is_text, _blank),
    "texts": ColumnKind("lists of texts", "a list of texts", lambda f: _is_text(_inside(f)), _empty),
    "references": ColumnKind(
        "texts, or lists of texts",
        "a text, or a list of texts,",
        lambda f: _is_text(f) or _is_text(_inside(f)),
        _no_references,
    ),
    "label": ColumnKind("strings, whole numbers or truth values", "a label", _is_label, _no_label),
    "labels": ColumnKind("lists of labels", "a list of labels", lambda f: _is_element(_inside(f)), _has_null),
    "number": ColumnKind("numbers", "a finite number", _is_number, _not_finite),
    "any": ColumnKind("values", "a value", lambda _: True),
    "optional": ColumnKind("values", "a value", lambda _: True, _none_suspect),
}
