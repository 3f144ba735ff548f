"""Importance of each parameter for an objective, with the uncertainty from the choice of trials."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.utils.figures import label
from hydratune.utils.report_style import COLORS, MUTED

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

MIN_TRIALS = 10  # with fewer trials, importances are noise
_RESAMPLES = 8

Target = Callable[["FrozenTrial"], float] | None


@dataclass(frozen=True)
class Importance:
    """Share of the variance of an objective that a parameter explains.

    Args:
        value: Importance from all trials.
        low: Lowest importance from resampled trials.
        high: Highest importance from resampled trials.
    """

    value: float
    low: float
    high: float


def importances(study: optuna.Study, target: Target) -> Mapping[str, Importance]:
    """Return parameter -> importance, the largest first, with the range over bootstrap resamples of the trials."""
    from optuna.importance import get_param_importances

    values = get_param_importances(study, target=target)
    completed = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    chooser = random.Random(0)  # noqa: S311 (statistics)
    ranges = {name: [value] for name, value in values.items()}
    for _ in range(_RESAMPLES):
        sample = chooser.choices(completed, k=len(completed))
        try:
            resampled = get_param_importances(_copy(study, sample), target=target, params=[*values])
        except (RuntimeError, ValueError):  # all trials of the sample have the same value
            continue
        for name, value in resampled.items():
            ranges[name].append(value)
    return {name: Importance(value, min(ranges[name]), max(ranges[name])) for name, value in values.items()}


def _copy(study: optuna.Study, trials: list[FrozenTrial]) -> optuna.Study:
    import optuna

    copy = optuna.create_study(directions=study.directions)
    copy.add_trials(trials)
    return copy


def draw_importances(module: Any, study: optuna.Study, target: Target) -> Any:
    """Draw bars with their ranges by plotly, or by matplotlib for its counterpart of `optuna.visualization`."""
    shown = importances(study, target)
    values = [one.value for one in shown.values()]
    below = [one.value - one.low for one in shown.values()]
    above = [one.high - one.value for one in shown.values()]
    x_title = f"importance, with the range over {_RESAMPLES} resamples of the trials"
    if module.__name__.endswith("matplotlib"):
        from matplotlib import pyplot as plt

        _, axes = plt.subplots()
        axes.barh([*shown], values, xerr=[below, above], color=COLORS[0], ecolor="black", capsize=3)
        axes.invert_yaxis()
        axes.set_xlabel(x_title)
        return axes
    import plotly.graph_objects as go

    error = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": MUTED}
    names = [label(name) for name in shown]
    figure = go.Figure(go.Bar(x=values, y=names, orientation="h", marker_color=COLORS[0], error_x=error))
    figure.update_yaxes(autorange="reversed", type="category")
    return figure.update_xaxes(title=x_title)
