"""The common metrics as modules of `evaluate`, computed by scikit-learn; `evaluate.load` would need the hub."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from sklearn import metrics as sklearn_metrics


class ClassificationMetric(evaluate.Metric):
    """A metric of predicted and true label ids; called `name`, it returns `{name: value}`."""

    name = ""

    def __init__(self) -> None:
        super().__init__(module_type="metric", keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "", citation="", features=datasets.Features(features)
        )

    def _compute(self, predictions: Any, references: Any, num_labels: int) -> dict[str, float]:
        return {self.name: float(self.score(references, predictions, num_labels))}

    def score(self, references: Any, predictions: Any, num_labels: int) -> float:
        """The value of the metric over (rows,) ids of `num_labels` labels, not all of which need occur."""
        raise NotImplementedError


class Accuracy(ClassificationMetric):
    """Share of rows with the right label."""

    name = "accuracy"

    def score(self, references: Any, predictions: Any, num_labels: int) -> float:  # noqa: ARG002
        """See `sklearn.metrics.accuracy_score`."""
        return sklearn_metrics.accuracy_score(references, predictions)


class F1(ClassificationMetric):
    """F1 of label 1 where there are two labels, as GLUE scores MRPC; the macro average otherwise."""

    name = "f1"

    def score(self, references: Any, predictions: Any, num_labels: int) -> float:
        """See `sklearn.metrics.f1_score`; 0 where a class has neither predictions nor rows."""
        labels = [1] if num_labels == 2 else None  # of label 1 alone; a true label that the head lacks is another
        return sklearn_metrics.f1_score(references, predictions, labels=labels, average="macro", zero_division=0)


class MacroF1(ClassificationMetric):
    """Mean of the F1 of each label that occurs."""

    name = "macro_f1"

    def score(self, references: Any, predictions: Any, num_labels: int) -> float:  # noqa: ARG002
        """See `sklearn.metrics.f1_score`; 0 where a class has no prediction."""
        return sklearn_metrics.f1_score(references, predictions, average="macro", zero_division=0)


class MatthewsCorrelation(ClassificationMetric):
    """Matthews correlation, from -1 to 1; 0 is chance."""

    name = "matthews_correlation"

    def score(self, references: Any, predictions: Any, num_labels: int) -> float:  # noqa: ARG002
        """See `sklearn.metrics.matthews_corrcoef`; 0 where all is one label, of which it would warn."""
        if len({*references, *predictions}) == 1:
            return 0.0
        return sklearn_metrics.matthews_corrcoef(references, predictions)


CLASSIFICATION: dict[str, type[ClassificationMetric]] = {
    metric.name: metric for metric in (Accuracy, F1, MacroF1, MatthewsCorrelation)
}
