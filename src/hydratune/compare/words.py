"""Differences in plain English."""

from __future__ import annotations

from dataclasses import dataclass

from hydratune.intervals import LEVEL, Interval
from hydratune.tasks.base import LESS_IS_BETTER

ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Unit:
    """In what a difference is told: points of a hundred for shares, else the metric as it is."""

    metric: str
    is_share: bool

    def amounts(self, *values: float) -> list[str]:
        """The numbers, all with as many decimals as the smallest needs."""
        if not self.is_share:
            return [f"{value:.3g}" for value in values]
        points = [100 * value for value in values]
        decimals = 1 if all(abs(value) >= 0.1 or value == 0 for value in points) else 2
        return [f"{value:.{decimals}f}" for value in points]

    @property
    def name(self) -> str:
        """What stands behind the number."""
        return "points" if self.is_share else self.metric


@dataclass(frozen=True)
class Comparison:
    """Two sides and the difference of a metric between them, second minus first.

    Args:
        first: The letter of a run, or what a group of seeds is called.
        second: The other one.
        unit: Of the metric.
        place: Where it was measured, e.g. `test`.
        method: The test.
        interval: The difference and how sure it is.
        tests: How many tests were made at once, for which `interval.p` was adjusted.
    """

    first: str
    second: str
    unit: Unit
    place: str
    method: str
    interval: Interval
    tests: int = 1

    @property
    def better(self) -> str | None:
        """The side that is better by more than chance; None where there is no evidence."""
        low, high, p = self.interval.low, self.interval.high, self.interval.p
        if low <= 0 <= high or (p is not None and p >= ALPHA):
            return None
        return self.second if (low > 0) != (self.unit.metric in LESS_IS_BETTER) else self.first

    def sentence(self) -> str:
        """What a reader needs to know."""
        value, low, high = self.interval.value, self.interval.low, self.interval.high
        how = f"({self.place} {self.unit.metric}, {self.method}{self._chance()})"
        if self.better is None:
            said = self.unit.amounts(value, low, high)
            what = f"{self.second} minus {self.first} is {said[0]} {self.unit.name}"
            between = f"no evidence of a difference between {self.first} and {self.second}"
            return f"{between}: {what}, 95 % interval {said[1]} to {said[2]} {how}"
        worse = self.first if self.better == self.second else self.second
        said = self.unit.amounts(abs(value), *sorted((abs(low), abs(high))))
        by = f"by {said[0]} {self.unit.name}, 95 % interval {said[1]} to {said[2]}"
        return f"{self.better} is better than {worse} {by} {how}"

    def _chance(self) -> str:
        if self.interval.p is None:
            return ""
        told = f"p {self.interval.p:.2g}" if self.interval.p >= 0.0001 else "p below 0.0001"
        return f", {told}" + (f" adjusted for {self.tests} tests" if self.tests > 1 else "")


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    values: dict[str, float]
    metric: str
    place: str
    interval: Interval

    def sentence(self) -> str:
        """The mean and how sure it is."""
        low, mean, high = (f"{v:.4g}" for v in (self.interval.low, self.interval.value, self.interval.high))
        seeds = f"{len(self.values)} seeds"
        return f"{self.name}: {self.place} {self.metric} {mean}, 95 % interval {low} to {high} (mean of {seeds}, t)"
