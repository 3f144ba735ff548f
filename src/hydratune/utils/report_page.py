"""HTML reports of runs, sweeps, and comparisons: pages in one file that work offline, in the light and in the dark.

Every function returns HTML in which its texts are escaped.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.utils.escaping import escape_control
from hydratune.utils.report_style import CSS, SCRIPT, plotly_code
from hydratune.utils.short_forms import number_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

REPORT_PAGE = "report.html"
_BREAKS, _BREAK = re.compile(r"[_/]|\.(?=[A-Za-z])"), r"\g<0><wbr>"
_LEAST_WORDS = 3  # of a text that is not a name
_LONGEST_CELL, _SHORT_CELL = 600, 32  # characters; short cells have no line breaks


class Html(str):
    """Text that is HTML already, so that a table does not escape it again."""

    __slots__ = ()


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        cells: Texts, numbers, or HTML; None for an empty cell.
        kind: CSS class of the row, e.g. `best`, `failed`, or `pruned`.
    """

    cells: Sequence[Any]
    kind: str = ""


# The page requests nothing from any address; plotly compiles functions for parallel coordinates.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "base-uri 'none'; form-action 'none'"
)


def page(title: str, *blocks: str) -> str:
    """Return a complete page; it contains the code of plotly if a block has a figure."""
    body = "\n".join(block for block in blocks if block)
    code = f'<script type="text/plain" id="plotly">{plotly_code()}</script>\n' if 'class="plot"' in body else ""
    document = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{text(title)}</title><style>{CSS}</style></head><body>
<h1>{text(title)}</h1>
{body}
<noscript><p>The figures need JavaScript, which works offline.</p></noscript>
{code}<script>{SCRIPT}</script></body></html>
"""
    return escape_control(document)


def text(value: object) -> Html:
    """Return a text as HTML."""
    return value if isinstance(value, Html) else Html(html.escape(escape_control(str(value))))


def paragraph(value: object, kind: str = "") -> Html:
    """Return a paragraph; `kind` is `lead` or `muted`."""
    return Html(f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>")


def section(title: str, *blocks: str) -> Html:
    """Return blocks below a heading; empty without blocks."""
    body = "\n".join(block for block in blocks if block)
    return Html(f"<section><h2>{text(title)}</h2>\n{body}\n</section>" if body else "")


def subsection(title: str, *blocks: str) -> Html:
    """Return blocks below a smaller heading; empty without blocks."""
    body = "\n".join(block for block in blocks if block)
    return Html(f"<h3>{text(title)}</h3>\n{body}" if body else "")


def code(value: str) -> Html:
    """Return a block of code."""
    return Html(f"<pre>{text(value)}</pre>")


def link(path: str, label: str) -> Html:
    """Return a link to a file or folder, relative to the page."""
    return Html(f'<a href="{_relative(path)}">{text(label)}</a>')


def _relative(path: str) -> str:
    """Return a path as a relative address, which cannot be that of a script or of another host."""
    from urllib.parse import quote

    return f"./{quote(path)}"


def facts(values: Mapping[str, object]) -> Html:
    """Return a table of names and values; empty values are omitted."""
    rows = [
        f'<tr><th scope="row">{text(name)}</th><td>{text(v)}</td></tr>'
        for name, v in values.items()
        if v not in ("", None)
    ]
    return Html(f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>' if rows else "")


def table(columns: Sequence[str], rows: Iterable[Row | Sequence[Any]]) -> Html:
    """Return a table that a click on a header sorts; columns of numbers are aligned to the right."""
    lines = [row if isinstance(row, Row) else Row(row) for row in rows]
    if not lines:
        return Html("")
    numeric = [all(_is_number(row.cells[i]) for row in lines if row.cells[i] is not None) for i in range(len(columns))]
    head = "".join(
        f'<th scope="col" class="sortable{" number" * is_number}">{text(name)}</th>'
        for name, is_number in zip(columns, numeric, strict=True)
    )
    body = "\n".join(f'<tr class="{text(row.kind)}">{"".join(map(_cell, row.cells, numeric))}</tr>' for row in lines)
    return Html(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>')


def _is_number(value: Any) -> bool:
    return isinstance(value, Sortable) or (isinstance(value, int | float) and not isinstance(value, bool))


class Sortable(Html):
    """HTML of a cell with the number that its column is sorted by."""

    __slots__ = ("number",)
    number: float


def sortable(shown: str, value: float) -> Sortable:
    """Return a text of a cell that is sorted as a number."""
    cell = Sortable(text(shown))
    cell.number = value
    return cell


def _cell(value: Any, is_number: bool) -> str:
    if value is None:
        return '<td data-value=""></td>'
    if isinstance(value, int | float) and not isinstance(value, bool):
        kind = ' class="number"' if is_number else ""
        return f'<td{kind} data-value="{value}">{number_text(value)}</td>'
    if isinstance(value, Sortable):
        return f'<td class="number" data-value="{value.number}">{value}</td>'
    if isinstance(value, Html):
        return f"<td>{value}</td>"
    content = str(value)
    is_name = len(content.split()) < _LEAST_WORDS  # e.g. a label, also with a number after it
    if len(content) > _SHORT_CELL and not is_name:
        return f'<td class="long">{text(shortened(content, _LONGEST_CELL))}</td>'
    kind = "short" if len(content) <= _SHORT_CELL else "name"
    return f'<td class="{kind}">{_BREAKS.sub(_BREAK, text(shortened(content, _LONGEST_CELL)))}</td>'


def clipped(value: str) -> Html:
    """Return a text of a cell of which a few lines are shown; the rest is shown on hover, on focus, and in print."""
    content = text(value)
    return Html(f'<div class="clipped" tabindex="0" title="{content}">{content}</div>')


def shortened(value: str, longest: int) -> str:
    """Cut a text, and end it with an ellipsis."""
    return value if len(value) <= longest else f"{value[: longest - 1]}…"


def figures(*blocks: str) -> Html:
    """Return figures next to each other where the page is wide enough."""
    body = "\n".join(block for block in blocks if block)
    return Html(f'<div class="figures">{body}</div>' if body else "")


def figure(title: str, drawing: go.Figure, height: int = 320, widest: int | None = None) -> Html:
    """Return a figure with a title above it; the page's theme replaces the template of the figure.

    Args:
        title: Text above the figure.
        drawing: Figure of plotly.
        height: Height in pixels.
        widest: Maximum width in pixels of a figure that has its own line; None for one next to others.
    """
    content: dict[str, Any] = json.loads(drawing.to_json())
    layout = {**content["layout"], "height": height, "autosize": True}
    for name in ("template", "title", "width", "plot_bgcolor", "paper_bgcolor"):
        layout.pop(name, None)
    document = json.dumps({"data": content["data"], "layout": layout})
    for character in "<>&\u2028\u2029":
        document = document.replace(character, f"\\u{ord(character):04x}")
    kind = f' class="wide" style="max-width:{widest}px"' if widest else ""
    return Html(
        f'<figure{kind}><figcaption>{text(title)}</figcaption><div class="plot" style="min-height:{height}px"></div>'
        f'<script type="application/json">{document}</script></figure>'
    )
