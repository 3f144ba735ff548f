"""Comparison of groups of runs that differ only in their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from hydratune.evaluation.compare.wording import Comparison, Group, Unit
from hydratune.utils.stats import LEVEL, MIN_SEEDS, TOO_FEW_SEEDS, Interval, is_constant

_SETS = {"test": "test", "best": "validation", "eval": "validation"}


def compare_groups(groups: Sequence[Group], unit: Unit) -> tuple[list[Comparison], list[str]]:
    """Compare each pair of groups, adjusted for the number of tests (Bonferroni).

    Returns:
        The comparisons, and a sentence for each pair without a possible test.
    """
    pairs = list(combinations(groups, 2))
    testable = [pair for pair in pairs if all(len(group.values) >= MIN_SEEDS for group in pair)]
    comparisons, remarks = [], []
    for first, second in pairs:
        scope = f"these configurations over seeds, on this fixed {_SETS[first.place]} set"
        if (first, second) not in testable:
            counts = f"{len(first.values)} and {len(second.values)}"
            difference = Interval(second.interval.value - first.interval.value)
            refusal = f"{TOO_FEW_SEEDS} {first.name} and {second.name} apart ({counts}, at least {MIN_SEEDS} each)"
            comparisons.append(
                Comparison(
                    first.name,
                    second.name,
                    unit,
                    first.place,
                    "no significance test",
                    scope,
                    difference,
                    refusal=refusal,
                )
            )
            continue
        test_result = seeds_test(first.values, second.values, len(testable))
        if test_result is None:
            remarks.append(f"{first.name} and {second.name} do not vary from seed to seed: no test is possible")
            continue
        method, interval = test_result
        comparisons.append(
            Comparison(
                first.name, second.name, unit, first.place, method, scope, unit.clip(interval), tests=len(testable)
            )
        )
    return comparisons, remarks


def seeds_test(first: Mapping[str, float], second: Mapping[str, float], tests: int = 1) -> tuple[str, Interval] | None:
    """Test the difference of two means, second minus first.

    If both groups have the same seeds, use the paired t-test, else Welch's t-test.

    Args:
        first: Seed -> value, for at least two seeds.
        second: Seed -> value of the other group.
        tests: Number of tests that the p-value and the interval are adjusted for.

    Returns:
        The name of the test, and the difference with its interval and p-value; None if the values do not vary.
    """
    import numpy as np
    from scipy import stats

    paired = first.keys() == second.keys()
    first_values, second_values = [*first.values()], [second[seed] for seed in (first if paired else second)]
    varying = [np.subtract(second_values, first_values)] if paired else [first_values, second_values]
    if all(is_constant(values) for values in varying):
        return None
    result = (
        stats.ttest_rel(second_values, first_values)
        if paired
        else stats.ttest_ind(second_values, first_values, equal_var=False)
    )
    low, high = result.confidence_interval(1 - (1 - LEVEL) / tests)
    value = float(np.mean(second_values) - np.mean(first_values))
    name = "paired t-test over the same seeds" if paired else "Welch's t-test"
    return name, Interval(value, float(low), float(high), min(1.0, tests * float(result.pvalue)))
