"""Tell whether quotes enclose the cells of a TSV file, or are a part of its texts, as in GLUE."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hydratune.utils.errors import ConfigError, Mistake

_Records = Iterable[tuple[int, "list[str] | csv.Error"]]


@dataclass
class _Cells:
    """Counts of what one reading of a file shows.

    Args:
        starts: The line on which each row starts; blank ones do not count, nor does the first, which may be a header.
        bad: Rows that are not as long as the first one, or that cannot be read.
        opened: Line -> the first cell on it that starts with a quote; only of the reading without quotes.
        bare: Cells with a quote inside that do not start with one, which no writer of CSV leaves so.
        always: Whether each column has a quote at the start of all its cells, or of none.
        doubled: Whether all cells in quotes are well-formed and have a doubled quote inside, which needs them.
    """

    starts: list[int] = field(default_factory=list)
    bad: int = 0
    opened: dict[int, str] = field(default_factory=dict)
    bare: int = 0
    always: bool = True
    doubled: bool = True


def quotes_enclose(path: Path, raw: _Records, strict: _Records) -> bool:
    """Compare the two readings of a file.

    Quotes enclose cells if the whole file is as a writer of CSV (RFC 4180) makes it, and no reading of it
    without quotes makes sense as well.

    Args:
        path: For the message.
        raw: The rows where quotes are text.
        strict: The rows where quotes enclose cells.

    Raises:
        ConfigError: Where both readings make sense and are not the same.
    """
    text = _count(raw)
    if not text.opened:  # the readings are the same
        return True
    enclosed = _count(strict)
    if enclosed.bad != text.bad:
        return enclosed.bad < text.bad
    same_rows = len(enclosed.starts) == len(text.starts)
    if text.bare and same_rows:
        return False
    if (same_rows and (text.always or text.doubled)) or all(line in text.opened for line in enclosed.starts):
        return True
    line, cell = next(iter(text.opened.items()))
    got = f"{cell[:40]!r} at {path}:{line}"
    fix = "Set dataset.quoting=false if quotes are a part of the texts, or true if they enclose cells."
    raise ConfigError(Mistake("dataset.quoting", "true or false, since a cell starts with a quote", got, fix))


def _count(records: _Records) -> _Cells:
    counts, width, quoted = _Cells(), 0, list[set[bool]]()
    for line, cells in records:
        if isinstance(cells, csv.Error):
            counts.bad += 1
            continue
        if not "".join(cells).strip():
            continue
        if width:
            counts.starts.append(line)
        width = width or len(cells)
        counts.bad += len(cells) != width
        quoted += [set() for _ in cells[len(quoted) :]]
        for cell, seen in zip(cells, quoted, strict=False):
            _count_cell(counts, line, cell)
            if cell and counts.starts:  # a header is often without
                seen.add(cell.startswith('"'))
    counts.always = all(len(seen) < 2 for seen in quoted)
    return counts


def _count_cell(counts: _Cells, line: int, cell: str) -> None:
    if not cell.startswith('"'):
        counts.bare += '"' in cell
        return
    counts.opened.setdefault(line, cell)
    inner = cell[1:-1]
    is_whole = len(cell) > 1 and cell.endswith('"') and '"' not in inner.replace('""', "")
    counts.doubled &= is_whole and '""' in inner
