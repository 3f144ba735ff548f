"""Metrics of runs with several test sets: `news_f1` of one set, and `mean_f1`, `min_f1`, or `max_loss` over sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hydratune.evaluation.compare.runs import Run
from hydratune.utils.files import SET

_SUMMARIES = ("mean", "min", "max")  # functions of NumPy, and prefixes of the names of metrics
ALL = ""  # rows of all sets together


@dataclass(frozen=True)
class RowsMetric:
    """Metric of test rows.

    Args:
        name: Name of the metric of the rows of one set, e.g. `f1`.
        sets: Sets that it is computed on.
        summary: Function of NumPy from the values of several sets to the metric; None for a single value.
    """

    name: str
    sets: Sequence[str] = (ALL,)
    summary: Callable[..., Any] | None = None


def metric_of_rows(run: Run, metric: str) -> RowsMetric:
    """Return how a metric is computed from the rows of a run."""
    import numpy as np

    if not run.sets or metric in run.task(metric).definitions():
        return RowsMetric(metric)
    summaries = {name: RowsMetric("", run.sets, getattr(np, name)) for name in _SUMMARIES}
    for prefix, target in {**{name: RowsMetric("", [name]) for name in run.sets}, **summaries}.items():
        name = metric.removeprefix(f"{prefix}_")
        if name != metric and name in run.task(name).definitions():
            return RowsMetric(name, target.sets, target.summary)
    return RowsMetric(metric)


def rows_of(run: Run, name: str) -> list[dict[str, Any]]:
    """Return the test rows of a set, or of all sets."""
    return run.rows if name == ALL else [row for row in run.rows if row.get(SET) == name]
