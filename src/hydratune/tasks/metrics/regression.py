"""Metrics of numbers, computed by scikit-learn and scipy: (rows,) floats; nan if a prediction is not finite."""

from __future__ import annotations

import math
from typing import Any

from hydratune.tasks.metrics.metric import correlation, error


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
