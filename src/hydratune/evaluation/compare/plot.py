"""Plot of a comparison: learning curves of the runs, and confidence intervals of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydratune.evaluation.compare.runs import Run
from hydratune.evaluation.compare.verdict import Verdict
from hydratune.utils.files import atomic_write
from hydratune.utils.plotting import literal, no_warnings

_LEGEND_COLUMNS = 13  # runs per line of the legend, which is below the plots
_COLORS, _STYLES = 10, ("-", "--", ":")  # of the curves; the styles tell runs of one color apart
_FIT = 8  # number of differences that fit into a plot of the default height


def draw(runs: Sequence[Run], verdict: Verdict, path: Path) -> None:
    """Write a PNG with the training loss, the metric on validation, and each difference with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = 2 + bool(verdict.comparisons)
    legend_lines = -(-len(runs) // _LEGEND_COLUMNS)
    height = 4 + 0.2 * legend_lines + 0.4 * max(0, len(verdict.comparisons) - _FIT)
    figure = Figure(figsize=(5 * count, height), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, objective_axes, *difference_axes = figure.subplots(1, count)
    _curves(loss_axes, runs, "train/loss")
    _curves(objective_axes, runs, f"eval/{verdict.metric or 'loss'}")
    figure.legend(
        *loss_axes.get_legend_handles_labels(), loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize="small"
    )
    if difference_axes:
        _differences(difference_axes[0], verdict)
    with no_warnings(), atomic_write(path) as temp_path:
        figure.savefig(temp_path, dpi=120, format="png")


def _curves(axes: Any, runs: Sequence[Run], metric: str) -> None:
    for i, run in enumerate(runs):
        steps, values = run.history(metric)
        style = {"color": f"C{i % _COLORS}", "linestyle": _STYLES[i // _COLORS % len(_STYLES)]}
        axes.plot(steps, values, marker=".", label=literal(run.label), **style)
    axes.set(title=literal(metric), xlabel="step")


def _differences(axes: Any, verdict: Verdict) -> None:
    factor = 100 if verdict.comparisons[0].unit.is_share else 1
    for y, comparison in enumerate(verdict.comparisons):
        interval, value = comparison.interval, factor * comparison.interval.value
        width = None
        if interval.low is not None and interval.high is not None:
            width = [[value - factor * interval.low], [factor * interval.high - value]]
        axes.errorbar(value, y, xerr=width, fmt="o", capsize=4)
    axes.axvline(0, color="grey", linewidth=1)
    labels = [f"{literal(comparison.second)}\nminus {literal(comparison.first)}" for comparison in verdict.comparisons]
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.invert_yaxis()
    unit = verdict.comparisons[0].unit
    axes.set(title=f"difference of {literal(unit.metric)}", xlabel=f"{unit.name}, with 95% intervals")
