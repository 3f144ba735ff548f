"""How sure a difference is: intervals and tests of scipy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydratune.tasks.base import Task

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0
_HELD = 2_000_000  # row numbers at once


@dataclass(frozen=True)
class Interval:
    """A value, and between what it lies in 95 of 100 cases; `p` is of the test that there is none."""

    value: float
    low: float
    high: float
    p: float | None = None


def paired_bootstrap(first: Callable[[Any], Any], second: Callable[[Any], Any], count: int) -> Interval:
    """The difference of a metric, second minus first, over rows that are drawn anew, the same ones for both.

    Args:
        first: See `over_rows`.
        second: The other run's, of the same rows in the same order.
        count: Of rows, at least 2.
    """
    import numpy as np
    from scipy import stats

    def difference(one: Any, other: Any, axis: int = -1) -> Any:  # noqa: ARG001 (scipy's call; rows are the last)
        return second(other) - first(one)

    rows = np.arange(count)
    done = stats.bootstrap(
        (rows, rows),
        difference,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _HELD // count),
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(float(difference(rows, rows)), float(done.low), float(done.high))


def over_rows(task: Task, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Callable[[Any], Any]:
    """A function from (..., n) row numbers, which may repeat, to (...) values of a metric over those rows."""
    import numpy as np

    parts = [task.ratios(row, names).get(metric) for row in rows]
    if None in parts:
        return np.vectorize(task.resampled(metric, rows, names), signature="(n)->()", otypes=[float])
    above, below = np.array(parts, dtype=float).T

    def ratio(numbers: Any) -> Any:
        total = below[numbers].sum(axis=-1)
        return np.divide(above[numbers].sum(axis=-1), total, out=np.zeros_like(total), where=total != 0)

    return ratio


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of at least two seeds with Student's interval; without width where all are one value."""
    import numpy as np
    from scipy import stats

    mean = float(np.mean(values))
    if _is_constant(values):
        return Interval(mean, mean, mean)
    low, high = stats.t.interval(LEVEL, len(values) - 1, loc=mean, scale=stats.sem(values))
    return Interval(mean, float(low), float(high))


def seeds_test(first: Mapping[str, float], second: Mapping[str, float]) -> tuple[str, Interval] | None:
    """The name of the test and the difference of two means, second minus first; None where nothing varies.

    Args:
        first: Seed -> value, of at least two. Where both have the same seeds they are paired; else Welch's test.
        second: Those of the other group.
    """
    import numpy as np
    from scipy import stats

    paired = first.keys() == second.keys()
    one, other = [*first.values()], [second[seed] for seed in (first if paired else second)]
    varying = [np.subtract(other, one)] if paired else [one, other]
    if all(_is_constant(values) for values in varying):
        return None
    done = stats.ttest_rel(other, one) if paired else stats.ttest_ind(other, one, equal_var=False)
    low, high = done.confidence_interval(LEVEL)
    value = float(np.mean(other) - np.mean(one))
    name = "paired t-test over the same seeds" if paired else "Welch's t-test"
    return name, Interval(value, float(low), float(high), float(done.pvalue))


def _is_constant(values: Any) -> bool:
    """Whether all values are one, but for how numbers are rounded, of which scipy would warn."""
    import numpy as np

    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def adjusted(values: Sequence[float]) -> list[float]:
    """p-values after Benjamini and Hochberg, for so many tests at once."""
    from scipy import stats

    return [float(p) for p in stats.false_discovery_control(values)] if values else []
