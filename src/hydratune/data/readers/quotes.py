"""Infer whether quotes enclose the cells of a TSV file, or are part of its texts, as in GLUE."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hydratune.data.columns import preview
from hydratune.utils.errors import KEY, ConfigError, Problem

_Records = Iterable[tuple[int, "list[str] | csv.Error"]]


@dataclass
class _Cells:
    """Statistics of one way of parsing a file.

    Args:
        starts: First line of each row, without blank rows and the first row, which may be a header.
        bad: Number of rows that are unreadable or not as long as the first one.
        opened: Line -> its first cell that starts with a quote; only used if quotes are parsed as text.
        bare: Number of cells with a quote inside but not at the start; CSV writers would quote such cells.
        always: Whether in each column, all cells start with a quote, or none do.
        doubled: Whether all cells that start with a quote are well-formed and contain a doubled quote.
    """

    starts: list[int] = field(default_factory=list)
    bad: int = 0
    opened: dict[int, str] = field(default_factory=dict)
    bare: int = 0
    always: bool = True
    doubled: bool = True


def quotes_enclose(path: Path, raw: _Records, strict: _Records) -> bool:
    """Return whether quotes enclose cells, by comparing the two ways of parsing a file.

    Quotes enclose cells if the file is valid CSV (RFC 4180), and parsing quotes as text is less plausible.

    Args:
        path: Path of the file, for the message.
        raw: Rows if quotes are text.
        strict: Rows if quotes enclose cells.

    Raises:
        ConfigError: If both ways are plausible and their rows differ.
    """
    text = _count(raw)
    if not text.opened:  # both ways return the same rows
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
    message = f"a quote starts a field, and may be part of its text or enclose it: {preview(cell)}"
    hint = f"set {KEY}=false if quotes are part of the texts\nset {KEY}=true if they enclose fields"
    raise ConfigError(Problem("dataset.quoting", message, hint, source=f"{path}:{line}"))


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
            if cell and counts.starts:  # headers often have no quotes
                seen.add(cell.startswith('"'))
    counts.always = all(len(seen) < 2 for seen in quoted)
    return counts


def _count_cell(counts: _Cells, line: int, cell: str) -> None:
    if not cell.startswith('"'):
        counts.bare += '"' in cell
        return
    counts.opened.setdefault(line, cell)
    inner = cell[1:-1]
    is_well_formed = len(cell) > 1 and cell.endswith('"') and '"' not in inner.replace('""', "")
    counts.doubled &= is_well_formed and '""' in inner
