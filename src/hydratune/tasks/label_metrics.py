"""Metrics of label sets and of numbers, computed by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy import stats
from sklearn import metrics as sklearn_metrics

# --- label sets: (rows, labels) sparse matrices of 0 and 1, at least two labels --------------------------


def micro_f1(references: Any, predictions: Any) -> float:
    """F1 over all labels of all rows together; 0 where no label is true or none is predicted."""
    return float(sklearn_metrics.f1_score(references, predictions, average="micro", zero_division=0))


def macro_f1(references: Any, predictions: Any) -> float:
    """Mean of each label's F1; a label that is neither true nor predicted counts as 0."""
    return float(sklearn_metrics.f1_score(references, predictions, average="macro", zero_division=0))


def subset_accuracy(references: Any, predictions: Any) -> float:
    """Share of rows with exactly the right labels."""
    return float(sklearn_metrics.accuracy_score(references, predictions))


def best_threshold(references: Any, probabilities: Any) -> float:
    """The probability from which on a label is predicted for the highest micro F1; 0.5 where no label is true.

    Args:
        references: (rows, labels) of 0 and 1.
        probabilities: (rows, labels) from 0 to 1.
    """
    if not references.any():
        return 0.5
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(references.ravel(), probabilities.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[f1[:-1].argmax()])  # the curve's last point has no threshold


MULTI_LABEL: dict[str, Callable[[Any, Any], float]] = {
    metric.__name__: metric for metric in (micro_f1, macro_f1, subset_accuracy)
}

# --- numbers ---------------------------------------------------------------------------------------------


class NumberMetric(evaluate.Metric):
    """A metric of (rows,) numbers; called `name`, it returns `{name: value}`, nan where a prediction is not finite."""

    name = ""

    def __init__(self) -> None:
        super().__init__(module_type="metric", keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "", citation="", features=datasets.Features(features)
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {self.name: self.of(references, predictions)}

    def of(self, references: Any, predictions: Any) -> float:
        """The value of the metric over any numbers."""
        true, said = np.asarray(references, dtype=float), np.asarray(predictions, dtype=float)
        return float(self.score(true, said)) if np.isfinite(said).all() else float("nan")

    def score(self, references: Any, predictions: Any) -> float:
        """The value of the metric over finite numbers."""
        raise NotImplementedError


class Pearson(NumberMetric):
    """Pearson correlation, from -1 to 1; 0 where either side is constant or has fewer than two rows."""

    name = "pearson"

    def score(self, references: Any, predictions: Any) -> float:
        """See `scipy.stats.pearsonr`, which would warn and say nan of constants."""
        return 0.0 if _constant(references, predictions) else stats.pearsonr(references, predictions).statistic


class Spearman(NumberMetric):
    """Pearson correlation of ranks, where ties share the mean of theirs; 0 as for `Pearson`."""

    name = "spearman"

    def score(self, references: Any, predictions: Any) -> float:
        """See `scipy.stats.spearmanr`, which would warn and say nan of constants."""
        return 0.0 if _constant(references, predictions) else stats.spearmanr(references, predictions).statistic


class MeanSquaredError(NumberMetric):
    """Mean of the squared differences; less is better."""

    name = "mse"

    def score(self, references: Any, predictions: Any) -> float:
        """See `sklearn.metrics.mean_squared_error`."""
        return sklearn_metrics.mean_squared_error(references, predictions)


class MeanAbsoluteError(NumberMetric):
    """Mean of the absolute differences; less is better."""

    name = "mae"

    def score(self, references: Any, predictions: Any) -> float:
        """See `sklearn.metrics.mean_absolute_error`."""
        return sklearn_metrics.mean_absolute_error(references, predictions)


def _constant(*columns: Any) -> bool:
    return any(len(column) < 2 or np.ptp(column) == 0 for column in columns)


REGRESSION: dict[str, type[NumberMetric]] = {
    metric.name: metric for metric in (Pearson, Spearman, MeanSquaredError, MeanAbsoluteError)
}
