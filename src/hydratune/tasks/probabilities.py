"""Probabilities of labels: what evaluation holds of them, and what predictions list."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.tasks.calibration import Calibrator, activate
from hydratune.tasks.metrics.metric import (
    CONFIDENCES,
    OF_PROBABILITIES,
    PREDICTIONS,
    RANKS,
    SCORES,
    SQUARED_ERRORS,
    TRUE_PROBABILITIES,
)
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import torch

# Keys of the outputs of `reduce_logits`, next to the inputs of metrics: the most probable labels of each row.
TOP_IDS, TOP_PROBABILITIES = "top_ids", "top_probabilities"
FIELD = "probabilities"  # field of a decoded row: label name -> probability


@dataclass(kw_only=True)
class ProbabilitySettings:
    """Settings of the probabilities in predictions.

    Args:
        max_probabilities: Labels whose probabilities predictions list, the most probable ones first.
        calibration: Method of `tasks/calibration.py` that calibrates the probabilities of the trained model.
    """

    is_multi_label: ClassVar[bool] = False

    max_probabilities: int = 20
    calibration: Literal["temperature", "isotonic"] | None = None
    calibrator: Calibrator | None = field(default=None, init=False, repr=False, compare=False)

    def probabilities(self, logits: Any) -> torch.Tensor:
        """Return the (..., labels) probabilities of the outputs of a model, calibrated if it is."""
        values = first_logits(logits)
        return self.calibrator.probabilities(values) if self.calibrator else activate(values, self.is_multi_label)

    def load_decisions(self, folder: Path, names: Sequence[str]) -> None:
        """Use the calibration in the folder of a trained model, if the config has one.

        Args:
            folder: Folder of the model.
            names: Label names in the order of their IDs.
        """
        if self.calibration is None:
            self.calibrator = None
            return
        from hydratune.tasks.calibration_file import read

        self.calibrator = read(folder, len(names), self.is_multi_label)

    def check_probabilities(self) -> Iterator[Problem]:
        """Yield errors of the settings."""
        if self.max_probabilities < 0:
            yield invalid_value("max_probabilities", "an integer of at least 0", self.max_probabilities)

    def lists_all(self, names: Sequence[str]) -> bool:
        """Return whether predictions list the probabilities of all labels."""
        return len(names) <= self.max_probabilities


def check_top_k(top_k: int) -> Iterator[Problem]:
    """Yield an error if `top_k` is not a number of labels."""
    if top_k < 1:
        yield invalid_value("top_k", "an integer of at least 1", top_k)


def refuse_large_top_k(metrics: Sequence[str], top_k: int, num_labels: int) -> None:
    """Raise ConfigError if `top_k_accuracy` is among the metrics and 1 for any model."""
    if "top_k_accuracy" in metrics and top_k >= num_labels:
        text = f"{KEY}={top_k} makes top_k_accuracy 1 for any model, since the data has {num_labels} labels"
        hint = f"set {KEY} to fewer than {num_labels}" if num_labels > 2 else "leave top_k_accuracy out"
        raise ConfigError(Problem("task.top_k", text, hint))


# --- batches ---------------------------------------------------------------------------------------------


def first_logits(logits: Any) -> torch.Tensor:
    """Return the logits in float32 from the outputs of a model, which may have others."""
    values: torch.Tensor = logits[0] if isinstance(logits, tuple) else logits
    return values.float()


def top(probabilities: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
    """Return the (rows, count) most probable labels and their probabilities; of equal ones, the first comes first."""
    ordered = probabilities.sort(dim=-1, descending=True, stable=True)
    return {TOP_IDS: ordered.indices[..., :count].int(), TOP_PROBABILITIES: ordered.values[..., :count]}


def confidences(probabilities: torch.Tensor, predictions: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the (...) predicted labels and their probabilities, from (..., labels) probabilities."""
    values = probabilities.gather(-1, predictions.unsqueeze(-1)).squeeze(-1)
    return {PREDICTIONS: predictions, CONFIDENCES: values}


def true_label_inputs(
    probabilities: torch.Tensor, labels: torch.Tensor, inputs: frozenset[str]
) -> dict[str, torch.Tensor]:
    """Return the inputs of metrics that compare probabilities with the true labels.

    Args:
        probabilities: (..., labels) float32.
        labels: (...) IDs of the true labels; an ID outside the labels stands for one that the model does not have, or
            for a token that does not count.
        inputs: Names of the inputs that the metrics take.
    """
    values: dict[str, torch.Tensor] = {}
    if inputs.isdisjoint(OF_PROBABILITIES):
        return values
    has_label = ((labels >= 0) & (labels < probabilities.shape[-1])).unsqueeze(-1)
    ids = labels.unsqueeze(-1).where(has_label, 0)
    true = probabilities.gather(-1, ids).where(has_label, 0.0)
    if TRUE_PROBABILITIES in inputs:
        values[TRUE_PROBABILITIES] = true.squeeze(-1)
    if SQUARED_ERRORS in inputs:
        values[SQUARED_ERRORS] = probabilities.square().sum(-1) - 2 * true.squeeze(-1) + 1
    if RANKS in inputs:
        is_later = probabilities.new_tensor(range(probabilities.shape[-1])) > ids
        is_before = (probabilities > true) | ((probabilities == true) & is_later)
        ranks = is_before.sum(-1)
        values[RANKS] = ranks.where(has_label.squeeze(-1), probabilities.shape[-1])
    if SCORES in inputs:
        values[SCORES] = probabilities
    return values


# --- decoded rows ----------------------------------------------------------------------------------------


def shortest(value: Any) -> float:
    """Return a float32 as a float with as few digits as identify it, which is what files contain."""
    import numpy as np

    return float(str(np.float32(value)))


def named(names: Mapping[int, str], ids: Any, values: Any) -> dict[str, float]:
    """Return label name -> probability for the most probable labels of one row."""
    return {names[int(i)]: shortest(value) for i, value in zip(ids, values, strict=True)}


def probability_matrix(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> torch.Tensor | None:
    """Return the (rows, labels) float32 probabilities of decoded rows; None if some rows do not have all of them."""
    import torch

    if any(len(row.get(FIELD, ())) != len(names) for row in rows):
        return None
    return torch.tensor([[row[FIELD][name] for name in names] for row in rows], dtype=torch.float32)


def has_valid_probabilities(row: Mapping[str, Any]) -> bool:
    """Return whether the probabilities of a decoded row, if it has any, are numbers by label, or of its choices."""
    probabilities = row.get(FIELD, {})
    values = probabilities.values() if isinstance(probabilities, Mapping) else probabilities
    return not isinstance(values, str) and isinstance(values, Collection) and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def row_contributions(row: Mapping[str, Any], label: str, num_labels: int) -> dict[str, tuple[float, float]]:
    """Return the sums of a decoded row for the metrics that are means over rows; empty without all probabilities.

    Args:
        row: Decoded row.
        label: Name of its true label.
        num_labels: Number of labels of the model.
    """
    from hydratune.tasks.metrics.probabilistic import brier_scale, row_log_losses

    probabilities = row.get(FIELD, {})
    if not isinstance(probabilities, Mapping) or len(probabilities) != num_labels:
        return {}
    true = probabilities.get(label, 0.0)
    squared_error = sum(value * value for value in probabilities.values()) - 2 * true + 1
    return {
        "log_loss": (float(row_log_losses(true)), 1.0),
        "brier": (squared_error / brier_scale(num_labels), 1.0),
    }
