"""Decisions from probabilities: by costs, by a threshold that validation tunes, and with abstention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydratune.data.label_names import label_text
from hydratune.tasks.metrics.metric import PREDICTIONS, REFERENCES, Metric
from hydratune.tasks.probabilities import FIELD, shortest
from hydratune.utils.errors import KEY, ConfigError, Problem, similar

Costs = Mapping[str, Mapping[str, float]]  # true label -> predicted label -> cost
COSTS = "costs"  # input of a metric
_CANDIDATES = 200  # maximum thresholds that are tried

# --- costs -----------------------------------------------------------------------------------------------


def check_costs(costs: Costs | None) -> Iterator[Problem]:
    """Yield an error for each cost that is not a number of at least 0."""
    for true, row in (costs or {}).items():
        if not isinstance(row, Mapping):
            text = f"{KEY}[{true!r}] must be predicted labels with their costs, not {row!r}"
            yield Problem("costs", text, f"set {KEY}={{{true}: {{LABEL: 5}}}}")
            continue
        for predicted, cost in row.items():
            is_number = isinstance(cost, int | float) and not isinstance(cost, bool) and math.isfinite(cost)
            if not is_number or cost < 0:
                text = f"{KEY}[{true!r}][{predicted!r}] must be a number of at least 0, not {cost!r}"
                yield Problem("costs", text)


def cost_matrix(costs: Costs, names: Sequence[str]) -> Any:
    """Return the (true labels, predicted labels) costs; 1 for wrong and 0 for right predictions that are not named.

    Raises:
        ConfigError: If there is a cost for a label that the data does not have.
    """
    import numpy as np

    ids = {name: i for i, name in enumerate(names)}
    matrix = 1.0 - np.eye(len(names))
    unknown: dict[str, None] = {}
    for true, row in costs.items():
        for predicted, cost in row.items():
            pair = [label if isinstance(label, str) else label_text(label) for label in (true, predicted)]
            unknown |= dict.fromkeys(name for name in pair if name not in ids)
            if not unknown:
                matrix[ids[pair[0]], ids[pair[1]]] = cost
    if unknown:
        hints = {name: similar("label", name, names) for name in unknown}
        raise ConfigError(*(Problem("task.costs", f"unknown label {n!r} in {KEY}", hints[n]) for n in unknown))
    return matrix


def mean_cost(predictions: Any, references: Any, costs: Any) -> float:
    """Return the mean cost of the predictions; an error on a label that the model does not have costs 1.

    Args:
        predictions: (rows,) predicted label IDs.
        references: (rows,) true label IDs.
        costs: (true labels, predicted labels) costs.
    """
    import numpy as np

    predictions, references = np.asarray(predictions), np.asarray(references)
    is_known = references < len(costs)
    return float(np.where(is_known, costs[np.where(is_known, references, 0), predictions], 1.0).mean())


MEAN_COST = Metric(
    name="mean_cost",
    function=mean_cost,
    higher_is_better=False,
    low=0,
    inputs={name: name for name in (PREDICTIONS, REFERENCES, COSTS)},
)

# --- thresholds ------------------------------------------------------------------------------------------


def candidate_thresholds(probabilities: Any) -> Any:
    """Return the distinct probabilities in ascending order, or 200 quantiles of them."""
    import numpy as np

    values = np.unique(probabilities)
    if len(values) <= _CANDIDATES:
        return values
    return values[np.linspace(0, len(values) - 1, _CANDIDATES).round().astype(int)]


def best_threshold(score: Callable[[Any], float], probabilities: Any) -> float:
    """Return the threshold, inclusive, with the highest score; of several, the one that is nearest to 0.5.

    Args:
        score: Function from (...) predictions of 0 and 1 to a number.
        probabilities: (...) probabilities.
    """
    candidates = candidate_thresholds(probabilities)
    scores = [score((probabilities >= threshold).astype(int)) for threshold in candidates]
    best = max(scores)
    return shortest(min((t for t, s in zip(candidates, scores, strict=True) if s == best), key=lambda t: abs(t - 0.5)))


# --- abstention ------------------------------------------------------------------------------------------


def abstain(row: Mapping[str, Any], min_confidence: float) -> dict[str, Any]:
    """Return a prediction with null in place of labels and choices whose probability is below a minimum."""
    if isinstance(row.get("predictions"), list):  # words
        pairs = zip(row["predictions"], row[FIELD], strict=True)
        labels = [label if value is not None and value >= min_confidence else None for label, value in pairs]
        return {**row, "predictions": labels}
    confidence = row["probability"] if "probability" in row else row[FIELD][row["index"]]
    return dict(row) if confidence >= min_confidence else {**row, "prediction": None}
