"""CSV and TSV: strict about cells, and one type for a column in all of its rows."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.data.quotes import quotes_enclose
from hydratune.data.rows import shown
from hydratune.data.scan import Bad, ReadOptions, Scan, lines, not_text

if TYPE_CHECKING:
    import pyarrow as pa


def scan_csv(path: Path, options: ReadOptions, keep: bool) -> Scan:
    """Read the rows as lists of cells."""
    options = resolved(path, options)
    records, delimiter = _records(path, options), options.delimiter or ","
    columns, first = _columns(records, options)
    scan, holes = Scan(columns, types=dict.fromkeys(columns, "")), set[str]()
    # `datasets` reads plain files by itself; of others the rows read here are copied.
    scan.copied = not (options.header and options.quoting and not options.comment)
    for start, cells in _chain(first, records):
        if isinstance(cells, csv.Error):
            scan.bad.append(Bad(start, "a row of csv", str(cells), _QUOTES_FIX))
        elif len(cells) < 2 and not "".join(cells).strip() and cells != [""]:  # `""` alone is a cell
            scan.copied |= bool(cells)  # pandas tells blanks in quotes from blanks alone
        elif len(cells) != len(columns):
            got = f"{len(cells)} ({shown(delimiter.join(cells))})"
            scan.bad.append(Bad(start, f"{len(columns)} cells", got, "Quote cells that hold a separator."))
        elif wrong := not_text(start, "".join(cells), options.encoding):
            scan.bad.append(wrong)
        else:
            scan.lines.append(start)
            _see_types(scan.types, cells, holes)
            if keep:
                scan.rows.append(cells)
    scan.copied |= any(scan.types[name] not in ("", "string") for name in holes)  # there they become null
    return scan


_QUOTES_FIX = "Close the quote, or double it inside quotes; set dataset.quoting=false if quotes are a part of the text."


def peek_csv(path: Path, options: ReadOptions) -> list[str]:
    """The names of the columns, from the first row; ValueError where there is none."""
    columns, _ = _columns(_records(path, resolved(path, options)), options)
    if wrong := not_text(1, "".join(columns), options.encoding):
        raise ValueError(wrong.got)
    if not columns:
        raise ValueError("no line with the names of the columns" if options.header else "no row")
    return columns


def builder_options(path: Path, options: ReadOptions) -> dict[str, Any]:
    """Arguments with which pandas reads the rows of a file without comments."""
    options = resolved(path, options)
    named = {} if options.header else {"header": None, "names": peek_csv(path, options)}
    quoting = csv.QUOTE_MINIMAL if options.quoting else csv.QUOTE_NONE
    return {"sep": options.delimiter or ",", "quoting": quoting, **named}


def first_records(path: Path, options: ReadOptions, count: int) -> list[list[str]]:
    """The first rows that are not blank, the header among them."""
    records = (cells for _, cells in _records(path, resolved(path, options)))
    rows = (cells for cells in records if not isinstance(cells, csv.Error) and "".join(cells).strip())
    return [cells for cells, _ in zip(rows, range(count), strict=False)]


def resolved(path: Path, options: ReadOptions) -> ReadOptions:
    """Fill in what is told from the file: whether quotes enclose cells."""
    if options.quoting is not None:
        return options
    if options.delimiter != "\t":  # GLUE and others have quotes in the text of files that are separated by tabs
        return replace(options, quoting=True)
    status = path.stat()
    return _resolved_tsv(path, options, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=64)
def _resolved_tsv(path: Path, options: ReadOptions, _: tuple[int, int]) -> ReadOptions:
    """The same, once for each state of a file."""
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


Record = tuple[int, "list[str] | csv.Error"]


def _records(path: Path, options: ReadOptions) -> Iterator[Record]:
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


def _columns(records: Iterator[Record], options: ReadOptions) -> tuple[list[str], Record | None]:
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


def _chain(first: Record | None, others: Iterator[Record]) -> Iterator[Record]:
    if first is not None:
        yield first
    yield from others


# Numbers whose digits say nothing else: 007, +1 and an id of 20 digits are texts, or they would be changed.
_TYPES = {
    "int64": re.compile(r" *(0|-?[1-9][0-9]{0,17}) *"),
    "float64": re.compile(r" *(?=[-+]?\.?[0-9])(?=.*[.eE])[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)? *"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
}


def _see_types(types: dict[str, str], cells: Sequence[str], holes: set[str]) -> None:
    """Widens the types of the columns by one row; `holes` grows with the columns of empty cells."""
    for (name, before), cell in zip(types.items(), cells, strict=True):
        if before == "string":
            continue
        if not cell:
            holes.add(name)
            continue
        kind = next((kind for kind, pattern in _TYPES.items() if pattern.fullmatch(cell)), "string")
        if kind != before:
            types[name] = wider(before, kind)


def wider(one: str, other: str) -> str:
    """The type of csv cells that holds both; `""` is that of empty cells."""
    if {one, other} == {"int64", "float64"}:
        return "float64"
    return one or other if one == other or not one or not other else "string"


def table(scan: Scan) -> pa.Table:
    """The rows that were kept, in columns of the types of `scan`."""
    import pyarrow as pa

    columns = zip(scan.types.items(), zip(*scan.rows, strict=True), strict=True)
    return pa.table(
        {name: pa.array([_typed(c, kind) for c in cells], kind or "string") for (name, kind), cells in columns}
    )


def _typed(cell: str, kind: str) -> Any:
    """The value of a cell in a column of type `kind`; null for an empty one, where that is no text."""
    if kind in ("", "string"):
        return cell
    if not cell:
        return None
    return cell.lower() == "true" if kind == "bool" else int(cell) if kind == "int64" else float(cell)
