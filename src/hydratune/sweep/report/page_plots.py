"""Plots of a sweep that are only on its page: slices, a contour, seeds, and the timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hydratune.sweep.report.plots import PAGE_SCALE, Plot, renamed_copy, shared_parameters
from hydratune.utils.plotting import literal_html
from hydratune.utils.report_style import COLORS, MUTED
from hydratune.utils.short_forms import metric_name

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from hydratune.sweep.plan import Plan
    from hydratune.sweep.report.results import TrialRow

_STATE_COLORS = {"COMPLETE": COLORS[0], "PRUNED": MUTED, "FAIL": COLORS[2], "RUNNING": COLORS[4], "WAITING": MUTED}
_MOST_SLICES = 6  # parameters next to each other


def make_page_plots(plan: Plan, trials: Sequence[FrozenTrial], rows: Sequence[TrialRow]) -> Iterator[Plot]:
    """Yield the plots, in order, given all trials and their rows."""
    study = renamed_copy(plan, trials, literal_html)
    completed = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    objective = metric_name(next(iter(plan.objectives)))
    shared = shared_parameters(completed)
    several = len(plan.objectives) > 1
    target = (lambda trial: trial.values[0]) if several else None
    common: dict[str, Any] = {"target": target, "target_name": objective}
    if len(completed) > 1 and shared:
        title = f"{objective}: each parameter"
        yield Plot("slice", title, lambda module: _slices(module, study, shared, common), **_ON_PAGE)
    varied = [name for name in shared if len({str(trial.params[name]) for trial in completed}) > 1]
    if len(varied) > 1:
        title = f"{objective}: {varied[0]} and {varied[1]}"
        yield Plot("contour", title, lambda module: _contour(module, study, varied[:2], common), **_HALF)
    if plan.is_replicated and any(row.by_seed for row in rows):
        title = f"{objective}: range over {'folds' if plan.folds else 'seeds'} by trial"
        yield Plot("seeds", title, lambda _: _seeds(plan, rows, objective), **_HALF)
    if trials:
        yield Plot("timeline", "Timeline of the trials", lambda _: _timeline(trials), **_HALF)


_ON_PAGE: dict[str, Any] = {"has_image": False, "has_line": True}
_HALF: dict[str, Any] = {"has_image": False}


def _slices(module: Any, study: optuna.Study, names: Sequence[str], common: dict[str, Any]) -> Any:
    figure = module.plot_slice(study, params=[*names][:_MOST_SLICES], **common)
    return figure.update_traces(marker_colorscale=PAGE_SCALE)


def _contour(module: Any, study: optuna.Study, names: Sequence[str], common: dict[str, Any]) -> Any:
    return module.plot_contour(study, params=[*names], **common)


def _seeds(plan: Plan, rows: Sequence[TrialRow], objective: str) -> Any:
    """Draw the mean over seeds of each trial, with the range of the seeds."""
    import plotly.graph_objects as go

    values = {row.number: row.by_seed.get(next(iter(plan.objectives)), ()) for row in rows}
    values = {number: seeds for number, seeds in values.items() if seeds}
    means = [sum(seeds) / len(seeds) for seeds in values.values()]
    above = [max(seeds) - mean for seeds, mean in zip(values.values(), means, strict=True)]
    below = [mean - min(seeds) for seeds, mean in zip(values.values(), means, strict=True)]
    error = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": MUTED}
    figure = go.Figure(go.Scatter(x=[*values], y=means, mode="markers", error_y=error, marker_color=COLORS[0]))
    return figure.update_layout(xaxis_title="trial", yaxis_title=objective, xaxis_dtick=max(1, len(values) // 10))


def _timeline(trials: Sequence[FrozenTrial]) -> Any:
    """Draw the time of each trial as a bar, colored by its state."""
    import plotly.graph_objects as go

    figure = go.Figure()
    started = [(trial, trial.datetime_start) for trial in trials if trial.datetime_start]
    begin = min((start for _, start in started), default=None)
    for state, color in _STATE_COLORS.items():
        group = [(trial, start) for trial, start in started if trial.state.name == state]
        if group and begin:
            lengths = [trial.duration.total_seconds() / 60 if trial.duration else 0 for trial, _ in group]
            bases = [(start - begin).total_seconds() / 60 for _, start in group]
            bar = {"x": lengths, "base": bases, "y": [trial.number for trial, _ in group], "orientation": "h"}
            figure.add_bar(**bar, marker_color=color, name=state.lower(), hovertemplate="trial %{y}: %{x:.1f} min")
    figure.update_layout(barmode="overlay", xaxis_title="minutes since the start", yaxis_title="trial")
    return figure.update_yaxes(autorange="reversed", dtick=max(1, len(started) // 10))
