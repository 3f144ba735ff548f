"""Metrics of label sets and of numbers, computed by scikit-learn and scipy."""

from __future__ import annotations

import math
from typing import Any

from hydratune.tasks.metrics.metric import correlation, error, share

# --- label sets: (rows, labels) matrices of 0 and 1, at least two labels ----------------------------------


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


MULTI_LABEL = (share("micro_f1", micro_f1), share("macro_f1", macro_f1), share("subset_accuracy", subset_accuracy))


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


# --- numbers: (rows,) floats; a prediction that is not finite makes every metric nan ----------------------


def pearson(predictions: Any, references: Any) -> float:
    """Return the Pearson correlation; 0 if a side is constant or has under two rows. See `scipy.stats.pearsonr`."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, references, predictions)


def spearman(predictions: Any, references: Any) -> float:
    """Return the Pearson correlation of ranks, with the mean rank for ties; 0 as for `pearson`.

    See `scipy.stats.spearmanr`.
    """
    from scipy.stats import spearmanr

    return _correlation(spearmanr, references, predictions)


def mse(predictions: Any, references: Any) -> float:
    """Return the mean of the squared differences; see `sklearn.metrics.mean_squared_error`."""
    from sklearn.metrics import mean_squared_error

    return mean_squared_error(references, predictions) if _finite(predictions) else math.nan


def mae(predictions: Any, references: Any) -> float:
    """Return the mean of the absolute differences; see `sklearn.metrics.mean_absolute_error`."""
    from sklearn.metrics import mean_absolute_error

    return mean_absolute_error(references, predictions) if _finite(predictions) else math.nan


def _finite(values: Any) -> bool:
    import numpy as np

    return bool(np.isfinite(values).all())


def _correlation(statistic: Any, references: Any, predictions: Any) -> float:
    """Return a correlation of scipy, or 0 for constants, of which scipy would warn and return nan."""
    import numpy as np

    if not _finite(predictions):
        return math.nan
    if any(len(column) < 2 or np.ptp(column) == 0 for column in (references, predictions)):
        return 0.0
    return statistic(references, predictions).statistic


REGRESSION = (correlation("pearson", pearson), correlation("spearman", spearman), error("mse", mse), error("mae", mae))
