"""How sure a mean over seeds is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value, and between what it lies in 95 of 100 cases; `p` is of the test that there is none."""

    value: float
    low: float
    high: float
    p: float | None = None


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of at least two seeds with Student's interval; without width where all are one value."""
    import numpy as np
    from scipy import stats

    mean = float(np.mean(values))
    if is_constant(values):
        return Interval(mean, mean, mean)
    low, high = stats.t.interval(LEVEL, len(values) - 1, loc=mean, scale=stats.sem(values))
    return Interval(mean, float(low), float(high))


def is_constant(values: Any) -> bool:
    """Whether all values are one, but for how numbers are rounded, of which scipy would warn."""
    import numpy as np

    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())
