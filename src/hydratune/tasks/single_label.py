"""Base of tasks with one label per row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.columns import BadRow
from hydratune.data.label_names import LabelNames
from hydratune.tasks.base import EvalSplit, Task, column_values
from hydratune.tasks.decisions import COSTS, MEAN_COST, best_threshold, check_costs, cost_matrix
from hydratune.tasks.labels import name_labels, named_labels, unknown_labels
from hydratune.tasks.loss_settings import ClassLossSettings
from hydratune.tasks.metrics.classification import (
    CLASSIFICATION,
    DEFAULT,
    F1,
    FOR_ANY_NUMBER,
    MACRO_F1,
    OF_COUNTS,
)
from hydratune.tasks.metrics.metric import (
    CONFIDENCES,
    LABEL_NAMES,
    LOSS,
    OF_PROBABILITIES,
    PREDICTIONS,
    REFERENCES,
    TOP_K,
    Metric,
)
from hydratune.tasks.probabilities import (
    FIELD,
    TOP_IDS,
    TOP_PROBABILITIES,
    ProbabilitySettings,
    check_top_k,
    confidences,
    named,
    probability_matrix,
    refuse_large_top_k,
    row_contributions,
    shortest,
    top,
    true_label_inputs,
)
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction

POSITIVE = "positive_probabilities"  # output of `reduce_logits`: probability of the second of two labels


@dataclass(kw_only=True)
class SingleLabelTask(ProbabilitySettings, ClassLossSettings, Task):
    """Base class of tasks with a column `label`: a string, an ID, or a boolean.

    Args:
        top_k: Number of labels of the metric `top_k_accuracy`.
        costs: True label -> predicted label -> cost; the prediction is the label with the lowest expected cost. Right
            predictions that are not named cost 0, and wrong ones 1. Null predicts the most probable label.
        tune_threshold: Metric for whose maximum on validation the threshold of the second of two labels is tuned; null
            predicts the most probable label.
    """

    known_metrics: ClassVar[tuple[Metric, ...]] = (*CLASSIFICATION, MEAN_COST)
    tuned_metrics: ClassVar[tuple[str, ...]] = ("threshold",)
    has_confidence: ClassVar[bool] = True
    metric_inputs: ClassVar[tuple[str, ...]] = (PREDICTIONS, REFERENCES, CONFIDENCES, *OF_PROBABILITIES, LABEL_NAMES)
    needs_names: ClassVar[bool] = True

    metrics: list[str] | None = None
    objective: str = "eval_accuracy"
    top_k: int = 5
    costs: dict[str, dict[str, float]] | None = None
    tune_threshold: (
        Literal["accuracy", "balanced_accuracy", "cohen_kappa", "f1", "macro_f1", "matthews_correlation"] | None
    ) = None

    _cost_matrix = None  # (true labels, predicted labels) costs, set by `use_labels`

    def check(self) -> Iterator[Problem]:
        """Also yield errors of the loss, the probabilities, and the decisions."""
        yield from super().check()
        yield from self.check_loss()
        yield from self.check_probabilities()
        yield from check_top_k(self.top_k)
        yield from check_costs(self.costs)
        if MEAN_COST.name in (self.metrics or ()) and self.costs is None:
            yield Problem("costs", f"{KEY} is required for the metric {MEAN_COST.name}")
        if self.costs is not None and self.tune_threshold is not None:
            text = f"{KEY} conflicts with {NODE}tune_threshold: both decide on the prediction"
            yield Problem("costs", text, f"set {KEY}=null or {NODE}tune_threshold=null")

    def use_labels(self, names: Sequence[str]) -> None:
        """Use the label names of a head, in the order of their IDs; raise ConfigError for costs of other labels."""
        self._cost_matrix = None if self.costs is None else cost_matrix(self.costs, names)

    def load_decisions(self, folder: Path, names: Sequence[str]) -> None:
        """Also use the costs."""
        super().load_decisions(folder, names)
        self.use_labels(names)

    def metric_names(self, head: Mapping[str, Any] | None = None) -> list[str]:
        """Return the metrics that the config names; for null, four, with either `f1` (two labels) or `macro_f1`."""
        if self.metrics is not None:
            return self.metrics
        names = [metric.name for metric in DEFAULT]
        if head is None:
            return names
        return [name for name in names if name != (MACRO_F1 if head["num_labels"] == 2 else F1).name]

    def tunes(self) -> bool:
        """Return whether the threshold is tuned."""
        return self.tune_threshold is not None

    def check_head(self, head: Mapping[str, Any], objective: str | None = None, sets: Sequence[str] = ()) -> None:
        """Also raise ConfigError for metrics of the second of two labels, and for more labels than the data has."""
        num_labels, names = head["num_labels"], self.metric_names(head)
        if num_labels != 2 and (of_two := [name for name in names if name in FOR_ANY_NUMBER]):
            options = dict.fromkeys(FOR_ANY_NUMBER.get(name, name) for name in names)
            hint = f"set {KEY}=[{','.join(options)}]"
            metric = (objective or "").removeprefix("eval_")
            hint += f" objective=eval_{FOR_ANY_NUMBER[metric]}" if metric in FOR_ANY_NUMBER else ""
            text = f"{', '.join(of_two)} in {KEY} is for two labels, but the data has {num_labels}"
            raise ConfigError(Problem("task.metrics", text, hint))
        if self.tune_threshold is not None and num_labels != 2:
            text = f"{KEY} needs two labels, but the data has {num_labels}"
            raise ConfigError(Problem("task.tune_threshold", text, f"set {KEY}=null"))
        refuse_large_top_k(names, self.top_k, num_labels)
        super().check_head(head, objective, sets)

    def row_metrics(self, names: Sequence[str] = ()) -> list[str]:
        """Return the metrics of predictions, and those of probabilities if predictions list all of them.

        Metrics of two labels are left out for other numbers of labels.
        """
        has_all = self.lists_all(names)
        metrics = [name for name in self.definitions() if name != LOSS.name] if has_all else super().row_metrics(names)
        left_out = {MEAN_COST.name} if self.costs is None else set()
        left_out |= set() if len(names) in (0, 2) else {*FOR_ANY_NUMBER}
        return [name for name in metrics if name not in left_out]

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

    def reduce_logits(self, logits: Any, labels: Any) -> dict[str, torch.Tensor]:
        """Reduce (batch, labels) to the (batch,) predictions, the most probable labels, and the inputs of metrics."""
        probabilities = self.probabilities(logits)
        best = probabilities.argmax(dim=-1)
        if self._cost_matrix is not None:
            best = (probabilities @ probabilities.new_tensor(self._cost_matrix)).argmin(dim=-1)
        outputs = confidences(probabilities, best) | top(probabilities, self.max_probabilities)
        if self.tune_threshold is not None:
            outputs[POSITIVE] = probabilities[..., 1]
        if labels is not None:
            outputs |= true_label_inputs(probabilities, labels, self.needed_inputs())
        return outputs

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names."""
        names, true = [*evaluated.head["id2label"].values()], prediction.label_ids
        if (true_names := evaluated.true_names()) is not None:
            true = _true_ids(true_names, names)
        outputs, tuned = prediction.predictions, {}
        if self.tune_threshold is not None:
            threshold = evaluated.tuned.get("threshold")
            tuned["threshold"] = self._best_threshold(true, outputs[POSITIVE]) if threshold is None else threshold
            outputs = _decided(outputs, tuned["threshold"])
        return self._scores({**outputs, REFERENCES: true}, names) | tuned

    def _best_threshold(self, references: Any, positive: Any) -> float:
        """Return the threshold that maximizes the metric of `tune_threshold`."""
        metric = self.definitions()[str(self.tune_threshold)]
        score: Any = lambda predictions: metric.compute({PREDICTIONS: predictions, REFERENCES: references})  # noqa: E731
        return best_threshold(score, positive)

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the name of the predicted label, its probability, and those of the most probable labels."""
        names = evaluated.head["id2label"]
        if self.tune_threshold is not None and "threshold" in evaluated.tuned:
            predictions = _decided(predictions, evaluated.tuned["threshold"])
        columns = (predictions[name] for name in (PREDICTIONS, CONFIDENCES, TOP_IDS, TOP_PROBABILITIES))
        for predicted, probability, ids, values in zip(*columns, strict=True):
            row = {"prediction": names[int(predicted)], "probability": shortest(probability)}
            yield row | ({FIELD: named(names, ids, values)} if self.max_probabilities else {})

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the names of the true and of the predicted label."""
        names = evaluated.head["id2label"]
        true = evaluated.true_names() or [names[int(label)] for label in prediction.label_ids]
        for label, predicted in zip(true, self.format_predictions(prediction.predictions, evaluated), strict=True):
            yield {"label": label, **predicted}

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:
        """Return the confusion matrix, and the scores of each label."""
        from hydratune.tasks.metrics.tables import one_label, reliability

        true, predicted, confidences = column_values(rows, "label", "prediction", "probability")
        names = list(dict.fromkeys([*head["id2label"].values(), *true]))
        hits = [label == prediction for label, prediction in zip(true, predicted, strict=True)]
        return {**one_label(true, predicted, names), **reliability(hits, confidences)}

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
        """Return the metrics that the config names."""
        return self._scores(self._row_inputs(rows, names), names)

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return the sums of a row for accuracy, losses, and the F1 of two labels, which is that of the second."""
        is_correct = row["label"] == row["prediction"]
        contributions = {"accuracy": (float(is_correct), 1.0), **row_contributions(row, row["label"], len(names))}
        if len(names) == 2:
            is_true, is_predicted = (row[key] == names[1] for key in ("label", "prediction"))
            contributions["f1"] = (2.0 * (is_true and is_predicted), float(is_true + is_predicted))
        return contributions

    def bootstrap_metric(
        self, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Callable[[Sequence[int]], float]:
        """Look up the IDs once; compute macro F1 and the Matthews correlation from counts of labels."""
        import numpy as np

        task = self.with_metric(metric)
        inputs = task._row_inputs(rows, names)
        if metric in OF_COUNTS and metric not in self.extra_metrics:
            true, predicted = inputs[REFERENCES], inputs[PREDICTIONS]
            labels = 1 + max(true.max(), predicted.max())
            correct = np.where(true == predicted, true, labels)  # the last one counts the rows that are wrong

            def from_counts(numbers: Sequence[int]) -> float:
                counts = (
                    np.bincount(ids[numbers], minlength=labels + 1)[:labels] for ids in (correct, true, predicted)
                )
                return OF_COUNTS[metric](*counts)

            return from_counts
        return lambda numbers: task._scores({key: values[numbers] for key, values in inputs.items()}, names)[metric]

    def _row_inputs(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
        """Return the inputs of the metrics that decoded rows have, as (rows, ...) arrays."""
        import numpy as np
        import torch

        true, predicted = column_values(rows, "label", "prediction")
        ids = {name: i for i, name in enumerate(names)}
        references, needed = _true_ids(true, names), self.needed_inputs()
        inputs = {REFERENCES: references, PREDICTIONS: np.array([ids[name] for name in predicted])}
        if CONFIDENCES in needed and all("probability" in row for row in rows):
            inputs[CONFIDENCES] = np.array([row["probability"] for row in rows], dtype=np.float32)
        if needed & {*OF_PROBABILITIES} and (matrix := probability_matrix(rows, names)) is not None:
            values = true_label_inputs(matrix, torch.from_numpy(references), needed)
            inputs |= {name: value.numpy() for name, value in values.items()}
        return inputs

    def _scores(self, inputs: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
        """Return the metrics of (rows, ...) inputs."""
        settings: dict[str, Any] = {LABEL_NAMES: [*names], TOP_K: self.top_k}
        if self.costs is not None:
            settings[COSTS] = cost_matrix(self.costs, names)
        return self.scores({"num_labels": len(names)}, **{**inputs, **settings})


def _decided(outputs: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    """Return outputs of two labels with predictions by a threshold, inclusive, of the second one."""
    import numpy as np

    positive = np.asarray(outputs[POSITIVE])
    predictions = (positive >= threshold).astype(int)
    return {**outputs, PREDICTIONS: predictions, CONFIDENCES: np.where(predictions, positive, 1 - positive)}


def _true_ids(true: Sequence[str], names: Sequence[str]) -> Any:
    """Return (rows,) label IDs; unseen labels follow those of the head, so that no prediction is right."""
    import numpy as np

    ids = {name: i for i, name in enumerate(dict.fromkeys((*names, *true)))}
    return np.array([ids[name] for name in true])
