"""Metrics of one label per row, computed by scikit-learn from (rows,) label IDs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from hydratune.tasks.metrics.metric import Metric, correlation, share
from hydratune.tasks.metrics.probabilistic import PROBABILISTIC


def accuracy(predictions: Any, references: Any) -> float:
    """Return the share of rows with the right label; see `sklearn.metrics.accuracy_score`."""
    from sklearn.metrics import accuracy_score

    return accuracy_score(references, predictions)


def f1(predictions: Any, references: Any) -> float:
    """Return the F1 of label 1 of two labels; 0 if it is neither true nor predicted. See `sklearn.metrics.f1_score`."""
    from sklearn.metrics import f1_score

    return f1_score(references, predictions, labels=[1], average="macro", zero_division=0)  # of label 1 alone


def macro_f1(predictions: Any, references: Any) -> float:
    """Return the mean F1 of the labels that are true or predicted in some row; see `sklearn.metrics.f1_score`."""
    from sklearn.metrics import f1_score

    return f1_score(references, predictions, average="macro", zero_division=0)


def precision(predictions: Any, references: Any) -> float:
    """Return the precision of label 1 of two labels; 0 if it is never predicted."""
    from sklearn.metrics import precision_score

    return precision_score(references, predictions, labels=[1], average="macro", zero_division=0)


def recall(predictions: Any, references: Any) -> float:
    """Return the recall of label 1 of two labels; 0 if it is never true."""
    from sklearn.metrics import recall_score

    return recall_score(references, predictions, labels=[1], average="macro", zero_division=0)


def macro_precision(predictions: Any, references: Any) -> float:
    """Return the mean precision of the labels that are true or predicted in some row."""
    from sklearn.metrics import precision_score

    return precision_score(references, predictions, average="macro", zero_division=0)


def macro_recall(predictions: Any, references: Any) -> float:
    """Return the mean recall of the labels that are true or predicted in some row."""
    from sklearn.metrics import recall_score

    return recall_score(references, predictions, average="macro", zero_division=0)


def balanced_accuracy(predictions: Any, references: Any) -> float:
    """Return the mean recall of the true labels; see `sklearn.metrics.balanced_accuracy_score`."""
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about predicted labels that are never true
        return balanced_accuracy_score(references, predictions)


def cohen_kappa(predictions: Any, references: Any) -> float:
    """Return Cohen's kappa; 0 if only one label occurs. See `sklearn.metrics.cohen_kappa_score`."""
    from sklearn.metrics import cohen_kappa_score

    if len({*references, *predictions}) == 1:  # scikit-learn would warn
        return 0.0
    return cohen_kappa_score(references, predictions)


def quadratic_kappa(predictions: Any, references: Any) -> float:
    """Return Cohen's kappa with quadratic weights, for labels in ascending order; 0 if only one label occurs.

    See `sklearn.metrics.cohen_kappa_score`. The weights are the squared differences of the label IDs, so that labels
    without rows keep their place.
    """
    import numpy as np
    from sklearn.metrics import cohen_kappa_score

    if len({*references, *predictions}) == 1:  # scikit-learn would warn
        return 0.0
    labels = np.arange(1 + max(np.max(references), np.max(predictions)))
    return cohen_kappa_score(references, predictions, labels=labels, weights="quadratic")


def matthews_correlation(predictions: Any, references: Any) -> float:
    """Return the Matthews correlation; 0 for a random baseline, and if only one label occurs.

    See `sklearn.metrics.matthews_corrcoef`.
    """
    from sklearn.metrics import matthews_corrcoef

    if len({*references, *predictions}) == 1:  # scikit-learn would warn
        return 0.0
    return matthews_corrcoef(references, predictions)


def macro_f1_of_counts(hits: Any, true: Any, predicted: Any) -> float:
    """Return `macro_f1` from the (labels,) numbers of rows in which a label is right, is true, and is predicted."""
    occurs = true + predicted > 0
    return float((2 * hits[occurs] / (true + predicted)[occurs]).mean())


def matthews_correlation_of_counts(hits: Any, true: Any, predicted: Any) -> float:
    """Return `matthews_correlation` from the same (labels,) counts as `macro_f1_of_counts`."""
    rows = true.sum(dtype=float)
    variance_product = (rows**2 - (predicted.astype(float) ** 2).sum()) * (rows**2 - (true.astype(float) ** 2).sum())
    if variance_product == 0:
        return 0.0
    return float((hits.sum() * rows - (true.astype(float) * predicted).sum()) / variance_product**0.5)


# Metrics of `CLASSIFICATION` that are functions of these counts.
OF_COUNTS = {"macro_f1": macro_f1_of_counts, "matthews_correlation": matthews_correlation_of_counts}

ACCURACY = share("accuracy", accuracy)
F1 = share("f1", f1)  # of two labels only
MACRO_F1 = share("macro_f1", macro_f1)
DEFAULT = (ACCURACY, F1, MACRO_F1, correlation("matthews_correlation", matthews_correlation))
BALANCED_ACCURACY = share("balanced_accuracy", balanced_accuracy)
COHEN_KAPPA = correlation("cohen_kappa", cohen_kappa)
CLASSIFICATION = (
    *DEFAULT,
    share("precision", precision),
    share("recall", recall),
    share("macro_precision", macro_precision),
    share("macro_recall", macro_recall),
    BALANCED_ACCURACY,
    COHEN_KAPPA,
    correlation("quadratic_kappa", quadratic_kappa),
    *PROBABILISTIC,
)
# Metric of two labels -> the one for any number of labels.
FOR_ANY_NUMBER = {"f1": "macro_f1", "precision": "macro_precision", "recall": "macro_recall"}


def as_evaluate(metric: Metric, kind: str = "int32") -> Any:
    """Return the metric as a module of `evaluate`, e.g. for `evaluate.combine`; `evaluate.load` would need the Hub.

    Args:
        metric: A metric whose inputs are `predictions` and `references`.
        kind: Type of one prediction and of one reference, as `datasets.Value` names it.
    """
    import datasets
    import evaluate

    class Module(evaluate.Metric):
        """One metric under its name."""

        def _info(self) -> evaluate.MetricInfo:
            value = datasets.Value(kind)
            features = datasets.Features({"predictions": value, "references": value})
            return evaluate.MetricInfo(description=metric.function.__doc__ or "", citation="", features=features)

        def _compute(self, predictions: Any, references: Any) -> Mapping[str, float]:
            return {metric.name: metric.compute({"predictions": predictions, "references": references})}

    return Module(module_type="metric", keep_in_memory=True)
