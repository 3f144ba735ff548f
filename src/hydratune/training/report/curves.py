"""Curves of a run over its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydratune.training.report.inputs import History, ReportInputs
from hydratune.training.results import BOOKKEEPING
from hydratune.utils.figures import Curve, curves
from hydratune.utils.report_page import Html, figure
from hydratune.utils.short_forms import metric_name

# Title, unit, and names of metrics of each figure besides the metrics on validation.
_TRAINING = (
    ("Learning rate", "learning rate", ("train/learning_rate",)),
    ("Gradient norm", "norm before clipping", ("train/grad_norm",)),
    ("Throughput", "samples per second", ("train/samples_per_second",)),
    ("Peak memory", "GiB", ("train/peak_memory_gib",)),
)
_MOST_METRICS = 4  # figures of metrics on validation, the objective first


def curve_figures(inputs: ReportInputs) -> list[Html]:
    """Return the figures of everything that was measured at two steps or more."""
    return [figure(title, curves(lines, y=unit, marked=inputs.best_step)) for title, unit, lines in _figures(inputs)]


def _figures(inputs: ReportInputs) -> Iterator[tuple[str, str, Sequence[Curve]]]:
    """Yield title, name of the y axis, and curves of each figure."""
    history = inputs.history
    if lines := [*_lines(history, {"train/loss": "training", "eval/loss": "validation"})]:
        yield "Loss", "loss", lines
    objective = f"eval/{inputs.objective.removeprefix('eval_')}"
    names = [name for name in history if name.startswith("eval/") and not name.endswith((*BOOKKEEPING, "/loss"))]
    for name in sorted(names, key=lambda name: name != objective)[:_MOST_METRICS]:
        if lines := [*_lines(history, {name: ""})]:
            metric = metric_name(name.removeprefix("eval/"))
            yield f"{metric} on validation{' (objective)' if name == objective else ''}", metric, lines
    for title, unit, metrics in _TRAINING:
        if lines := [*_lines(history, dict.fromkeys(metrics, ""))]:
            yield title, unit, lines


def _lines(history: History, names: dict[str, str]) -> Iterator[Curve]:
    """Yield the curves of a figure if one of them has at least two points."""
    lines = [(shown, points) for name, shown in names.items() if (points := history.get(name))]
    if any(len(points) > 1 for _, points in lines):
        yield from (Curve(shown, [*points], [*points.values()]) for shown, points in lines)
