"""Sentences that describe differences and groups of runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hydratune.utils.stats import ANY, LEVEL, MIN_SEEDS, TOO_FEW_SEEDS, Interval, Scale

ALPHA = 1 - LEVEL
NOT_TESTED = "not tested"  # begins a sentence about runs without a verdict, before the reason


@dataclass(frozen=True)
class Unit:
    """Unit of a difference: percentage points for shares, else the unit of the metric.

    Args:
        metric: Name of the metric.
        is_share: Whether the metric is a share from 0 to 1.
        scale: Range of the metric.
        higher_is_better: Direction of the metric.
    """

    metric: str
    is_share: bool
    scale: Scale = ANY
    higher_is_better: bool = True

    def amounts(self, *values: float) -> list[str]:
        """Return the numbers as text; percentage points all have as many decimals as the smallest needs."""
        if not self.is_share:
            return [f"{value:.3g}" for value in values]
        points = [100 * value for value in values]
        decimals = 1 if all(abs(value) >= 0.1 or value == 0 for value in points) else 2
        return [f"{value:.{decimals}f}" for value in points]

    @property
    def name(self) -> str:
        """Word after the number."""
        return "points" if self.is_share else self.metric

    def difference(self, first: str, second: str, value: float, *bounds: float) -> str:
        """Return the difference of two sides, second minus first, as a clause, with the bounds of its interval."""
        amount, *limits = self.amounts(value, *bounds)
        interval = f", 95% interval {' to '.join(limits)}" if limits else ""
        return f"{second} minus {first} is {amount} {self.name}{interval}"

    def clip(self, interval: Interval) -> Interval:
        """Return the interval of a difference, limited to the largest possible difference."""
        max_difference = self.scale.high - self.scale.low
        if interval.low is None or interval.high is None or not math.isfinite(max_difference):
            return interval
        return Interval(
            interval.value, max(interval.low, -max_difference), min(interval.high, max_difference), interval.p
        )


@dataclass(frozen=True)
class Comparison:
    """Difference of a metric between two runs or two groups of runs, second minus first.

    Args:
        first: Letter of a run, or name of a group of seeds.
        second: Letter or name of the other side.
        unit: Unit of the metric.
        place: Place of the measurement, e.g. `test`.
        method: Name of the test.
        scope: Models, configurations, and rows that the verdict holds for.
        interval: Difference with its interval and p-value.
        tests: Number of tests that the limits and the p-value of `interval` are adjusted for.
        refusal: Reason for no verdict, regardless of the numbers; empty if there is a verdict.
    """

    first: str
    second: str
    unit: Unit
    place: str
    method: str
    scope: str
    interval: Interval
    tests: int = 1
    refusal: str = ""

    @property
    def better(self) -> str | None:
        """Side with a statistically significant advantage; None if there is no evidence of a difference."""
        interval = self.interval
        if self.refusal or not interval.excludes_zero or (interval.p is not None and interval.p >= ALPHA):
            return None
        return self.second if (interval.value > 0) == self.unit.higher_is_better else self.first

    def sentence(self) -> str:
        """Return the finding, its numbers, and its scope as a sentence.

        It begins with `inconclusive` if neither side is better, and with `not tested` if the numbers allow no verdict.
        """
        value, low, high = self.interval.value, self.interval.low, self.interval.high
        details = f"({self.place} {self.unit.metric}, {self.method}{self._chance()}; {self.scope})"
        if self.better is not None and low is not None and high is not None:
            worse = self.first if self.better == self.second else self.second
            amounts = self.unit.amounts(abs(value), *sorted((abs(low), abs(high))))
            advantage = f"by {amounts[0]} {self.unit.name}, 95% interval {amounts[1]} to {amounts[2]}"
            return f"{self.better} is better than {worse} {advantage} {details}"
        if self.refusal:
            finding = f"{NOT_TESTED}: {self.refusal}"
        else:
            finding = f"inconclusive: either {self.first} or {self.second} may be better"
        # Resamples of equal scores have no variance.
        bounds = () if low is None or high is None or low == high else (low, high)
        return f"{finding}; {self.unit.difference(self.first, self.second, value, *bounds)} {details}"

    def _chance(self) -> str:
        if self.interval.p is None:
            return ""
        text = f"p {self.interval.p:.2g}" if self.interval.p >= 0.0001 else "p below 0.0001"
        text += " without a verdict" if self.refusal else ""  # else it would look like the verdict that is refused
        return f", {text}" + (f", interval and p adjusted for {self.tests} tests" if self.tests > 1 else "")


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Args:
        name: Name of the group.
        values: Seed -> value of the metric.
        metric: Name of the metric.
        place: Place of the measurement, e.g. `test`.
        interval: Mean over seeds with its confidence interval.
    """

    name: str
    values: dict[str, float]
    metric: str
    place: str
    interval: Interval

    def sentence(self) -> str:
        """Return the mean and its confidence interval as a sentence, or the reason for no interval."""
        mean, low, high = self.interval.value, self.interval.low, self.interval.high
        prefix, count = f"{self.name}: {self.place} {self.metric}", len(self.values)
        if low is not None and high is not None:
            equal = len({*self.values.values()}) == 1
            basis = f"{count} equal seeds, sampling error of the rows" if equal else f"mean of {count} seeds, t"
            return f"{prefix} {mean:.4g}, 95% interval {low:.4g} to {high:.4g} ({basis})"
        if count < MIN_SEEDS:
            lowest, highest = min(self.values.values()), max(self.values.values())
            return f"{prefix} {lowest:.4g} to {highest:.4g} (range of {count} seeds, {TOO_FEW_SEEDS})"
        return f"{prefix} {mean:.4g} with each of {count} seeds, so the variance over seeds is unknown"
