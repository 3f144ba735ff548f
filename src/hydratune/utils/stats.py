"""Confidence intervals of scores over seeds, and of proportions over rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydratune.utils.short_forms import number_text

LEVEL = 0.95
MIN_SEEDS = 3  # with two, Student's quantile is 12.7 standard errors: such an interval is not informative
TOO_FEW_SEEDS = "too few seeds to tell"
# Metrics that are the proportion of correct rows. Their value and the number of rows determine their sampling error.
PROPORTIONS = ("accuracy", "exact_match", "subset_accuracy")


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval; `low` and `high` are None without an interval.

    Args:
        value: The estimate.
        low: The lower limit.
        high: The upper limit.
        p: p-value of the test that the value is 0; None without such a test.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Return whether there is an interval and 0 is outside it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Scale:
    """The possible values of a metric, and the number of rows that it was measured on.

    Args:
        low: The lowest possible value.
        high: The highest possible value.
        rows: Number of rows that a proportion was measured on; None for other metrics, or if it is not recorded.
    """

    low: float = -math.inf
    high: float = math.inf
    rows: int | None = None

    def clip(self, value: float) -> float:
        """Return the value, limited to the possible values."""
        return min(max(value, self.low), self.high)


ANY = Scale()


def mean_interval(values: Sequence[float], scale: Scale = ANY, overlap: float = 0) -> Interval:
    """Return the mean over seeds with Student's t-interval, limited to the possible values.

    Below `MIN_SEEDS`, the mean has no interval. Equal scores do not tell how much another seed would change. Their
    interval is the sampling error of the test set if that is known; otherwise they have no interval.

    Args:
        values: The score with each seed, at least one.
        scale: Scale of the metric.
        overlap: Validation rows per training row if the values are those of folds, whose training rows overlap. The
            variance of the mean is then larger (Nadeau & Bengio, Machine Learning 52, 2003).
    """
    import numpy as np
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < MIN_SEEDS:
        return Interval(mean)
    if is_constant(values):
        return wilson_interval(mean, scale) if scale.rows and math.isfinite(scale.high) else Interval(mean)
    low, high = stats.t.interval(
        LEVEL, len(values) - 1, loc=mean, scale=stats.sem(values) * math.sqrt(1 + len(values) * overlap)
    )
    return Interval(mean, scale.clip(float(low)), scale.clip(float(high)))


def wilson_interval(value: float, scale: Scale) -> Interval:
    """Return the score interval of a proportion (Wilson, JASA 22, 1927), which has a width also at 0 and at 1."""
    from scipy import stats

    assert scale.rows  # callers check that it is known
    correct = round(scale.rows * value / scale.high)
    interval = stats.binomtest(correct, scale.rows).proportion_ci(LEVEL, method="wilson")
    return Interval(value, scale.high * float(interval.low), scale.high * float(interval.high))


def interval_text(values: Sequence[float], interval: Interval) -> str:
    """Return the limits for a table; without an interval, the range of the values, or why there is none."""
    if interval.low is not None and interval.high is not None:
        return f"{number_text(interval.low)} to {number_text(interval.high)}"
    if len(values) == 1:
        return TOO_FEW_SEEDS
    if len(values) < MIN_SEEDS:
        return f"{number_text(min(values))} to {number_text(max(values))} (range of {len(values)} runs)"
    return "the same with every seed"


def is_constant(values: Any) -> bool:
    """Return whether all values are equal up to rounding, a case in which SciPy would warn."""
    import numpy as np

    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())
