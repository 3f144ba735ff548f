"""Calibration of probabilities on validation data: temperature scaling and isotonic regression."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import torch

FILE = "calibration.json"  # in the folder of the model
METHODS = ("temperature", "isotonic")
_CHUNK = 4096  # rows
LOG_TEMPERATURES = (-5.0, 5.0)  # lowest and highest logarithm of the temperature


@dataclass(frozen=True)
class Calibrator(ABC):
    """Function from logits to calibrated probabilities.

    Args:
        is_multi_label: Whether each label has its own probability; otherwise those of a row add up to 1.
    """

    method: ClassVar[str]

    is_multi_label: bool

    @abstractmethod
    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the (..., labels) float32 probabilities of logits."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """Return the fitted values as plain JSON."""

    def content(self) -> dict[str, Any]:
        """Return the content of the file that `calibration_file.read` reads."""
        return {"method": self.method, "is_multi_label": self.is_multi_label, **self.values()}


def activate(logits: torch.Tensor, is_multi_label: bool) -> torch.Tensor:
    """Return the probabilities of logits without calibration."""
    return logits.sigmoid() if is_multi_label else logits.softmax(dim=-1)


@dataclass(frozen=True)
class Temperature(Calibrator):
    """Temperature scaling: logits are divided by a number, which changes no order of labels.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Args:
        temperature: Divisor; above 1 if the model is overconfident.
    """

    method: ClassVar[str] = "temperature"

    temperature: float = 1.0

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of the divided logits."""
        return activate(logits / self.temperature, self.is_multi_label)

    def values(self) -> dict[str, Any]:
        """Return the temperature."""
        return {"temperature": self.temperature}


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """Isotonic regression of each label against the others; probabilities of a row are then divided by their sum.

    Zadrozny and Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD 2002; see
    `sklearn.calibration.CalibratedClassifierCV`. Of two labels, only the second has a curve.

    Args:
        curves: For each label, the increasing probabilities of the model and their calibrated values; a label without
            a curve keeps its probabilities.
    """

    method: ClassVar[str] = "isotonic"

    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the interpolated probabilities."""
        import numpy as np
        import torch

        raw = activate(logits, self.is_multi_label)
        values = raw.double().cpu().numpy()
        calibrated = values.copy()
        for label, (x, y) in enumerate(self.curves):
            if x:
                calibrated[..., label] = np.interp(values[..., label], x, y)
        if not self.is_multi_label:
            if calibrated.shape[-1] == 2:
                calibrated[..., 0] = 1 - calibrated[..., 1]
            sums = calibrated.sum(axis=-1, keepdims=True)
            uniform = np.full_like(calibrated, 1 / calibrated.shape[-1])
            calibrated = np.divide(calibrated, sums, out=uniform, where=sums > 0)
        return torch.from_numpy(calibrated).to(raw)

    def values(self) -> dict[str, Any]:
        """Return the curves."""
        return {"curves": [[list(x), list(y)] for x, y in self.curves]}


# --- fitting ---------------------------------------------------------------------------------------------


def fit(method: str, logits: np.ndarray, labels: np.ndarray, is_multi_label: bool) -> Calibrator:
    """Return a calibrator that is fitted on validation rows.

    Args:
        method: One of `METHODS`.
        logits: (rows, labels) float32, which may be in a file.
        labels: (rows,) IDs, where negative ones do not count; or (rows, labels) of 0 and 1.
        is_multi_label: Whether the labels are of the second kind.

    Raises:
        ValueError: If no row counts, or if a logit is not finite.
    """
    import numpy as np

    if not is_multi_label and (labels < 0).any():
        logits, labels = logits[labels >= 0], labels[labels >= 0]
    if not len(labels) or not all(np.isfinite(logits[start : start + _CHUNK]).all() for start in _starts(labels)):
        raise ValueError("calibration needs validation rows with finite logits")
    if method == "temperature":
        return Temperature(is_multi_label, _best_temperature(logits, labels, is_multi_label))
    return Isotonic(is_multi_label, tuple(_curves(logits, labels, is_multi_label)))


def _starts(rows: np.ndarray) -> range:
    return range(0, len(rows), _CHUNK)


def _best_temperature(logits: np.ndarray, labels: np.ndarray, is_multi_label: bool) -> float:
    """Return the temperature with the lowest mean log loss, which is convex in its inverse."""
    import torch
    from scipy.optimize import minimize_scalar
    from torch.nn import functional

    def loss(log_temperature: float) -> float:
        total = 0.0
        for start in _starts(labels):
            scaled = torch.tensor(logits[start : start + _CHUNK]).double() / math.exp(log_temperature)
            targets = torch.tensor(labels[start : start + _CHUNK])
            if is_multi_label:
                total += functional.binary_cross_entropy_with_logits(scaled, targets.double(), reduction="sum").item()
            else:
                total += functional.cross_entropy(scaled, targets.long(), reduction="sum").item()
        return total / len(labels)

    return math.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded", options={"xatol": 1e-6}).x)


def _curves(
    logits: np.ndarray, labels: np.ndarray, is_multi_label: bool
) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Yield the curve of each label; an empty one if all rows or no row have it, and for the first of two labels."""
    import numpy as np
    import torch
    from sklearn.isotonic import IsotonicRegression

    rows, num_labels = logits.shape
    probabilities = np.empty((rows, num_labels), dtype=np.float32)
    for start in _starts(labels):
        chunk = torch.tensor(logits[start : start + _CHUNK])
        probabilities[start : start + _CHUNK] = activate(chunk, is_multi_label).numpy()
    for label in range(num_labels):
        true = labels[:, label] if is_multi_label else labels == label
        is_constant = true.all() or not true.any()
        if is_constant or (not is_multi_label and num_labels == 2 and label == 0):
            yield (), ()
            continue
        curve = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1)
        curve.fit(probabilities[:, label], true.astype(np.float32))
        yield tuple(curve.X_thresholds_.tolist()), tuple(curve.y_thresholds_.tolist())
