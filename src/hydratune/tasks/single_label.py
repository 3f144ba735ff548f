"""Base of tasks with one label per row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.columns import BadRow
from hydratune.data.label_names import LabelNames
from hydratune.tasks.base import EvalSplit, Task, column_values
from hydratune.tasks.labels import name_labels, named_labels, unknown_labels
from hydratune.tasks.loss_settings import ClassLossSettings
from hydratune.tasks.metrics.classification import CLASSIFICATION, F1, MACRO_F1, OF_COUNTS
from hydratune.tasks.metrics.metric import PREDICTIONS, REFERENCES, SCORES, Metric
from hydratune.utils.errors import KEY, ConfigError, Problem

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction


@dataclass(kw_only=True)
class SingleLabelTask(ClassLossSettings, Task):
    """Base class of tasks with a column `label`: a string, an ID, or a boolean."""

    known_metrics: ClassVar[tuple[Metric, ...]] = CLASSIFICATION
    metric_inputs: ClassVar[tuple[str, ...]] = (PREDICTIONS, REFERENCES, SCORES, "label_names")
    needs_names: ClassVar[bool] = True

    metrics: list[str] | None = None
    objective: str = "eval_accuracy"

    def check(self) -> Iterator[Problem]:
        """Also yield errors of the loss."""
        yield from super().check()
        yield from self.check_loss()

    def metric_names(self, head: Mapping[str, Any] | None = None) -> list[str]:
        """Return the metrics that the config names; for null, all, with either `f1` (two labels) or `macro_f1`."""
        if self.metrics is not None:
            return self.metrics
        names = [metric.name for metric in self.known_metrics]
        if head is None:
            return names
        return [name for name in names if name != (MACRO_F1 if head["num_labels"] == 2 else F1).name]

    def check_head(self, head: Mapping[str, Any], objective: str | None = None) -> None:
        """Also raise ConfigError for `f1` with more than two labels, since it is the F1 of the second of two labels."""
        if F1.name in self.metric_names(head) and head["num_labels"] != 2:
            names = [MACRO_F1.name if name == F1.name else name for name in self.metric_names(head)]
            hint = f"set {KEY}=[{','.join(dict.fromkeys(names))}]"
            hint += f" objective=eval_{MACRO_F1.name}" if objective == f"eval_{F1.name}" else ""
            text = f"{F1.name} in {KEY} is for two labels, but the data has {head['num_labels']}"
            raise ConfigError(Problem("task.metrics", text, hint))
        super().check_head(head, objective)

    def row_metrics(self, names: Sequence[str] = ()) -> list[str]:
        """Return the metrics for `metrics_from_predictions`, but F1 only for two labels or an unknown number."""
        return [name for name in super().row_metrics(names) if name != F1.name or len(names) in (0, 2)]

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Also yield unknown labels."""
        yield from super().bad_rows(splits, label_names)
        yield from unknown_labels(splits, label_names)

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """Return the rows, and the names of the values of `label`."""
        return name_labels(splits, names)

    def align_labels(self, rows: Dataset, own: LabelNames, trained: list[str]) -> Dataset:
        """Return rows with labels as names."""
        return named_labels(rows, own, trained)

    def reduce_logits(self, logits: Any, labels: Any) -> tuple[torch.Tensor, ...]:  # noqa: ARG002
        """Reduce (batch, labels) to the (batch,) best label and its (batch,) probability.

        The (batch, labels) probabilities are also returned if one of `extra_metrics` takes `scores`.
        """
        values = logits[0] if isinstance(logits, tuple) else logits
        probabilities = values.float().softmax(dim=-1)
        best = probabilities.max(dim=-1)
        needs_all = any(SCORES in metric.inputs.values() for metric in self.extra_metrics.values())
        return (best.indices, best.values, *((probabilities,) if needs_all else ()))

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names."""
        names, true = [*evaluated.head["id2label"].values()], prediction.label_ids
        if (true_names := evaluated.true_names()) is not None:
            true = _true_ids(true_names, names)
        predicted, _, *probabilities = prediction.predictions
        extra_inputs = {SCORES: probabilities[0]} if probabilities else {}
        return self._scores(true, predicted, names, **extra_inputs)

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the name of the predicted label and its probability."""
        names = evaluated.head["id2label"]
        for best, probability in zip(*predictions[:2], strict=True):
            yield {"prediction": names[int(best)], "probability": float(probability)}

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the names of the true and of the predicted label."""
        names = evaluated.head["id2label"]
        true = evaluated.true_names() or [names[int(label)] for label in prediction.label_ids]
        for label, predicted in zip(true, self.format_predictions(prediction.predictions, evaluated), strict=True):
            yield {"label": label, **predicted}

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:
        """Return the confusion matrix, and the scores of each label."""
        from hydratune.tasks.metrics.tables import one_label

        true, predicted = column_values(rows, "label", "prediction")
        return one_label(true, predicted, list(dict.fromkeys([*head["id2label"].values(), *true])))

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
        """Return the metrics that the config names."""
        return self._scores(*_ids(rows, names), names)

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return the sums of a row for accuracy, and for the F1 of two labels, which is that of the second."""
        is_correct = row["label"] == row["prediction"]
        contributions = {"accuracy": (float(is_correct), 1.0)}
        if len(names) == 2:
            is_true, is_predicted = (row[key] == names[1] for key in ("label", "prediction"))
            contributions["f1"] = (2.0 * (is_true and is_predicted), float(is_true + is_predicted))
        return contributions

    def bootstrap_metric(
        self, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Callable[[Sequence[int]], float]:
        """Look up the IDs once; compute macro F1 and the Matthews correlation from counts of labels."""
        import numpy as np

        true, predicted = _ids(rows, names)
        if metric in OF_COUNTS and metric not in self.extra_metrics:
            labels = 1 + max(true.max(), predicted.max())
            correct = np.where(true == predicted, true, labels)  # the last one counts the rows that are wrong

            def from_counts(numbers: Sequence[int]) -> float:
                counts = (
                    np.bincount(ids[numbers], minlength=labels + 1)[:labels] for ids in (correct, true, predicted)
                )
                return OF_COUNTS[metric](*counts)

            return from_counts
        task = self.with_metric(metric)
        return lambda numbers: task._scores(true[numbers], predicted[numbers], names)[metric]

    def _scores(self, references: Any, predictions: Any, names: Sequence[str], **extra_inputs: Any) -> dict[str, float]:
        """Return the metrics of (rows,) label IDs."""
        inputs = {PREDICTIONS: predictions, REFERENCES: references, "label_names": [*names], **extra_inputs}
        return self.scores({"num_labels": len(names)}, **inputs)


def _true_ids(true: Sequence[str], names: Sequence[str]) -> Any:
    """Return (rows,) label IDs; unseen labels follow those of the head, so that no prediction is right."""
    import numpy as np

    ids = {name: i for i, name in enumerate(dict.fromkeys((*names, *true)))}
    return np.array([ids[name] for name in true])


def _ids(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[Any, Any]:
    """Return (rows,) IDs of the true and of the predicted labels of decoded rows."""
    import numpy as np

    true, predicted = column_values(rows, "label", "prediction")
    ids = {name: i for i, name in enumerate(names)}
    return _true_ids(true, names), np.array([ids[name] for name in predicted])
