"""Tables for the terminal that omit columns, the least important first, where the terminal is too narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_BORDER = 3  # characters per column: padding on both sides, and a line


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Args:
        name: Header.
        cells: Texts, one for each row.
        rank: Importance: 0 for a column that is always shown; of the others, those with the highest number go first.
        is_number: Whether the cells are aligned to the right.
    """

    name: str
    cells: Sequence[str]
    rank: int = 1
    is_number: bool = False


@dataclass(frozen=True)
class FittedTable:
    """Table that rich can print, with as many columns as fit into the terminal.

    Args:
        columns: All columns, in order.
        styles: Style of each row; empty for none.
        caption: Lines below the table; empty for none.
        complete: Where all columns are, e.g. `see --csv`.
    """

    columns: Sequence[Column]
    styles: Sequence[str] = ()
    caption: str = ""
    complete: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, the names of the omitted columns, and the caption."""
        from rich.table import Table

        shown = self.fitting(options.max_width)
        table = Table()
        for column in shown:
            table.add_column(column.name, no_wrap=True, justify="right" if column.is_number else "left")
        styles = self.styles or [""] * len(self.columns[0].cells)
        for style, *cells in zip(styles, *(column.cells for column in shown), strict=True):
            table.add_row(*cells, style=style)
        yield table
        if omitted := [column.name for column in self.columns if column not in shown]:
            rest = f"; {self.complete}" if self.complete else ""
            yield f"not shown: {', '.join(omitted)}{rest}"
        if self.caption:
            yield self.caption

    def fitting(self, width: int) -> list[Column]:
        """Return the columns that fit into a number of characters, in order."""
        from rich.cells import cell_len

        shown, remaining = [], width - 1
        for i in sorted(range(len(self.columns)), key=lambda i: self.columns[i].rank):
            column = self.columns[i]
            needed = max(map(cell_len, (column.name, *column.cells))) + _BORDER
            if needed <= remaining or not column.rank:
                shown.append(i)
                remaining -= needed
        return [self.columns[i] for i in sorted(shown)]
