"""Metrics of label sets, computed by scikit-learn: (rows, labels) matrices of 0 and 1, at least two labels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from hydratune.tasks.metrics.metric import REFERENCES, SCORES, Metric, share
from hydratune.tasks.metrics.probabilistic import (
    calibration_bins,
    calibration_error,
    columns,
    mean_area,
    row_log_losses,
)


def micro_f1(predictions: Any, references: Any) -> float:
    """Return the F1 over all labels of all rows together; 0 if no label is true or none is predicted."""
    from sklearn.metrics import f1_score

    return f1_score(references, predictions, average="micro", zero_division=0)


def macro_f1(predictions: Any, references: Any) -> float:
    """Return the mean F1 of the labels; a label that is neither true nor predicted counts as 0."""
    from sklearn.metrics import f1_score

    return f1_score(references, predictions, average="macro", zero_division=0)


def subset_accuracy(predictions: Any, references: Any) -> float:
    """Return the share of rows with exactly the right labels."""
    from sklearn.metrics import accuracy_score

    return accuracy_score(references, predictions)


def _precision(predictions: Any, references: Any, average: str) -> float:
    """Return the precision over all labels together (`micro`), or the mean of the labels (`macro`)."""
    from sklearn.metrics import precision_score

    return precision_score(references, predictions, average=average, zero_division=0)


def _recall(predictions: Any, references: Any, average: str) -> float:
    """Return the recall over all labels together (`micro`), or the mean of the labels (`macro`)."""
    from sklearn.metrics import recall_score

    return recall_score(references, predictions, average=average, zero_division=0)


# --- label sets: `scores` are (rows, labels) float32 probabilities, which may be in a file ----------------


def log_loss(references: Any, scores: Any) -> float:
    """Return the mean over labels of the binary log loss; see `sklearn.metrics.log_loss`."""
    import numpy as np

    losses = [
        row_log_losses(np.where(is_true, values, 1 - values)).mean() for is_true, values in _labels(references, scores)
    ]
    return float(np.mean(losses))


def brier(references: Any, scores: Any) -> float:
    """Return the mean over labels of the binary Brier score; see `sklearn.metrics.brier_score_loss`."""
    import numpy as np

    pairs = _labels(references, scores)
    return float(np.mean([np.square(values.astype(float) - is_true).mean() for is_true, values in pairs]))


def ece(references: Any, scores: Any) -> float:
    """Return the calibration error of all probabilities; see `torchmetrics.classification.BinaryCalibrationError`."""
    bins: Any = [0, 0, 0]
    for is_true, values in _labels(references, scores):
        bins = [total + sums for total, sums in zip(bins, calibration_bins(is_true, values), strict=True)]
    return calibration_error(tuple(bins))


def roc_auc(references: Any, scores: Any) -> float:
    """Return the mean over labels of the area under the ROC curve; see `sklearn.metrics.roc_auc_score`.

    Labels that no row has, or all rows have, are left out; nan if none is left.
    """
    from sklearn.metrics import roc_auc_score

    return mean_area(roc_auc_score, _labels(references, scores))


def average_precision(references: Any, scores: Any) -> float:
    """Return the mean over labels of the area under the precision-recall curve, of the same labels as `roc_auc`.

    See `sklearn.metrics.average_precision_score`.
    """
    from sklearn.metrics import average_precision_score

    return mean_area(average_precision_score, _labels(references, scores))


def _labels(references: Any, scores: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the true values and the probabilities of each label; 0 for labels that the model does not have."""
    import numpy as np
    from scipy.sparse import csc_matrix

    true = csc_matrix(references)
    for label, values in columns(scores):
        yield true[:, [label]].toarray().ravel().astype(bool), values
    for label in range(scores.shape[1], true.shape[1]):
        yield true[:, [label]].toarray().ravel().astype(bool), np.zeros(len(scores), dtype=np.float32)


_MATRIX = {REFERENCES: REFERENCES, SCORES: SCORES}
_AVERAGES = (
    share(f"{average}_{name}", functools.partial(function, average=average))
    for name, function in (("precision", _precision), ("recall", _recall))
    for average in ("micro", "macro")
)
MULTI_LABEL = (
    share("micro_f1", micro_f1),
    share("macro_f1", macro_f1),
    share("subset_accuracy", subset_accuracy),
    *_AVERAGES,
    Metric(name="roc_auc", function=roc_auc, low=0, high=1, inputs=_MATRIX),
    Metric(name="average_precision", function=average_precision, low=0, high=1, inputs=_MATRIX),
    Metric(name="log_loss", function=log_loss, higher_is_better=False, low=0, inputs=_MATRIX),
    Metric(name="brier", function=brier, higher_is_better=False, low=0, high=1, inputs=_MATRIX),
    Metric(name="ece", function=ece, higher_is_better=False, low=0, high=1, inputs=_MATRIX),
)


def best_threshold(references: Any, probabilities: Any) -> float:
    """Return the threshold, inclusive, with the highest micro F1; 0.5 if no label is true.

    Args:
        references: (rows, labels) of 0 and 1.
        probabilities: (rows, labels) from 0 to 1.
    """
    import numpy as np
    from sklearn.metrics import precision_recall_curve

    if not references.any():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(references.ravel(), probabilities.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[f1[:-1].argmax()])  # the curve's last point has no threshold
