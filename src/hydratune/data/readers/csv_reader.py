"""Reader of CSV and TSV files, which rejects rows with a wrong number of cells."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from hydratune.data.columns import preview
from hydratune.data.open_files import digest, lines
from hydratune.data.readers.bad_lines import BadLine, ContentError, csv_reason, not_text
from hydratune.data.readers.quotes import quotes_enclose
from hydratune.data.readers.scan import ReadOptions, Record
from hydratune.utils.errors import NODE

COMPARED = 100  # number of rows that are compared with each other


def read_csv(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    """Yield the rows, with each cell as text, and the invalid lines."""
    options = resolved(path, options)
    records, delimiter = _records(path, options), options.delimiter or ","
    columns, first = _columns(records, options)
    ragged_hint: Callable[[Sequence[str]], str] | None = None  # computed once, since it looks at the whole file
    quoting_hint: str | None = None
    for start, cells in _chain(first, records):
        if isinstance(cells, csv.Error):
            quoting_hint = quotes_fix(path, options) if quoting_hint is None else quoting_hint
            yield BadLine(start, csv_reason(cells), quoting_hint)
        elif cells == columns and options.header and len(cells) > 1:  # in concatenated files
            yield BadLine(start, "repeated header", "remove the line", preview(delimiter.join(cells)))
        elif len(cells) < 2 and not "".join(cells).strip() and cells != [""]:  # `""` alone is a cell
            continue
        elif len(cells) < len(columns) or (len(cells) > len(columns) and not options.ignore_extra_cells):
            ragged_hint = ragged_hint or _ragged_hints(path, options, len(columns))
            row = preview(delimiter.join(cells))
            separated = "" if delimiter == "," else f" separated by {delimiter!r}"
            text = f"{_fields(len(cells))}{separated}, expected {len(columns)}: {row}"
            yield BadLine(start, text, ragged_hint(cells), row)
        elif bad_line := not_text(start, "".join(cells), options.encoding):
            yield bad_line
        else:
            yield Record(start, dict(zip(columns, cells, strict=False)))


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _escape_hint(path: Path, options: ReadOptions) -> str:
    """Return the hint for a file whose rows are all valid if a backslash escapes quotes; empty for other files."""
    has_escapes = any('\\"' in line for line in lines(path, options.encoding))
    if options.escapechar is not None or options.quoting is False or not has_escapes:
        return ""
    records = (cells for _, cells in _records(path, replace(options, escapechar="\\", quoting=True)))
    widths = {0 if isinstance(cells, csv.Error) else len(cells) for cells in records if cells}
    is_valid = len(widths) == 1 and widths != {0}
    return f"set '{NODE}dataset.escapechar=\\' to read \\\" as a quote inside quotes" if is_valid else ""


def quotes_fix(path: Path, options: ReadOptions) -> str:
    """Return the hint for quotes that CSV does not allow: an escape character if it makes all rows valid."""
    if escape := _escape_hint(path, options):
        return escape
    hint = "close the quote, or double it inside quotes"
    text_options = replace(options, quoting=False)
    widths = {len(cells) for cells in first_records(path, text_options, COMPARED)}
    return f"{hint}\nset {NODE}dataset.quoting=false if quotes are part of the text" if len(widths) == 1 else hint


_PLURALS = {",": "commas", "\t": "tabs", ";": "semicolons", " ": "spaces"}
_DELIMITERS = ("|||", "||", "::", ";", "\t", "|", ",")  # delimiters that hints suggest, longer ones first


def _file_hint(path: Path, options: ReadOptions, width: int) -> str:
    """Return the hint for a whole file whose rows and header differ in length; empty if only some rows are invalid."""
    for delimiter, _ in tables(path, options, 1 if width == 1 else 2):
        return f"set {delimiter_setting(delimiter)}"
    rows = first_records(path, options, COMPARED)[1:]
    if options.header and all(len(row) == width + 1 and row[-1].strip() for row in rows):  # R writes such tables
        return "add the missing name of the first column to the header"
    return _escape_hint(path, options)


def _ragged_hints(path: Path, options: ReadOptions, width: int) -> Callable[[Sequence[str]], str]:
    """Return a function that returns the hint for a row that is not as long as the header."""
    if file_hint := _file_hint(path, options, width):
        return lambda _: file_hint
    rows = first_records(path, options, COMPARED)[options.header :]
    sizes = [sum(map(len, column)) for column in zip(*(row for row in rows if len(row) == width), strict=True)]
    return partial(_ragged_hint, width, options, not sizes or sizes[-1] == max(sizes))


def _ragged_hint(width: int, options: ReadOptions, is_last_longest: bool, cells: Sequence[str]) -> str:
    """Return the hint for a row that is not as long as the header.

    Args:
        width: Number of columns.
        options: Options that the file is read with.
        is_last_longest: Whether the last column has the longest texts, so that it may have the extra delimiters.
        cells: Cells of the row.
    """
    if len(cells) < width:
        return "add the missing fields; an empty field needs its delimiter too"
    if not "".join(cells[width:]).strip():
        return f"set {NODE}dataset.ignore_extra_cells=true, or add as many delimiters to the header"
    splits = width - 1 if options.header and width > 1 else 1
    delimiters = _PLURALS.get(options.delimiter or ",", repr(options.delimiter))
    action = "replace" if options.quoting is False else "quote fields that contain"
    hint = f"{action} {delimiters}{' inside fields' if options.quoting is False else ''}"
    if is_last_longest:
        hint += f"\nset {NODE}dataset.max_splits={splits} if only the last field may contain {delimiters}"
    return hint


def tables(path: Path, options: ReadOptions, least: int = 2) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield other delimiters that split the first rows into equally many cells, at least `least`, with these rows."""
    for delimiter in (candidate for candidate in _DELIMITERS if candidate != (options.delimiter or ",")):
        for quoting in (False, True) if delimiter == "\t" else (True,):  # inferring it reads the whole file
            rows = first_records(path, replace(options, delimiter=delimiter, quoting=quoting), COMPARED)
            if rows and len(rows[0]) >= least and all(len(row) == len(rows[0]) for row in rows):
                yield delimiter, rows
                break


def delimiter_setting(delimiter: str, node: str = f"{NODE}dataset.") -> str:
    """Return the command-line argument that sets the delimiter of a dataset.

    Args:
        delimiter: The delimiter.
        node: Start of the dataset's keys.
    """
    escaped = delimiter.replace("\t", r"\t")
    return f"'{node}delimiter={escaped}'"


def peek_csv(path: Path, options: ReadOptions) -> list[str]:
    """Return the names of the columns from the first row; raise ContentError if there is no row."""
    columns, _ = _columns(_records(path, resolved(path, options)), options)
    if bad_line := not_text(1, "".join(columns), options.encoding):
        raise ContentError(bad_line.text, bad_line.hint, bad_line.line)
    if not columns:
        raise ContentError("no header" if options.header else "no rows")
    return columns


def first_records(path: Path, options: ReadOptions, count: int) -> list[list[str]]:
    """Return the first rows that are not blank, including the header."""
    records = (cells for _, cells in _records(path, resolved(path, options)))
    rows = (cells for cells in records if not isinstance(cells, csv.Error) and "".join(cells).strip())
    return [cells for cells, _ in zip(rows, range(count), strict=False)]


def resolved(path: Path, options: ReadOptions) -> ReadOptions:
    """Return the options with `quoting` inferred from the file if it is unset."""
    if options.max_splits:
        return replace(options, quoting=False)
    if options.quoting is not None:
        return options
    if options.delimiter != "\t":  # the tab-separated files of GLUE and others have quotes in the text
        return replace(options, quoting=True)
    return _resolved_tsv(path, options, digest(path))


@lru_cache(maxsize=64)
def _resolved_tsv(path: Path, options: ReadOptions, _: str) -> ReadOptions:
    """Return the options with inferred `quoting`, cached by the file's content."""
    raw, strict = (_records(path, replace(options, quoting=quoting)) for quoting in (False, True))
    return replace(options, quoting=quotes_enclose(path, raw, strict))


class _Lines:
    """The lines of a file for `csv.reader`, without comments between rows, and with a single-character delimiter.

    Attributes:
        between: Whether the next line starts a row; set by the caller.
        start: First line of the row that was read last.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.between, self.start = True, 0
        self._comment = options.comment
        self._delimiter = options.delimiter or "," if _is_replaced(options) else None
        self._most = options.max_splits or -1
        self._lines = enumerate(lines(path, options.encoding), 1)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        while self.between and self._comment and line.startswith(self._comment):
            number, line = next(self._lines)
        if self.between:
            self.start, self.between = number, False
        if self._delimiter is None:
            return line
        if _UNIT in line:
            raise csv.Error(f"the character {_UNIT!r} in a file with the delimiter {self._delimiter!r}")
        return line.replace(self._delimiter, _UNIT, self._most)


_UNIT = "\ufdd0"  # replaces a delimiter of several characters; Unicode reserves it for such uses
_Cells = tuple[int, "list[str] | csv.Error"]


def _is_replaced(options: ReadOptions) -> bool:
    """Return whether `_UNIT` replaces the delimiter in the input of `csv.reader`."""
    return bool(options.max_splits) or len(options.delimiter or ",") > 1


def _records(path: Path, options: ReadOptions) -> Iterator[_Cells]:
    """Yield the line and the cells of each row, including blank rows, or an error for an invalid row."""
    csv.field_size_limit(sys.maxsize)
    source = _Lines(path, options)
    quoting: Any = csv.QUOTE_NONE if options.quoting is False else csv.QUOTE_MINIMAL
    delimiter = options.delimiter or ","
    separator = _UNIT if _is_replaced(options) else delimiter
    skip = options.skip_initial_space
    escape = options.escapechar
    reader: Any = csv.reader(
        source, delimiter=separator, quoting=quoting, escapechar=escape, skipinitialspace=skip, strict=True
    )
    while True:
        source.between = True
        try:
            cells: list[str] = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield source.start, error
            continue
        if separator != delimiter:  # a delimiter inside quotes is text
            cells = [cell.replace(separator, delimiter) for cell in cells]
        yield source.start, cells


def _columns(records: Iterator[_Cells], options: ReadOptions) -> tuple[list[str], _Cells | None]:
    """Return the names of the columns, and the first row if it is not a header.

    A column without a name gets the name that pandas gives it.
    """
    for record in records:
        cells = record[1]
        if isinstance(cells, csv.Error):
            raise cells
        if "".join(cells).strip():
            if options.header:
                return [name or f"Unnamed: {i}" for i, name in enumerate(cells)], None
            return options.names(len(cells)), record
    return [], None


def _chain(first: _Cells | None, others: Iterator[_Cells]) -> Iterator[_Cells]:
    if first is not None:
        yield first
    yield from others
