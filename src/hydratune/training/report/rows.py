"""Test rows that a report shows: the worst errors, an error of each label, and examples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydratune.utils.files import GROUP, ROW
from hydratune.utils.short_forms import is_finite

Row = Mapping[str, Any]

CONFIDENCES = ("probability", "confidence")  # keys of a row with the probability of its prediction
_PAIRS = (("label", "prediction"), ("labels", "predictions"))  # keys of target and prediction, by task


def target_keys(rows: Sequence[Row]) -> tuple[str, str] | None:
    """Return the keys of target and prediction; None if the rows have no single target."""
    return next((pair for pair in _PAIRS if rows and all(key in rows[0] for key in pair)), None)


def confidence(row: Row) -> float | None:
    """Return the probability of the prediction of a row; None if it was not recorded or is not finite."""
    values = (row.get(key) for key in CONFIDENCES)
    return next((float(value) for value in values if is_finite(value)), None)


def is_classification(rows: Sequence[Row], keys: tuple[str, str]) -> bool:
    """Return whether targets and predictions are labels: texts from few options, or lists of such texts."""
    targets = [_hashable(row[keys[0]]) for row in rows]
    if any(isinstance(target, float) for target in targets):
        return False
    return keys[0] == "labels" or any(confidence(row) is not None for row in rows) or len({*targets}) < len(rows) / 2


def row_numbers(rows: Sequence[Row]) -> dict[int, int]:
    """Return `id(row)` -> the number of a row in its file; without one, its position in `rows`."""
    return {id(row): int(row.get(ROW, position)) for position, row in enumerate(rows)}


def worst_errors(rows: Sequence[Row], most: int) -> list[Row]:
    """Return the rows with a wrong prediction, the most confident first; of numbers, those with the largest error."""
    keys = target_keys(rows)
    if keys is None:
        return []
    target, prediction = keys
    if isinstance(rows[0][target], float):
        return sorted(rows, key=lambda row: -_error(row, keys))[:most]
    wrong = [row for row in rows if _hashable(row[target]) != _hashable(row[prediction])]
    return sorted(wrong, key=lambda row: -_wrongness(row, keys))[:most]


def error_by_label(rows: Sequence[Row]) -> dict[str, Row]:
    """Return true label -> its error with the highest confidence, for rows with one label each."""
    errors: dict[str, Row] = {}
    if target_keys(rows) == _PAIRS[0] and isinstance(rows[0]["label"], str):
        for row in worst_errors(rows, len(rows)):
            errors.setdefault(row["label"], row)
    return errors


def _error(row: Row, keys: tuple[str, str]) -> float:
    """Return the error of a predicted number, which is infinite for a prediction that is not finite."""
    target, prediction = (row[key] for key in keys)
    return abs(target - prediction) if is_finite(target) and is_finite(prediction) else math.inf


def _wrongness(row: Row, keys: tuple[str, str]) -> float:
    """Return the confidence of a wrong prediction, or the number of wrong labels of a row with several."""
    target, prediction = row[keys[0]], row[keys[1]]
    if isinstance(target, list) and isinstance(prediction, list):
        if len(target) == len(prediction):  # one label per token
            return sum(a != b for a, b in zip(target, prediction, strict=True))
        return len({*map(str, target)} ^ {*map(str, prediction)})
    return confidence(row) or 0.0


def input_text(row: Row, keys: Sequence[str]) -> str:
    """Return the inputs of a row: everything besides its target, its prediction, probabilities, place, and group."""
    other = (*keys, *CONFIDENCES, "probabilities", ROW, GROUP, "index", "id")
    inputs = {name: _plain(value) for name, value in row.items() if name not in other}
    return next(iter(inputs.values())) if len(inputs) == 1 else "\n".join(f"{k}: {v}" for k, v in inputs.items())


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cell(value: Any) -> Any:
    """Return a target or a prediction for a table: a number, or text."""
    return value if isinstance(value, int | float) else _plain(value)


def _hashable(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
