"""How sure a difference is: intervals and tests of scipy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydratune.intervals import LEVEL, Interval, is_constant
from hydratune.tasks.base import Task

RESAMPLES = 2000
SEED = 0
_HELD = 2_000_000  # row numbers at once


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
    if all(is_constant(values) for values in varying):
        return None
    done = stats.ttest_rel(other, one) if paired else stats.ttest_ind(other, one, equal_var=False)
    low, high = done.confidence_interval(LEVEL)
    value = float(np.mean(other) - np.mean(one))
    name = "paired t-test over the same seeds" if paired else "Welch's t-test"
    return name, Interval(value, float(low), float(high), float(done.pvalue))


def adjusted(values: Sequence[float]) -> list[float]:
    """p-values after Benjamini and Hochberg, for so many tests at once."""
    from scipy import stats

    return [float(p) for p in stats.false_discovery_control(values)] if values else []
