"""Names and values of metrics over several validation or test sets: `news_f1` of one set, `mean_f1` and `min_f1`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from hydratune.tasks.metrics.metric import Metric

Definitions = Mapping[str, Metric]


def lookup(name: str, definitions: Definitions) -> Metric | None:
    """Return the definition of a metric; None for other numbers.

    The name may also be a part of a metric (`f1_person`), the metric of a set (`news_f1`), or a summary over sets
    (`mean_f1`).
    """
    rest = name
    while rest:
        if rest in definitions:
            return definitions[rest]
        prefixes = [prefix for prefix in definitions if rest.startswith(f"{prefix}_")]
        if prefixes:
            return definitions[max(prefixes, key=len)]
        rest = rest.partition("_")[2]
    return None


def summaries(name: str, metric: Metric) -> tuple[str, str]:
    """Return the names of the mean over sets and of the worst set: the minimum, or the maximum if lower is better."""
    return f"mean_{name}", f"{'min' if metric.higher_is_better else 'max'}_{name}"


def with_sets(names: Sequence[str], sets: Iterable[str], definitions: Definitions) -> list[str]:
    """Return the names of metrics over several sets; `names` themselves if there is only one set, without a name."""
    if not (sets := [name for name in sets if name]):
        return [*names]
    metrics = [(name, metric) for name in names if (metric := lookup(name, definitions))]
    over_sets = [summary for name, metric in metrics for summary in summaries(name, metric)]
    return [*over_sets, *(f"{name_of_set}_{name}" for name_of_set in sets for name in names)]


def over_sets(
    by_set: Mapping[str, Mapping[str, float]], definition: Callable[[str], Metric | None]
) -> Iterator[tuple[str, float]]:
    """Yield name and value of each summary over sets, for the metrics that all sets have.

    Args:
        by_set: Set -> name of a metric -> value.
        definition: Name of a metric -> its definition; None for other numbers.
    """
    first, *others = by_set.values()
    for name in first:
        metric = definition(name)
        if metric is None or not all(name in values for values in others):
            continue
        values = [float(metrics[name]) for metrics in by_set.values()]
        mean_name, worst_name = summaries(name, metric)
        yield mean_name, statistics.fmean(values)
        yield worst_name, min(values) if metric.higher_is_better else max(values)
