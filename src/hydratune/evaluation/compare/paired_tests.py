"""Significance tests and confidence intervals for differences between runs that were tested on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydratune.tasks.base import Task
from hydratune.utils.stats import LEVEL, Interval

RESAMPLES = 2000
SEED = 0
MIN_DIFFERING = 10  # number of units that must differ for a verdict
_AT_ONCE = 2_000_000  # maximum size of a batch of resamples, in numbers, which limits memory
_BLOCKS = 100  # number of jackknife blocks for metrics where each value takes a pass over all rows
_PREDICTIONS = ("prediction", "predictions")  # keys of a decoded row with predictions, not true labels
_PROBABILITIES = ("probability", "probabilities")  # and those with probabilities, which only some metrics depend on


class RowScores:
    """A metric of several runs over the same rows, for resamples and permutations of these rows.

    Rows of one group (a document, the context of a question) are not independent, so they are drawn and exchanged
    together as one *unit*. Without groups, each row is a unit.

    Args:
        task: Task of the runs.
        metric: A metric that `task.metrics_from_predictions` computes.
        runs: Decoded rows of each run, in the same order.
        names: Names of the labels, in the order of their ids.
        groups: Group of each row; None if rows are independent.
        seed: Seed of the resamples; different test sets need different ones.
    """

    def __init__(
        self,
        task: Task,
        metric: str,
        runs: Sequence[Sequence[Mapping[str, Any]]],
        names: Sequence[str],
        groups: Sequence[Any] | None = None,
        seed: int = SEED,
    ) -> None:
        import numpy as np

        self._seed = seed
        self._rows = len(runs[0])
        rows_by_unit: dict[Any, list[int]] = {}
        for row in range(self._rows):
            rows_by_unit.setdefault(groups[row] if groups else row, []).append(row)
        self._members = [np.array(rows) for rows in rows_by_unit.values()]
        self.units = len(self._members)
        self._parts = _parts(task, metric, runs, names)
        definition = task.metric(metric)
        keys = (*_PREDICTIONS, *(_PROBABILITIES if definition and definition.needs_confidences else ()))
        self._predictions = [[[row.get(key) for key in keys] for row in rows] for rows in runs]
        if self._parts is None:
            pooled_rows = [row for rows in runs for row in rows]
            self._score: Callable[[Any], float] = task.bootstrap_metric(metric, pooled_rows, names)
        else:
            unit_of_row = np.empty(self._rows, dtype=int)
            for i, members in enumerate(self._members):
                unit_of_row[members] = i
            # Shape (runs, 2, units). The metric is the quotient of two sums over rows. Adding up each unit once turns
            # thousands of resamples into one matrix product.
            self._sums = np.stack(
                [[np.bincount(unit_of_row, terms, self.units) for terms in run_terms.T] for run_terms in self._parts]
            )

    @property
    def is_grouped(self) -> bool:
        """Return whether some units have several rows."""
        return self.units < self._rows

    def observed(self) -> Any:
        """Return the metric over all rows, of shape (runs,)."""
        import numpy as np

        return self.drawn(np.arange(self.units)[None])[:, 0]

    def drawn(self, draws: Any) -> Any:
        """Return the metric over drawn units, of shape (runs, draws).

        Args:
            draws: Numbers of units, of shape (draws, any number); they may repeat.
        """
        import numpy as np

        if self._parts is not None:
            weights = np.stack([np.bincount(draw, minlength=self.units) for draw in draws]).astype(float)
            return _quotient(self._sums @ weights.T)
        draw_rows = [np.concatenate([self._members[unit] for unit in draw]) for draw in draws]
        return np.array(
            [[self._score(run * self._rows + rows) for rows in draw_rows] for run in range(len(self._predictions))]
        )

    def resampled(self) -> Any:
        """Return the metric over units drawn with replacement, of shape (runs, RESAMPLES).

        All runs use the same draws, so that their differences are paired.
        """
        import numpy as np

        random = np.random.default_rng(self._seed)
        sizes = _batches(RESAMPLES, self.units)
        return np.concatenate([self.drawn(random.integers(self.units, size=(n, self.units))) for n in sizes], axis=1)

    def jackknife(self) -> Any:
        """Return the metric without each unit or each of `_BLOCKS` blocks of units in turn, of shape (runs, blocks)."""
        import numpy as np

        if self._parts is not None:
            return _quotient(self._sums.sum(axis=2, keepdims=True) - self._sums)
        blocks = np.arange(self.units) % min(_BLOCKS, self.units)
        scores = [self.drawn(np.flatnonzero(blocks != i)[None]) for i in range(blocks.max() + 1)]
        return np.concatenate(scores, axis=1)

    def exchanged(self, first: int, second: int) -> Any:
        """Return the metric of two runs, of shape (2, RESAMPLES), after exchanges of their predictions.

        Each resample exchanges the predictions of each unit between the runs with probability 1/2. If the runs do not
        differ, their differences have the distribution of the observed difference.
        """
        import numpy as np

        random = np.random.default_rng(self._seed)
        scores = []
        for n in _batches(RESAMPLES, self.units):
            swap = random.integers(2, size=(n, self.units), dtype=bool)
            scores.append([self._mixed(first, second, swap), self._mixed(first, second, ~swap)])
        return np.concatenate(scores, axis=1)

    def differing(self, first: int, second: int) -> int:
        """Return the number of units that two runs score differently, or predict differently if units have no score."""
        if self._parts is not None:
            return int((self._sums[first] != self._sums[second]).any(axis=0).sum())
        first_predictions, second_predictions = self._predictions[first], self._predictions[second]
        return sum(
            any(first_predictions[row] != second_predictions[row] for row in members) for members in self._members
        )

    def right_or_wrong(self, first: int, second: int) -> tuple[int, int, float] | None:
        """Count the rows that only one of two runs gets right.

        Returns:
            The number of rows that only the second run gets right, the number for the first run, and the score of a
            right row. None if rows can be partly right, or if they are not independent.
        """
        import numpy as np

        if self._parts is None or self.is_grouped:
            return None
        scores, weights = self._parts[[first, second], :, 0], self._parts[[first, second], :, 1]
        right_score = scores.max()
        if right_score not in (1, 100) or (weights != 1).any() or not np.isin(scores, (0, right_score)).all():
            return None
        first_scores, second_scores = scores
        return int((second_scores > first_scores).sum()), int((first_scores > second_scores).sum()), float(right_score)

    def _mixed(self, first: int, second: int, swap: Any) -> Any:
        """Return the metric of the first run with swapped units taken from the second run, of shape (draws,).

        Args:
            first: Number of the first run.
            second: Number of the second run.
            swap: Whether each unit is taken from the second run, of shape (draws, units).
        """
        import numpy as np

        if self._parts is not None:
            first_sums, second_sums = self._sums[first], self._sums[second]
            return _quotient((first_sums.sum(axis=1) + swap @ (second_sums - first_sums).T).T)
        scores = []
        for draw in swap:
            run_of_row = np.empty(self._rows, dtype=int)
            for members, swapped in zip(self._members, draw, strict=True):
                run_of_row[members] = second if swapped else first
            scores.append(self._score(run_of_row * self._rows + np.arange(self._rows)))
        return np.array(scores)


class SummaryScores:
    """Mean, minimum, or maximum of a metric over test sets, with the interface of `RowScores`.

    Units are drawn and exchanged within their set, so each resample has as many rows of a set as the set has.

    Args:
        sets: Scores of each set, with different seeds.
        summary: Function of NumPy that reduces an axis, e.g. `numpy.mean`.
    """

    def __init__(self, sets: Sequence[RowScores], summary: Callable[..., Any]) -> None:
        self._sets, self._summary = sets, summary
        self.units = sum(scores.units for scores in sets)
        self.is_grouped = any(scores.is_grouped for scores in sets)

    def observed(self) -> Any:
        """Return the summary of all rows, of shape (runs,)."""
        return self._summary([scores.observed() for scores in self._sets], axis=0)

    def resampled(self) -> Any:
        """Return the summary over units drawn with replacement from each set, of shape (runs, RESAMPLES)."""
        return self._summary([scores.resampled() for scores in self._sets], axis=0)

    def jackknife(self) -> Any:
        """Return the summary without each unit or block of units of each set in turn, of shape (runs, blocks)."""
        import numpy as np

        observed = [scores.observed()[:, None] for scores in self._sets]
        without = []
        for number, scores in enumerate(self._sets):
            changed = scores.jackknife()
            others = [np.broadcast_to(values, changed.shape) for i, values in enumerate(observed) if i != number]
            without.append(self._summary([changed, *others], axis=0))
        return np.concatenate(without, axis=1)

    def exchanged(self, first: int, second: int) -> Any:
        """Return the summary of two runs, of shape (2, RESAMPLES), after exchanges of their predictions."""
        return self._summary([scores.exchanged(first, second) for scores in self._sets], axis=0)

    def differing(self, first: int, second: int) -> int:
        """Return the number of units that two runs score or predict differently."""
        return sum(scores.differing(first, second) for scores in self._sets)

    def right_or_wrong(self, first: int, second: int) -> None:
        """Return None, since rows of a small set count more than those of a large one."""


Scores = RowScores | SummaryScores


def paired_test(scores: Scores, first: int, second: int) -> tuple[str, Interval]:
    """Return the name of the test, and the difference of two runs, second minus first, with interval and p-value.

    For rows that are right or wrong, use the exact McNemar test and Tango's score interval. For other metrics, use a
    permutation test that exchanges the predictions of the two runs for a row, and a bootstrap interval (BCa). The
    permutation test is approximate randomization: Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989;
    Yeh, COLING 2000.
    """
    import numpy as np

    before, after = scores.observed()[[first, second]]
    value = float(after - before)
    if not scores.differing(first, second):
        return "no significance test", Interval(value)
    if counts := scores.right_or_wrong(first, second):
        gained, lost, right_score = counts
        limits = score_interval(gained, lost, scores.units)
        interval = Interval(value, right_score * limits[0], right_score * limits[1], mcnemar(gained, lost))
        return "exact McNemar test, score interval", interval
    exchanged = np.abs(np.subtract(*scores.exchanged(first, second)))
    # Counting the observed difference as one permutation keeps the test valid (Phipson and Smyth, SAGMB 9, 2010).
    # The tolerance counts permutations that equal the observed difference up to rounding errors.
    p = float((1 + (exchanged >= abs(value) - 1e-12).sum()) / (1 + RESAMPLES))
    resampled, jackknifed = (values[second] - values[first] for values in (scores.resampled(), scores.jackknife()))
    low, high = bca_interval(value, resampled, jackknifed)
    return f"permutation test, BCa bootstrap, {RESAMPLES:,} resamples", Interval(value, low, high, p)


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (Psychometrika 12, 1947), a sign test of differing rows."""
    from scipy import stats

    return float(stats.binomtest(gained, gained + lost).pvalue)


def score_interval(gained: int, lost: int, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the score interval of the difference of two paired proportions (Tango, Statistics in Medicine 17, 1998).

    It excludes 0 if McNemar's test without continuity correction is significant.

    Args:
        gained: Number of rows that only the second run gets right.
        lost: Number of rows that only the first run gets right.
        count: Number of all rows.
        level: Confidence level.
    """
    from scipy import optimize, stats

    def statistic(delta: float) -> float:
        """Return (difference - `delta`) in standard errors, with the variance under the hypothesis `delta`."""
        b = (2 * count - gained + lost) * delta - gained - lost
        c = -lost * delta * (1 - delta)
        nuisance = ((b * b - 8 * count * c) ** 0.5 - b) / (4 * count)  # the probability of a lost row at `delta`
        variance = max(count * (2 * nuisance + delta * (1 - delta)), 0.0)
        deviation = gained - lost - count * delta
        return deviation / variance**0.5 if variance > 0 else 0.0 if deviation == 0 else float("inf") * deviation

    z = float(stats.norm.ppf((1 + level) / 2))
    value, limit = (gained - lost) / count, 1 - 1e-9
    low = -1.0 if statistic(-limit) < z else optimize.brentq(lambda delta: statistic(delta) - z, -limit, value)
    high = 1.0 if statistic(limit) > -z else optimize.brentq(lambda delta: statistic(delta) + z, value, limit)
    return float(low), float(high)


def bca_interval(value: float, resampled: Any, without: Any) -> tuple[float | None, float | None]:
    """Return the bias-corrected and accelerated (BCa) bootstrap interval, like `scipy.stats.bootstrap`.

    Source: Efron, JASA 82, 1987. If the correction is undefined, return the percentile interval. If the resamples do
    not vary, return (None, None).

    Args:
        value: Statistic over all rows.
        resampled: Statistic over units drawn with replacement, of shape (resamples,).
        without: Statistic without each unit, or block of units, in turn, of shape (blocks,).
    """
    import numpy as np
    from scipy import stats

    if np.ptp(resampled) == 0:
        return None, None
    levels = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Ties count half, which matters for metrics with few distinct values.
    bias = stats.norm.ppf(((resampled < value).mean() + (resampled <= value).mean()) / 2)
    distance = without.mean() - without
    sum_of_squares = (distance**2).sum()
    if np.isfinite(bias) and sum_of_squares > 0:
        acceleration = (distance**3).sum() / (6 * sum_of_squares**1.5)
        shifted = bias + stats.norm.ppf(levels)
        levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(resampled, levels)
    return float(low), float(high)


def against_best(scores: Scores, best: int) -> list[Interval]:
    """Return the difference of each run to the best one, best minus run, adjusted for all pairs of runs.

    Method: single-step max-T (Westfall and Young, Resampling-Based Multiple Testing, 1993; Romano and Wolf, JASA 100,
    2005). The largest studentized difference in each resample gives the distribution of the largest difference by
    chance. All pairs count, and not only pairs with the best run, because the same rows selected the best run.
    """
    import numpy as np

    observed, resampled = scores.observed(), scores.resampled()
    count, max_statistics = len(observed), np.zeros(RESAMPLES)
    standard_errors = np.zeros((count, count))
    for i in range(count):
        differences = resampled[i] - resampled[i + 1 :]
        standard_errors[i, i + 1 :] = standard_errors[i + 1 :, i] = deviation = differences.std(axis=1, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            centered = np.abs(differences - (observed[i] - observed[i + 1 :])[:, None]) / deviation[:, None]
        if len(centered):  # the last run has no later one, and pairs that never differ have no statistic
            max_statistics = np.maximum(max_statistics, np.nan_to_num(centered, nan=0.0, posinf=0.0).max(axis=0))
    critical = float(np.quantile(max_statistics, LEVEL))
    intervals = []
    for value, error in zip(observed[best] - observed, standard_errors[best], strict=True):
        if error == 0:
            intervals.append(Interval(float(value)))
            continue
        p = float((1 + (max_statistics >= abs(value) / error).sum()) / (1 + RESAMPLES))
        intervals.append(Interval(float(value), float(value - critical * error), float(value + critical * error), p))
    return intervals


def _parts(task: Task, metric: str, runs: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> Any:
    """Return each row's terms of the two sums whose quotient is the metric, of shape (runs, rows, 2).

    Return None if the metric is not a quotient of sums over rows.
    """
    import numpy as np

    terms = [[task.row_contributions(row, names).get(metric) for row in rows] for rows in runs]
    if any(term is None for rows in terms for term in rows):
        return None
    return np.array(terms, dtype=float)


def _quotient(sums: Any) -> Any:
    """Return the quotients of sums of shape (runs, 2, n) or (2, n), and 0 where the divisor is 0."""
    import numpy as np

    numerators, denominators = (sums[:, 0], sums[:, 1]) if sums.ndim == 3 else sums
    return np.divide(numerators, denominators, out=np.zeros_like(numerators, dtype=float), where=denominators != 0)


def _batches(count: int, width: int) -> Iterator[int]:
    """Yield batch sizes that add up to `count`, so that a batch of rows of `width` numbers has at most `_AT_ONCE`."""
    size = max(1, _AT_ONCE // width)
    for start in range(0, count, size):
        yield min(size, count - start)
