"""Interval of learning rates that a sweep should search, from the short trials of `hydratune lr-find`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hydratune.utils.stats import PROPORTIONS

_SHARE = 0.1  # share of the distance from the median score to the best score that counts as equally good


@dataclass(frozen=True)
class RateTrial:
    """Short training with one learning rate.

    Args:
        rate: Learning rate.
        scores: Number of the evaluation, from 1 -> objective; not finite if the training diverged.
        is_complete: Whether the training ran to its end, and was not pruned.
    """

    rate: float
    scores: Mapping[int, float]
    is_complete: bool


@dataclass(frozen=True)
class Proposal:
    """Interval of learning rates for a sweep.

    Args:
        low: Lowest learning rate, rounded down to one digit.
        high: Highest learning rate, rounded up to one digit.
        best: Learning rate of the best trial.
        count: Number of trials whose score is as good, within the tolerance.
        tolerance: Difference of scores that counts as equally good.
        reaches_low: Whether the lowest rate that was tried is among them, so that lower rates may be as good.
        reaches_high: Whether the highest rate that was tried is among them.
    """

    low: float
    high: float
    best: float
    count: int
    tolerance: float
    reaches_low: bool
    reaches_high: bool


def propose(
    trials: Sequence[RateTrial], low: float, high: float, metric: str, maximize: bool, rows: int | None
) -> Proposal | None:
    """Return the interval around the best rate in which all trials are about as good; None if no trial is complete.

    A pruned trial is compared with the best one at its last evaluation. The interval ends halfway, on a logarithmic
    scale, between the last good rate and the next rate, or at the end of the search.

    Args:
        trials: Trials of one sweep, in any order.
        low: Lowest learning rate of the search.
        high: Highest learning rate of the search.
        metric: Name of the objective, e.g. `eval_accuracy`.
        maximize: Whether a higher objective is better.
        rows: Number of validation rows; None if it is unknown.
    """
    sign = 1 if maximize else -1
    ordered = sorted((trial for trial in trials if trial.scores), key=lambda trial: trial.rate)
    complete = [trial for trial in ordered if trial.is_complete and math.isfinite(_last(trial))]
    if not complete:
        return None
    best = max(complete, key=lambda trial: sign * _last(trial))
    tolerance = _tolerance([_last(trial) for trial in ordered], _last(best), metric, rows)
    is_good = [_is_good(trial, best, sign, tolerance) for trial in ordered]
    first = last = ordered.index(best)
    while first > 0 and is_good[first - 1]:
        first -= 1
    while last < len(ordered) - 1 and is_good[last + 1]:
        last += 1
    rates = [trial.rate for trial in ordered]
    lower = low if first == 0 else math.sqrt(rates[first - 1] * rates[first])
    upper = high if last == len(rates) - 1 else math.sqrt(rates[last] * rates[last + 1])
    ends = (max(low, _rounded(lower, math.floor)), min(high, _rounded(upper, math.ceil)))
    return Proposal(*ends, best.rate, last - first + 1, tolerance, first == 0, last == len(rates) - 1)


def _last(trial: RateTrial) -> float:
    return trial.scores[max(trial.scores)]


def _is_good(trial: RateTrial, best: RateTrial, sign: int, tolerance: float) -> bool:
    """Return whether a trial is at most `tolerance` worse than the best one after as many evaluations."""
    step = max(trial.scores)
    score, best_score = trial.scores[step], best.scores.get(step, _last(best))
    return math.isfinite(score) and sign * (best_score - score) <= tolerance


def _tolerance(scores: Sequence[float], best: float, metric: str, rows: int | None) -> float:
    """Return the difference that counts as equally good: for a proportion, at least its standard error."""
    distance = abs(statistics.median([score for score in scores if math.isfinite(score)]) - best)
    is_proportion = metric.removeprefix("eval_") in PROPORTIONS
    error = math.sqrt(best * (1 - best) / rows) if is_proportion and rows and 0 <= best <= 1 else 0.0
    return max(_SHARE * distance, error)


def _rounded(value: float, to_digit: Callable[[float], int]) -> float:
    """Return a value with one significant digit; `to_digit` is `math.floor` or `math.ceil`."""
    exponent = math.floor(math.log10(value))
    scaled = round(value / 10**exponent, 6)  # 1e-05 / 1e-05 may be slightly below 1
    return float(f"{to_digit(scaled)}e{exponent}")
