"""Figures of reports, drawn by plotly; texts in them are escaped, because plotly interprets some HTML tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.utils.escaping import escape_control
from hydratune.utils.plotting import literal_html, shortened
from hydratune.utils.report_style import COLORS, MUTED
from hydratune.utils.short_forms import number_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MANY_POINTS = 60  # points of a curve without markers
_LONGEST_LABEL = 28  # characters of a label at an axis
MOST_CELL_TEXTS = 12  # columns of a matrix whose cells have texts


@dataclass(frozen=True)
class Curve:
    """A curve of values over steps.

    Args:
        name: Name in the legend; empty for none.
        steps: Places on the x axis.
        values: Values; None for a gap.
        color: Color; empty for the next one of the page's colors.
        dash: Style of the line: `solid`, `dash`, or `dot`.
        low: Lower limits of a band around the curve; empty without a band.
        high: Upper limits of the band.
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float | None]
    color: str = ""
    dash: str = "solid"
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def label(value: object, longest: int = 60) -> str:
    """Return a text for a figure: shortened to `longest` characters, and without tags."""
    clean = escape_control(" ".join(str(value).split()))
    return literal_html(shortened(clean) if longest == 60 else _cut(clean, longest))


def _cut(value: str, longest: int) -> str:
    return value if len(value) <= longest else f"{value[: longest - 1]}…"


def axis_labels(names: Sequence[object]) -> list[str]:
    """Return short labels for an axis; equal ones get a number, since plotly would put their values into one place."""
    used: dict[str, int] = {}
    labels = []
    for name in names:
        short = label(name, _LONGEST_LABEL)
        used[short] = used.get(short, 0) + 1
        labels.append(short if used[short] == 1 else f"{short} ({used[short]})")
    return labels


def curves(lines: Sequence[Curve], x: str = "step", y: str = "", marked: float | None = None) -> go.Figure:
    """Draw curves; `marked` is the step of a vertical line, that of the best checkpoint."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, line in enumerate(lines):
        color = line.color or COLORS[i % len(COLORS)]
        if line.low:
            figure.add_scatter(
                x=[*line.steps, *reversed(line.steps)],
                y=[*line.high, *reversed(line.low)],
                fill="toself",
                fillcolor=color,
                opacity=0.2,
                line_width=0,
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            x=[*line.steps],
            y=[*line.values],
            name=label(line.name),
            line={"color": color, "dash": line.dash, "width": 2},
            marker={"size": 6},
            mode="lines" if len(line.steps) > _MANY_POINTS else "lines+markers",
            showlegend=bool(line.name),
        )
    if marked is not None:
        figure.add_vline(marked, line_dash="dot", line_color=MUTED)
        figure.add_annotation(
            x=marked,
            y=1,
            yref="paper",
            text="best",
            showarrow=False,
            xanchor="left",
            yanchor="top",
            font_color=MUTED,
        )
    return figure.update_layout(xaxis_title=label(x), yaxis_title=label(y), hovermode="x unified")


def bars(
    names: Sequence[object], values: Sequence[float], x: str, limits: tuple[float, float] | None = None
) -> go.Figure:
    """Draw a horizontal bar with its value for each name, the first one at the top."""
    import plotly.graph_objects as go

    labels = axis_labels(names)
    texts = [number_text(value) for value in values]
    bar = go.Bar(x=[*values], y=labels, orientation="h", marker_color=COLORS[0], text=texts, textposition="outside")
    figure = go.Figure(bar.update(cliponaxis=False, hovertemplate="%{y}: %{x:.4f}<extra></extra>"))
    figure.update_yaxes(autorange="reversed", type="category", dtick=1)
    figure.update_xaxes(title=label(x), range=None if limits is None else [limits[0], limits[1] * 1.08])
    return figure


def heatmap(
    rows: Sequence[object], columns: Sequence[object], values: Sequence[Sequence[Any]], texts: Sequence[Sequence[str]]
) -> go.Figure:
    """Draw a matrix with values from 0 to 1; None is blank.

    Args:
        rows: Names of the rows, i.e. of true labels.
        columns: Names of the columns, i.e. of predicted labels.
        values: Shares, which determine the colors.
        texts: Texts in the cells.
    """
    import plotly.graph_objects as go

    few = len(columns) <= MOST_CELL_TEXTS
    matrix = go.Heatmap(
        x=axis_labels(columns),
        y=axis_labels(rows),
        z=values,
        text=texts,
        zmin=0,
        zmax=1,
        texttemplate="%{text}" if few else "",
        showscale=not few,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hovertemplate="true: %{y}<br>predicted: %{x}<br>%{text}<extra></extra>",
        colorbar={"title": {"text": "share of the true label", "side": "right"}, "tickformat": ".0%", "thickness": 12},
    )
    figure = go.Figure(matrix)
    axis = {"type": "category", "dtick": 1, "showgrid": False, "tickfont_size": 12 if few else 10}
    angle = 0 if len(columns) <= 4 else -45 if few else -90  # slanted labels would overlap in narrow pages
    figure.update_xaxes(title="predicted", tickangle=angle, **axis)
    return figure.update_yaxes(title="true", autorange="reversed", **axis)
