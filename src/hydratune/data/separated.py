"""Csv and tsv: strict about cells, and one type for a column in all of its rows."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.data.rows import shown
from hydratune.data.scan import Bad, Scan, lines, not_text

if TYPE_CHECKING:
    import pyarrow as pa


def scan_csv(path: Path, encoding: str, keep: bool, delimiter: str = ",") -> Scan:
    """The rows as lists of cells."""
    reader = reader_of(path, encoding, delimiter)
    columns = header(reader)
    scan, holes = Scan(columns, types=dict.fromkeys(columns, "")), set[str]()
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            scan.bad.append(Bad(start, "a row of csv", str(error), "Close the quote, or double it inside quotes."))
            continue
        if len(cells) < 2 and not "".join(cells).strip() and cells != [""]:  # `""` alone is a cell
            scan.copied |= bool(cells)  # pandas knows blanks in quotes from blanks alone
            continue
        if len(cells) != len(columns):
            got = f"{len(cells)} ({shown(delimiter.join(cells))})"
            scan.bad.append(Bad(start, f"{len(columns)} cells", got, "Quote cells that hold a separator."))
        elif wrong := not_text(start, "".join(cells), encoding):
            scan.bad.append(wrong)
        else:
            scan.lines.append(start)
            _see_types(scan.types, cells, holes)
            if keep:
                scan.rows.append(cells)
    scan.copied |= any(scan.types[name] not in ("", "string") for name in holes)  # there they become null
    return scan


def reader_of(path: Path, encoding: str, delimiter: str) -> Any:
    """A strict `csv.reader` of a file."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(lines(path, encoding), delimiter=delimiter, strict=True)


def header(reader: Any) -> list[str]:
    """The names of the columns, from the first line that is not blank; those without one are called as by pandas."""
    cells: list[str] = next((cells for cells in reader if "".join(cells).strip()), [])
    return [name or f"Unnamed: {i}" for i, name in enumerate(cells)]


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


def scan_tsv(path: Path, encoding: str, keep: bool) -> Scan:
    """The same, separated by tabs."""
    return scan_csv(path, encoding, keep, delimiter="\t")
