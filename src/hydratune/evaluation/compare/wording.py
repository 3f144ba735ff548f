"""Differences in plain English."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hydratune.utils.stats import ANY, LEVEL, MIN_SEEDS, TOO_FEW_SEEDS, Interval, Scale

ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Unit:
    """Unit of a difference: percentage points for shares, else the metric as it is.

    Args:
        metric: Name of the metric.
        is_share: Whether it is a share from 0 to 1.
        scale: The values that the metric can have.
        higher_is_better: Its direction.
    """

    metric: str
    is_share: bool
    scale: Scale = ANY
    higher_is_better: bool = True

    def amounts(self, *values: float) -> list[str]:
        """The numbers, all with as many decimals as the smallest needs."""
        if not self.is_share:
            return [f"{value:.3g}" for value in values]
        points = [100 * value for value in values]
        decimals = 1 if all(abs(value) >= 0.1 or value == 0 for value in points) else 2
        return [f"{value:.{decimals}f}" for value in points]

    @property
    def name(self) -> str:
        """The word after the number."""
        return "points" if self.is_share else self.metric

    def clip(self, interval: Interval) -> Interval:
        """The interval of a difference, limited to what two possible values can differ by."""
        most = self.scale.high - self.scale.low
        if interval.low is None or interval.high is None or not math.isfinite(most):
            return interval
        return Interval(interval.value, max(interval.low, -most), min(interval.high, most), interval.p)


@dataclass(frozen=True)
class Comparison:
    """Two sides and the difference of a metric between them, second minus first.

    Args:
        first: The letter of a run, or the name of a group of seeds.
        second: The other one.
        unit: Of the metric.
        place: Where it was measured, e.g. `test`.
        method: The test.
        scope: The models, configurations, and rows that the verdict holds for.
        interval: The difference, its interval and its p-value.
        tests: How many tests `interval` is adjusted for, both its limits and its p-value.
        refusal: Why there is no verdict, whatever the numbers say; empty where there is one.
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
        """The side whose advantage is statistically significant; None where there is no evidence."""
        interval = self.interval
        if self.refusal or not interval.excludes_zero or (interval.p is not None and interval.p >= ALPHA):
            return None
        return self.second if (interval.value > 0) == self.unit.higher_is_better else self.first

    def sentence(self) -> str:
        """The finding, its numbers, and what it is about."""
        value, low, high = self.interval.value, self.interval.low, self.interval.high
        how = f"({self.place} {self.unit.metric}, {self.method}{self._chance()}; {self.scope})"
        if self.better is not None and low is not None and high is not None:
            worse = self.first if self.better == self.second else self.second
            amounts = self.unit.amounts(abs(value), *sorted((abs(low), abs(high))))
            by = f"by {amounts[0]} {self.unit.name}, 95 % interval {amounts[1]} to {amounts[2]}"
            return f"{self.better} is better than {worse} {by} {how}"
        finding = self.refusal or f"no evidence of a difference between {self.first} and {self.second}"
        if low is None or high is None or self.refusal:
            (amount,) = self.unit.amounts(value)
            return f"{finding}: {self.second} minus {self.first} is {amount} {self.unit.name} {how}"
        amounts = self.unit.amounts(value, low, high)
        difference = f"{self.second} minus {self.first} is {amounts[0]} {self.unit.name}"
        return f"{finding}: {difference}, 95 % interval {amounts[1]} to {amounts[2]} {how}"

    def _chance(self) -> str:
        if self.interval.p is None:
            return ""
        text = f"p {self.interval.p:.2g}" if self.interval.p >= 0.0001 else "p below 0.0001"
        return f", {text}" + (f", interval and p adjusted for {self.tests} tests" if self.tests > 1 else "")


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    name: str
    values: dict[str, float]
    metric: str
    place: str
    interval: Interval

    def sentence(self) -> str:
        """The mean and its confidence interval, or the reason why it has no interval."""
        mean, low, high = self.interval.value, self.interval.low, self.interval.high
        begin, count = f"{self.name}: {self.place} {self.metric}", len(self.values)
        if low is not None and high is not None:
            equal = len({*self.values.values()}) == 1
            what = f"{count} equal seeds, sampling error of the rows" if equal else f"mean of {count} seeds, t"
            return f"{begin} {mean:.4g}, 95 % interval {low:.4g} to {high:.4g} ({what})"
        if count < MIN_SEEDS:
            lowest, highest = min(self.values.values()), max(self.values.values())
            return f"{begin} {lowest:.4g} to {highest:.4g} (range of {count} seeds, {TOO_FEW_SEEDS})"
        return f"{begin} {mean:.4g} with each of {count} seeds, so the variance over seeds is unknown"
