"""CSV and TSV: strict about the number of cells."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydratune.data.opening import digest, lines
from hydratune.data.quotes import quotes_enclose
from hydratune.data.rows import shown
from hydratune.data.scan import Bad, ReadOptions, Record, not_text


def read_csv(path: Path, options: ReadOptions) -> Iterator[Record | Bad]:
    """Read the rows as texts of cells."""
    options = resolved(path, options)
    records, delimiter = _records(path, options), options.delimiter or ","
    columns, first = _columns(records, options)
    for start, cells in _chain(first, records):
        if isinstance(cells, csv.Error):
            yield Bad(start, "a row of csv", str(cells), _QUOTES_FIX)
        elif len(cells) < 2 and not "".join(cells).strip() and cells != [""]:  # `""` alone is a cell
            continue
        elif len(cells) != len(columns):
            got = f"{len(cells)} ({shown(delimiter.join(cells))})"
            yield Bad(start, f"{len(columns)} cells", got, "Quote cells that hold a separator.")
        elif wrong := not_text(start, "".join(cells), options.encoding):
            yield wrong
        else:
            yield Record(start, dict(zip(columns, cells, strict=True)))


_QUOTES_FIX = "Close the quote, or double it inside quotes; set dataset.quoting=false if quotes are a part of the text."


def peek_csv(path: Path, options: ReadOptions) -> list[str]:
    """The names of the columns, from the first row; ValueError where there is none."""
    columns, _ = _columns(_records(path, resolved(path, options)), options)
    if wrong := not_text(1, "".join(columns), options.encoding):
        raise ValueError(wrong.got)
    if not columns:
        raise ValueError("no line with the names of the columns" if options.header else "no row")
    return columns


def first_records(path: Path, options: ReadOptions, count: int) -> list[list[str]]:
    """The first rows that are not blank, the header among them."""
    records = (cells for _, cells in _records(path, resolved(path, options)))
    rows = (cells for cells in records if not isinstance(cells, csv.Error) and "".join(cells).strip())
    return [cells for cells, _ in zip(rows, range(count), strict=False)]


def resolved(path: Path, options: ReadOptions) -> ReadOptions:
    """Fill in what is inferred from the file: whether quotes enclose cells."""
    if options.quoting is not None:
        return options
    if options.delimiter != "\t":  # GLUE and others have quotes in the text of files that are separated by tabs
        return replace(options, quoting=True)
    return _resolved_tsv(path, options, digest(path))


@lru_cache(maxsize=64)
def _resolved_tsv(path: Path, options: ReadOptions, _: str) -> ReadOptions:
    """The same, once for each content of a file."""
    raw, strict = (_records(path, replace(options, quoting=quoting)) for quoting in (False, True))
    return replace(options, quoting=quotes_enclose(path, raw, strict))


class _Lines:
    """The lines of a file for `csv.reader`, without comments between rows.

    Attributes:
        between: Whether the next line starts a row; set by the caller.
        start: The line on which the row starts that was read last.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.between, self.start = True, 0
        self._comment = options.comment
        self._lines = enumerate(lines(path, options.encoding), 1)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        while self.between and self._comment and line.startswith(self._comment):
            number, line = next(self._lines)
        if self.between:
            self.start, self.between = number, False
        return line


_Cells = tuple[int, "list[str] | csv.Error"]


def _records(path: Path, options: ReadOptions) -> Iterator[_Cells]:
    """The line and the cells of each row, blank ones too; an error where they are no row."""
    csv.field_size_limit(sys.maxsize)
    source = _Lines(path, options)
    quoting: Any = csv.QUOTE_NONE if options.quoting is False else csv.QUOTE_MINIMAL
    reader: Any = csv.reader(source, delimiter=options.delimiter or ",", quoting=quoting, strict=True)
    while True:
        source.between = True
        try:
            cells: list[str] | csv.Error = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = error
        yield source.start, cells


def _columns(records: Iterator[_Cells], options: ReadOptions) -> tuple[list[str], _Cells | None]:
    """The names of the columns, and the first row where it is not their header.

    A column without a name is called as by pandas.
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
