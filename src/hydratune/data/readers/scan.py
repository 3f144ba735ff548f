"""Scan of a file, record by record, for line numbers, bad lines, and the types of the columns."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hydratune.data.columns import MISSING, preview
from hydratune.data.readers.bad_lines import BadLine
from hydratune.data.readers.column_types import Type, Typing, has_long, is_whole, kind, kind_of_value, number_cell
from hydratune.data.split_column import may_be_split
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, invalid_value


class Record(NamedTuple):
    """A row of a file.

    Args:
        line: First line of the row; 0 if the format has no lines.
        values: Column -> value; for CSV, the text of the cell.
        has_digits: Whether the row may contain a whole number of more than 64 bits.
    """

    line: int
    values: Mapping[str, Any]
    has_digits: bool = False


@dataclass(frozen=True)
class ReadOptions:
    """Options for parsing text files; each format uses the options that apply to it.

    Args:
        encoding: Name of a Python codec.
        delimiter: Separator of cells; None for a comma in CSV, or to infer it in CoNLL files.
        header: Whether the first row names the columns.
        column_names: Names of the columns, in order, of files without a header.
        comment: Prefix of lines to skip; None for the rule of the format, empty for no comments.
        quoting: Whether quotes enclose cells; false if they are text, None to infer it from the file.
        escapechar: Character before a character that is part of the cell; None for no such character.
        skip_initial_space: Whether to remove spaces after a delimiter from the cell.
        max_splits: Maximum number of delimiters per line; later ones are part of the last cell, and quotes are text.
        ignore_extra_cells: Whether to ignore the cells of a row after the last column; otherwise they are an error.
        selected: Names and positions of columns that the config refers to.
        splits: Names of the splits to read, in a JSON document that holds several; empty for other files.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    header: bool = True
    column_names: tuple[str, ...] | None = None
    comment: str | None = None
    quoting: bool | None = None
    escapechar: str | None = None
    skip_initial_space: bool = False
    max_splits: int | None = None
    ignore_extra_cells: bool = False
    selected: frozenset[str] = frozenset()
    splits: tuple[str, ...] = ()

    def check(self, formats: Collection[str]) -> Iterator[Problem]:
        """Yield an error for each option that is invalid for files of these formats; if empty, they are unknown."""
        is_csv, has_columns = bool({"csv", "tsv"} & {*formats}), bool({"csv", "tsv", "conll", "conllu"} & {*formats})
        if self.delimiter is not None and (not self.delimiter or {*self.delimiter} & {*'"\r\n'}):
            requirement = "characters other than quotes and line breaks"
            yield invalid_value("delimiter", requirement, repr(self.delimiter), f"set '{KEY}=;'")
        if self.max_splits is not None and self.quoting:
            text = f"{KEY}={self.max_splits} treats quotes as text, which contradicts {NODE}quoting=true"
            yield Problem("max_splits", text, "remove one of the two")
        elif self.max_splits is not None and self.max_splits < 1:
            yield invalid_value("max_splits", "an integer of at least 1", self.max_splits)
        if self.escapechar is not None and (len(self.escapechar) != 1 or self.escapechar in '" \t\r\n'):
            requirement = "one character that is neither a quote nor whitespace"
            yield invalid_value("escapechar", requirement, repr(self.escapechar), f"set '{KEY}=\\'")
        names = self.column_names or ()
        if self.header and is_csv and names:
            hint = f"set {NODE}header=false if the first row is data; otherwise remove {KEY}"
            yield Problem("column_names", f"{KEY} ({[*names]}) is only for files without a header", hint)
        doubtful = [name for i, name in enumerate(names) if not name or (name.isdecimal() and name != str(i))]
        if doubtful:
            text = f"{KEY} must not have {doubtful[0]!r} as a name: numbers are the positions of columns"
            yield Problem("column_names", text if doubtful[0] else f"{KEY} has an empty name: {[*names]}")
        elif len({*names}) < len(names):
            yield Problem("column_names", f"{KEY} has duplicate names: {[*names]}")
        unused = {"quoting": self.quoting is not None and not is_csv, "header": not (self.header or has_columns)}
        csv_keys = ("escapechar", "skip_initial_space", "max_splits", "ignore_extra_cells")
        unused |= {key: bool(getattr(self, key)) and not is_csv for key in csv_keys}
        unused |= {key: bool(getattr(self, key)) and not has_columns for key in ("delimiter", "comment")}
        unused["column_names"] = bool(names) and not (has_columns or {"json", "jsonl"} & {*formats})
        for key in (key for key, is_unused in unused.items() if is_unused and formats):
            value = getattr(self, key)
            shown = (
                str(value).lower() if isinstance(value, bool) else repr([*value] if key == "column_names" else value)
            )
            yield Problem(key, f"{KEY}={shown} does not apply to {', '.join(formats)} files", f"remove {KEY}")

    def names(self, width: int, defaults: Sequence[str] = ()) -> list[str]:
        """Return the names of the columns of a file without a header.

        A column's name is its position, counted from 0, if the config selects it by position.

        Args:
            width: Number of columns.
            defaults: Names to use if the config has none; positions if empty.

        Raises:
            ConfigError: If the number of names in the config is not the number of columns.
        """
        if self.column_names and self.ignore_extra_cells:
            width = min(width, len(self.column_names))
        if self.column_names and len(self.column_names) != width:
            text = f"{KEY} has {len(self.column_names)} names for {width} columns: {[*self.column_names]}"
            raise ConfigError(Problem("dataset.column_names", text))
        names = self.column_names or defaults or [str(i) for i in range(width)]
        return [str(i) if str(i) in self.selected else name for i, name in enumerate(names)]


Reader = Callable[[Path, ReadOptions], Iterator[Record | BadLine]]


@dataclass
class FileScan:
    """Summary of one pass over a file.

    Args:
        columns: Names of all columns.
        rows: Number of valid rows.
        lines: First line of each valid row; empty if the format has no lines.
        bad: Lines that are not valid rows.
        skipped: Number of valid rows before each invalid record.
        types: Column that is read -> type that holds all its values.
        numbers: Column that should hold numbers, or of labels -> counts of its values that are numbers, and of others.
        words: Columns of `numbers` with a value that is neither a number nor a common marker of a missing value.
        fractions: Columns of labels with a number that is not whole, or not exact as a float.
        split_names: Column -> its distinct values, for columns whose values may all name splits.
    """

    columns: dict[str, None] = field(default_factory=dict)
    rows: int = 0
    lines: array[int] = field(default_factory=lambda: array("q"))
    bad: list[BadLine] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    types: dict[str, Type] = field(default_factory=dict)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)
    fractions: set[str] = field(default_factory=set)
    split_names: dict[str, set[str]] = field(default_factory=dict)

    def count_number(self, name: str, value: Any, is_number: bool | None) -> None:
        """Count a value of a column in `numbers`; `is_number` is None for a missing value."""
        if is_number is not None:
            self.numbers.setdefault(name, [0, 0])[not is_number] += 1
            if not is_number and str(value).strip().casefold() not in MISSING:
                self.words.add(name)

    def note_splits(self, values: Mapping[str, Any]) -> None:
        """Record the values of columns that may name the split of each row."""
        if not self.rows:
            names = [name for name in (*values, *_dotted(values)) if may_be_split(_first(values, name))]
            self.split_names = {name: set() for name in names}
        for name in [*self.split_names]:
            value = _first(values, name)
            if may_be_split(value):
                self.split_names[name].add(value or "")
            else:
                del self.split_names[name]

    def skip(self, bad: BadLine) -> None:
        """Record an invalid line."""
        self.bad.append(bad)
        if not bad.same_record:
            self.skipped.append(self.rows)

    def number(self, row: int) -> int:
        """Return the position of a row among all records of the file, from 0, including invalid ones."""
        return row + bisect_right(self.skipped, row)


_COMMA = re.compile(r" *[-+]?[0-9]*,[0-9]+([eE][-+]?[0-9]+)? *")


@dataclass(frozen=True)
class Selection:
    """Columns to read, and special rules for their values.

    Args:
        needed: Columns whose values must have one type; a dotted name selects a field of an object. None for all.
        rest: Whether to read the other columns too; columns of mixed types are stored as JSON.
        numbers: Columns that should hold numbers.
        ids: Columns of labels, which may be words or numbers.
        only_numbers: Columns in which other values than numbers make a row invalid.
        decimal: Decimal separator of numbers in CSV.
        texts: Columns of texts. In CSV, their cells are texts even if all of them are numbers. In other formats, they
            may hold lists of texts, such as sentences or references.
        only_lists: Columns of `texts` with both in a split, so that each text becomes a list of one.
    """

    needed: tuple[str, ...] | None = None
    rest: bool = False
    numbers: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    only_numbers: tuple[str, ...] = ()
    decimal: str = "."
    texts: tuple[str, ...] = ()
    only_lists: tuple[str, ...] = ()

    def of(self, values: Mapping[str, Any], typing: Typing) -> Mapping[str, Any]:
        """Return the selected values of a row, with numbers in one spelling, and texts of `only_lists` as lists."""
        selected = self._selected(values)
        overrides: dict[str, Any] = {}
        if not typing.strict:  # cells of CSV, which are all texts
            cells = {name: selected[name] for name in self.numbers if isinstance(selected.get(name), str)}
            overrides = {name: self._number(cell) for name, cell in cells.items()}
        for name in self.only_lists:
            if isinstance(selected.get(name), str):
                overrides[name] = [selected[name]]
        return {**selected, **overrides} if overrides else selected

    def _number(self, cell: str) -> str:
        is_comma = self.decimal == "," and _COMMA.fullmatch(cell)
        return number_cell(cell.replace(",", ".") if is_comma else cell)

    def _selected(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.needed is None:
            return values
        selected = dict(values) if self.rest else {}
        for name in self.needed:
            if name in values:
                selected[name] = values[name]
            elif "." in name and (matches := resolve(values, name)):
                if len(matches) > 1:
                    text = f"{KEY} selects {name!r}, which is ambiguous, since names of columns contain dots"
                    hint = "rename the columns, or select the whole object"
                    raise ConfigError(Problem("dataset.columns", text, hint))
                selected[name] = matches[0]
        return selected

    def is_needed(self, name: str) -> bool:
        """Return whether the values of a column must have one type."""
        return self.needed is None or name in self.needed


_PEEKED = 100  # number of rows whose objects are searched for names, for messages


def _dotted(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted names of all values inside the objects, and inside the lists of objects, of a row."""
    for name, value in values.items():
        fields = value[0] if isinstance(value, list) and value else value
        if isinstance(fields, dict):
            for inner in (*fields, *_dotted(fields)):
                yield f"{name}.{inner}"


def _first(values: Mapping[str, Any], name: str) -> Any:
    """Return the value of a name, which may be dotted; None if there is no value."""
    return values[name] if name in values else next(_inside(values, name.split(".")), None)


def resolve(value: Any, dotted: str) -> list[Any]:
    """Return the values that a dotted name selects inside a value; several if names contain dots themselves.

    If a value on the path is null, the result is null. In a list, a number is a position. In a list of objects, a
    name selects the list of this field.
    """
    return list(_inside(value, dotted.split(".")))


def _inside(value: Any, steps: Sequence[str]) -> Iterator[Any]:
    if not steps or value is None:
        yield value
    elif isinstance(value, dict):
        for end in range(1, len(steps) + 1):
            name = ".".join(steps[:end])
            if name in value:
                yield from _inside(value[name], steps[end:])
    elif isinstance(value, list) and steps[0].isdecimal():
        if int(steps[0]) < len(value):
            yield from _inside(value[int(steps[0])], steps[1:])
    elif isinstance(value, list) and all(isinstance(element, dict) for element in value):
        fields = [[*_inside(element, steps)] for element in value]
        # Objects may lack the field. If one has several meanings, the list has them too.
        for i in range(max(map(len, fields), default=1)):
            yield [meanings[min(i, len(meanings) - 1)] if meanings else None for meanings in fields]


class Readable(Protocol):
    """A format whose records are read one after another."""

    @property
    def read(self) -> Reader | None:
        """Function that yields the records; None for binary files."""

    @property
    def typing(self) -> Typing:
        """Rules that infer the types of columns."""

    @property
    def types(self) -> Mapping[str, Type]:
        """Types of the columns, if they are always the same."""


def scan(path: Path, options: ReadOptions, known: Readable, selection: Selection, most_lines: float) -> FileScan:
    """Return a summary of one pass over a file, with the lines of at most `most_lines` rows."""
    assert known.read is not None
    summary = FileScan()
    for item in known.read(path, options):
        if isinstance(item, BadLine):
            summary.skip(item)
            continue
        summary.columns.update(dict.fromkeys(item.values))
        if summary.rows < _PEEKED:
            summary.columns.update(dict.fromkeys(_dotted(item.values)))
        values = selection.of(item.values, known.typing)
        for name in (*selection.numbers, *selection.ids):
            value: Any = values.get(name)
            summary.count_number(name, value, is_number := known.typing.is_number(value))
            if is_number and name in selection.ids and not is_whole(value):
                summary.fractions.add(name)
        if bad_line := conflict(item, values, summary.types, known.typing, selection):
            summary.skip(bad_line)
            continue
        summary.note_splits(item.values)
        for name, value in values.items():
            before = summary.types.get(name)
            summary.types[name] = known.types[name] if name in known.types else known.typing.widen(before, value)
        summary.rows += 1
        if item.line and summary.rows <= most_lines:
            summary.lines.append(item.line)
    # A dotted name is a column only if it led to a value that is not null.
    summary.columns.update(
        {name: None for name, column_type in summary.types.items() if column_type is not None or "." not in name}
    )
    return summary


def conflict(
    record: Record, values: Mapping[str, Any], types: Mapping[str, Type], typing: Typing, selection: Selection
) -> BadLine | None:
    """Return an error for the first needed value that its column cannot hold, or None."""
    for name in selection.only_numbers:
        if typing.is_number(values.get(name)) is False:
            value = preview(values[name])
            return BadLine(record.line, f"{name!r} is not a number: {value}", value=value)
    if not typing.strict:
        return None
    for name, value in values.items():
        if not selection.is_needed(name):
            continue
        column_kind, value_kind = kind(types.get(name)), kind_of_value(value)
        if name in selection.texts and value_kind in ("text", "list"):
            continue
        if column_kind and value_kind and column_kind != value_kind:
            shown = preview(value)
            text = f"{name!r} is a {value_kind}, but a {column_kind} in the rows above: {shown}"
            return BadLine(record.line, text, value=shown)
        if record.has_digits and has_long(value):
            shown = preview(value)
            text = f"{name!r} has an integer of more than 64 bits: {shown}"
            return BadLine(record.line, text, "write it in quotes, as text", shown)
    return None
