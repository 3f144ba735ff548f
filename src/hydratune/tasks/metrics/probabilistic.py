"""Metrics of probabilities for one label per row, from (rows,) values or a (rows, labels) matrix.

Evaluation reduces each batch to the (rows,) values, so that these metrics need no matrix; see `tasks/probabilities.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hydratune.tasks.metrics.metric import (
    CONFIDENCES,
    LABEL_NAMES,
    PREDICTIONS,
    RANKS,
    REFERENCES,
    SCORES,
    SQUARED_ERRORS,
    TOP_K,
    TRUE_PROBABILITIES,
    Metric,
)

BINS = 15  # of equal width, for the calibration error
_BLOCK = 64 * 2**20  # bytes of columns that are in memory at a time


def row_log_losses(true_probabilities: Any) -> Any:
    """Return the (rows,) negative log probabilities of the true labels, which are clipped as by scikit-learn.

    Args:
        true_probabilities: (rows,) float32 probabilities of the true labels.
    """
    import numpy as np

    values = np.asarray(true_probabilities, dtype=np.float32)
    epsilon = np.finfo(np.float32).eps
    return -np.log(np.clip(values, epsilon, 1 - epsilon).astype(float))


def log_loss(true_probabilities: Any) -> float:
    """Return the mean negative log probability of the true labels; see `sklearn.metrics.log_loss`."""
    return float(row_log_losses(true_probabilities).mean())


def brier(squared_errors: Any, label_names: Any) -> float:
    """Return the Brier score; see `sklearn.metrics.brier_score_loss`, which halves the sum for two labels.

    Args:
        squared_errors: (rows,) sums over labels of the squared differences to 0, or to 1 for the true label.
        label_names: Names of the labels.
    """
    import numpy as np

    return float(np.asarray(squared_errors, dtype=float).mean()) / brier_scale(len(label_names))


def brier_scale(num_labels: int) -> int:
    """Return the divisor of the squared errors in the Brier score."""
    return 2 if num_labels == 2 else 1


def top_k_accuracy(ranks: Any, top_k: int) -> float:
    """Return the share of rows whose true label is among the most probable ones.

    See `sklearn.metrics.top_k_accuracy_score`: of equal probabilities, the label with the higher ID comes first.

    Args:
        ranks: (rows,) number of labels that come before the true one.
        top_k: Number of labels.
    """
    import numpy as np

    return float((np.asarray(ranks) < top_k).mean())


def ece(predictions: Any, references: Any, confidences: Any) -> float:
    """Return the expected calibration error of the predictions, over 15 bins of equal width.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017; see `torchmetrics.classification.
    MulticlassCalibrationError`, whose bins include their lower end.

    Args:
        predictions: (rows,) predicted label IDs.
        references: (rows,) true label IDs.
        confidences: (rows,) probabilities of the predictions.
    """
    import numpy as np

    hits = np.asarray(predictions) == np.asarray(references)
    return calibration_error(calibration_bins(hits, confidences))


def calibration_bins(hits: Any, confidences: Any) -> tuple[Any, Any, Any]:
    """Return the number of rows, the sum of hits, and the sum of confidences of each bin; 1 has its own bin."""
    import numpy as np

    confidences = np.asarray(confidences, dtype=np.float32)
    bins = np.digitize(confidences, np.linspace(0, 1, BINS + 1, dtype=np.float32)) - 1
    sums = (np.bincount(bins, values, BINS + 1) for values in (np.ones(len(bins)), hits, confidences))
    rows, hit_sums, confidence_sums = sums
    return rows, hit_sums, confidence_sums


def calibration_error(bins: tuple[Any, Any, Any]) -> float:
    """Return the mean absolute difference of confidence and share of hits over bins, weighted by their rows.

    Args:
        bins: See `calibration_bins`; sums over several calls are possible.
    """
    import numpy as np

    rows, hit_sums, confidence_sums = bins
    return float(np.abs(hit_sums - confidence_sums).sum() / rows.sum())


def roc_auc(references: Any, scores: Any) -> float:
    """Return the area under the ROC curve of label 1 of two labels, else the mean of each label against the others.

    See `sklearn.metrics.roc_auc_score`. Labels that no row has, or all rows have, are left out; nan if none is left.
    """
    from sklearn.metrics import roc_auc_score

    return _mean_over_labels(roc_auc_score, references, scores)


def average_precision(references: Any, scores: Any) -> float:
    """Return the area under the precision-recall curve, of the same labels as `roc_auc`.

    See `sklearn.metrics.average_precision_score`.
    """
    from sklearn.metrics import average_precision_score

    return _mean_over_labels(average_precision_score, references, scores)


def _mean_over_labels(area: Callable[..., float], references: Any, scores: Any) -> float:
    """Return the mean area under a curve of each label against the others; of two labels, of the second alone."""
    import numpy as np

    references = np.asarray(references)
    first = 1 if scores.shape[1] == 2 else 0
    return mean_area(area, ((references == label, values) for label, values in columns(scores, first)))


def mean_area(area: Callable[..., float], labels: Iterable[tuple[Any, Any]]) -> float:
    """Return the mean area under a curve over the labels that some rows have and others have not.

    Args:
        area: Function of scikit-learn.
        labels: For each label, (rows,) booleans, true for rows that have it, and (rows,) probabilities.
    """
    areas = [float(area(is_true, values)) for is_true, values in labels if is_true.any() and not is_true.all()]
    return sum(areas) / len(areas) if areas else math.nan


def columns(scores: Any, first: int = 0) -> Iterator[tuple[int, Any]]:
    """Yield the numbers and values of the columns of a matrix that may be in a file, in blocks that fit the memory."""
    import numpy as np

    size = max(1, _BLOCK // max(1, scores.shape[0] * scores.itemsize))
    for start in range(first, scores.shape[1], size):
        block = np.ascontiguousarray(scores[:, start : start + size].T)
        yield from enumerate(block, start)


LOG_LOSS = Metric(
    name="log_loss",
    function=log_loss,
    higher_is_better=False,
    low=0,
    inputs={TRUE_PROBABILITIES: TRUE_PROBABILITIES},
)
BRIER = Metric(
    name="brier",
    function=brier,
    higher_is_better=False,
    low=0,
    high=2,
    inputs={SQUARED_ERRORS: SQUARED_ERRORS, LABEL_NAMES: LABEL_NAMES},
)
ECE = Metric(
    name="ece",
    function=ece,
    higher_is_better=False,
    low=0,
    high=1,
    inputs={name: name for name in (PREDICTIONS, REFERENCES, CONFIDENCES)},
)
TOP_K_ACCURACY = Metric(
    name="top_k_accuracy", function=top_k_accuracy, low=0, high=1, inputs={RANKS: RANKS, TOP_K: TOP_K}
)
_MATRIX = {REFERENCES: REFERENCES, SCORES: SCORES}
ROC_AUC = Metric(name="roc_auc", function=roc_auc, low=0, high=1, inputs=_MATRIX)
AVERAGE_PRECISION = Metric(name="average_precision", function=average_precision, low=0, high=1, inputs=_MATRIX)
PROBABILISTIC = (LOG_LOSS, BRIER, ECE, TOP_K_ACCURACY, ROC_AUC, AVERAGE_PRECISION)
