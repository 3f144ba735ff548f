"""Multi-label classification: any number of labels per text or pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.cache import arrow_column
from hydratune.data.columns import COLUMN, ROW_WEIGHT, BadRow, Column, preview
from hydratune.data.label_names import LabelNames
from hydratune.data.streaming import is_stream
from hydratune.models.base import Network
from hydratune.tasks.base import EncodedData, EvalSplit, Task, column_values
from hydratune.tasks.decisions import best_threshold as best_threshold_of
from hydratune.tasks.labels import Labels, collect_labels, name_labels, named_labels, unknown_labels, with_true_names
from hydratune.tasks.loss_settings import MultiLabelLossSettings
from hydratune.tasks.losses import WEIGHT_COLUMN, row_weights
from hydratune.tasks.metrics.metric import LABEL_NAMES, LOSS, PREDICTIONS, REFERENCES, SCORES, Metric
from hydratune.tasks.metrics.multi_label import MULTI_LABEL, best_threshold
from hydratune.tasks.probabilities import (
    FIELD,
    TOP_IDS,
    TOP_PROBABILITIES,
    ProbabilitySettings,
    named,
    probability_matrix,
    top,
)
from hydratune.tasks.tokenize import IGNORED, encode_splits, say_truncated
from hydratune.utils.errors import KEY, ConfigError, Problem, hydra_text, invalid_value

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction

_TOP = (TOP_IDS, TOP_PROBABILITIES)
_NAME_INDICATORS = f"set {KEY}=[a,b] in the order of the indicators"


@dataclass(kw_only=True)
class MultiLabelClassification(ProbabilitySettings, MultiLabelLossSettings, Task):
    """Multi-label classification on columns `text`, optionally `text_pair`, and `labels`, a list that may be empty.

    Args:
        threshold: Probability above which a label is predicted.
        tune_threshold: Metric for whose maximum on validation the threshold is tuned instead, and used on test; true
            stands for `micro_f1`.
        label_format: Format of `labels`: the `names` or IDs of a row's labels, or multi-hot `multi_hot`, a 0 or 1
            for each of `dataset.labels`, e.g. from `dataset.columns.labels=[toxic,obscene]`.

    Example:
        >>> MultiLabelClassification(metrics=["micro_f1"], threshold=0.3).objectives()
        ['eval_loss', 'eval_micro_f1']
    """

    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str | None] = "text-classification"
    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("text"),
        "text_pair": Column("text", required=False),
        "labels": Column("labels", target=True),
        ROW_WEIGHT: WEIGHT_COLUMN,
    }
    known_metrics: ClassVar[tuple[Metric, ...]] = MULTI_LABEL
    metric_inputs: ClassVar[tuple[str, ...]] = (PREDICTIONS, REFERENCES, SCORES, LABEL_NAMES)
    needs_names: ClassVar[bool] = True
    is_multi_label: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    tuned_metrics: ClassVar[tuple[str, ...]] = ("threshold",)

    metrics: list[str] = field(default_factory=lambda: ["micro_f1"])
    objective: str = "eval_micro_f1"
    threshold: float = 0.5
    tune_threshold: Literal["micro_f1", "macro_f1", "subset_accuracy"] | bool = False
    label_format: Literal["names", "multi_hot"] = "names"

    _count = 0  # number of labels, set when rows are prepared

    def check(self) -> Iterator[Problem]:
        """Also yield errors of the loss, of the probabilities, and of a threshold that is not a probability."""
        yield from super().check()
        yield from self.check_loss()
        yield from self.check_probabilities()
        if not 0 < self.threshold < 1:
            yield invalid_value("threshold", "between 0 and 1", self.threshold, f"set {KEY}=0.5")

    def tunes(self) -> bool:
        """Return whether the threshold is tuned."""
        return bool(self.tune_threshold)

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """Return the rows, and the names of the values in `labels`; indicators have one name per column."""
        if self.label_format == "names":
            return name_labels(splits, names, "labels")
        if isinstance(names, Mapping):
            requirement = "a list of names for multi-hot labels"
            raise ConfigError(invalid_value("dataset.labels", requirement, repr(names), _NAME_INDICATORS))
        return super().name_labels(splits, names)

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Also yield unknown or repeated labels, and indicators that are not a 0 or 1 for each label."""
        yield from super().bad_rows(splits, label_names)
        if "labels" not in splits["train"].column_names:  # rows to predict for
            return
        if self.label_format == "names":
            yield from unknown_labels(splits, label_names, "labels")
            yield from _repeats(splits)
            return
        if label_names is None:
            text = f"{KEY} is required for task.label_format=multi_hot"
            raise ConfigError(Problem("dataset.labels", text, _NAME_INDICATORS))
        expected = f"a 0 or 1 for each of the {len(label_names)} labels"
        for split, rows in splits.items():
            for row, values in enumerate(arrow_column(rows, "labels").to_pylist()):
                if (
                    values is not None
                    and None not in values
                    and (len(values) != len(label_names) or not {*values} <= {0, 1})
                ):
                    text = f"{COLUMN} must have {expected}, not {preview(values)}"
                    yield BadRow(split, row, "labels", text, value=preview(values))

    def align_labels(self, rows: Dataset, own: LabelNames, trained: list[str]) -> Dataset:
        """Return rows with labels as names, or with indicators in the order of the head."""
        if self.label_format == "names":
            return named_labels(rows, own, trained, "labels")
        if own is None or isinstance(own, Mapping) or {*own} != {*trained}:
            hint = f"set {KEY}=[{','.join(map(hydra_text, trained))}] in the order of the indicators"
            raise ConfigError(invalid_value("dataset.labels", "the label names of the model", repr(own), hint))
        order = [list(own).index(name) for name in trained]
        complete_rows = [values is not None and len(values) == len(own) for values in rows["labels"]]
        values = [
            [indicators[i] for i in order] if is_complete else indicators
            for indicators, is_complete in zip(rows["labels"], complete_rows, strict=True)
        ]
        return rows.remove_columns("labels").add_column("labels", values, feature=rows.features["labels"])

    def prepare(
        self, splits: DatasetDict, processor: Any, max_length: int | None, label_names: list[str] | None
    ) -> EncodedData:
        """Return rows of `input_ids` and `labels`, the IDs of a row's labels."""
        if self.label_format == "multi_hot":
            labels = Labels(list(label_names or ()), {})
        else:
            labels = collect_labels(splits, label_names, "labels")

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            targets = {"labels": [ids(values) for values in batch["labels"]], **row_weights(batch)}
            return self.encode(batch, processor, max_length) | targets

        def ids(values: list[Any]) -> list[int]:
            if self.label_format == "multi_hot":
                return [i for i, value in enumerate(values) if value]
            return sorted({i for i in labels.encode(values) if i != IGNORED})

        key = {
            "task": "multi_label/1",
            "max_length": max_length,
            "labels": labels.names,
            "label_format": self.label_format,
        }
        rows, messages = say_truncated(encode_splits(splits, encode, processor, key), max_length)
        self._count = len(labels.names)
        if self.label_format == "names":
            rows = type(splits)(
                {split: with_true_names(rows[split], splits[split], labels, "labels") for split in rows}
            )
        head = labels.head() | {"problem_type": "multi_label_classification"}
        return EncodedData(rows, head, messages, self.multi_label_loss(splits, rows, labels.names))

    def initialize(self, network: Network, data: EncodedData) -> None:
        """Set the biases of a newly initialized head to the log odds of the labels in training, times `pos_weight`.

        With biases of 0, every label would start at a probability of 0.5. The first steps would then train the whole
        model to predict no label, and MiniLM stays in that state.
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 4.1.
        """
        import torch

        names = [name for name in network.new if name.endswith("bias")]
        biases = [bias for bias in map(network.module.get_parameter, names) if bias.shape == (self._count,)]
        if biases and not is_stream(rows := data.splits["train"]):
            counts = torch.bincount(torch.tensor([i for row in rows["labels"] for i in row]), minlength=self._count)
            with torch.no_grad():
                biases[-1].copy_(torch.logit((counts + 1) / (len(rows) + 2)))
                if data.loss and data.loss.label_weights:
                    biases[-1].add_(torch.tensor(data.loss.label_weights).log())

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest row; `labels` (batch, labels) float32 of 0 and 1."""
        return _Collator(processor, self._count)

    def row_metrics(self, names: Sequence[str] = ()) -> list[str]:
        """Return the metrics of predictions, and those of probabilities if predictions list all of them."""
        if self.lists_all(names):
            return [name for name in self.definitions() if name != LOSS.name]
        return super().row_metrics(names)

    def reduce_logits(self, logits: Any, labels: Any) -> dict[str, torch.Tensor]:
        """Reduce (batch, labels) to uint8, 1 for predicted labels, or to probabilities if the threshold is tuned.

        The most probable labels are also returned, and all probabilities if a metric needs them.
        """
        import torch

        probabilities = self.probabilities(logits)
        outputs = top(probabilities, self.max_probabilities)
        if not self.tune_threshold:
            outputs[PREDICTIONS] = (probabilities > self.threshold).to(torch.uint8)
        if self.tune_threshold or (labels is not None and SCORES in self.needed_inputs()):
            outputs[SCORES] = probabilities
        return outputs

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names, and the threshold if it is tuned."""
        from scipy.sparse import csr_matrix

        references, outputs, tuned_values = prediction.label_ids.astype("uint8"), prediction.predictions, {}
        if self.tune_threshold:
            threshold = evaluated.tuned.get("threshold")
            threshold = self._best_threshold(references, outputs[SCORES]) if threshold is None else threshold
            tuned_values["threshold"] = threshold
            predicted = csr_matrix((outputs[SCORES] >= threshold).astype("uint8"))
        else:
            predicted = csr_matrix(outputs[PREDICTIONS])
        names = [*evaluated.head["id2label"].values()]
        if (true_names := evaluated.true_names()) is not None:
            references = _label_matrix(true_names, names)
            predicted.resize(references.shape)  # labels that the head does not have are never predicted
            names = _with_unseen(names, true_names)
        scores = {SCORES: outputs[SCORES]} if SCORES in outputs else {}
        return self._scores(csr_matrix(references), predicted, names, **scores) | tuned_values

    def _best_threshold(self, references: Any, probabilities: Any) -> float:
        """Return the threshold that maximizes the metric of `tune_threshold`."""
        if self.tune_threshold in (True, "micro_f1"):
            return best_threshold(references, probabilities)
        from scipy.sparse import csr_matrix

        function: Any = self.definitions()[str(self.tune_threshold)].function
        true = csr_matrix(references)
        return best_threshold_of(lambda predictions: function(csr_matrix(predictions), true), probabilities)

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the names of the predicted labels, and the probabilities of the most probable ones."""
        names, threshold = evaluated.head["id2label"], evaluated.tuned.get("threshold", 1)
        columns = predictions[SCORES if self.tune_threshold else PREDICTIONS], *map(predictions.get, _TOP)
        for values, ids, probabilities in zip(*columns, strict=True):
            row = {"predictions": [names[i] for i, value in enumerate(values) if value >= threshold]}
            yield row | ({FIELD: named(names, ids, probabilities)} if self.max_probabilities else {})

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the names of the true and of the predicted labels."""
        names = evaluated.head["id2label"]
        true = evaluated.true_names() or [
            [names[i] for i, value in enumerate(row) if value] for row in prediction.label_ids
        ]
        for labels, predicted in zip(true, self.format_predictions(prediction.predictions, evaluated), strict=True):
            yield {"labels": labels, **predicted}

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:
        """Return a table with the scores of each label."""
        from hydratune.tasks.metrics.tables import label_sets

        true, predicted = column_values(rows, "labels", "predictions")
        return label_sets(true, predicted, _with_unseen([*head["id2label"].values()], true))

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
        """Return the metrics that the config names."""
        true, predicted = column_values(rows, "labels", "predictions")
        matrix = probability_matrix(rows, names) if SCORES in self.needed_inputs() else None
        scores = {} if matrix is None else {SCORES: matrix.numpy()}
        names = _with_unseen(names, true)
        return self._scores(_label_matrix(true, names), _label_matrix(predicted, names), names, **scores)

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """Return the sums of a row for subset accuracy and micro F1."""
        true, predicted = {*row["labels"]}, {*row["predictions"]}
        common = 2.0 * len(true & predicted)
        return {
            "subset_accuracy": (float(true == predicted), 1.0),
            "micro_f1": (common, float(len(true) + len(predicted))),
        }

    def bootstrap_metric(
        self, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Callable[[Sequence[int]], float]:
        """Return a function that computes macro F1 from counts of labels; other metrics use the base class."""
        import numpy as np

        if metric != "macro_f1" or metric in self.extra_metrics:
            return super().bootstrap_metric(metric, rows, names)
        true, predicted = column_values(rows, "labels", "predictions")
        all_names = _with_unseen(names, true)
        references, predictions = (_label_matrix(label_sets, all_names).tocsr() for label_sets in (true, predicted))
        hits = references.multiply(predictions).tocsr()
        is_in_head = np.arange(len(all_names)) < len(names)

        def from_counts(numbers: Sequence[int]) -> float:
            weights = np.bincount(numbers, minlength=len(rows)).astype(float)
            hit_counts, true_counts, predicted_counts = (weights @ matrix for matrix in (hits, references, predictions))
            f1 = 2 * hit_counts / np.maximum(true_counts + predicted_counts, 1)
            return float(f1[is_in_head | (true_counts > 0)].mean())

        return from_counts

    def _scores(self, references: Any, predictions: Any, names: Sequence[str], **scores: Any) -> dict[str, float]:
        """Return the metrics of (rows, labels) sparse matrices of 0 and 1, which extra metrics need as arrays."""
        if self.extra_metrics:
            predictions, references = predictions.toarray(), references.toarray()
        return self.scores(predictions=predictions, references=references, label_names=[*names], **scores)


def _with_unseen(names: Sequence[str], true: Sequence[Sequence[str]]) -> list[str]:
    """Return the label names of a head, followed by those of true labels that it does not have."""
    return list(dict.fromkeys((*names, *(label for row in true for label in row))))


def _label_matrix(rows: Sequence[Sequence[str]], names: Sequence[str]) -> Any:
    """Return a (rows, labels) sparse matrix of 0 and 1; labels that are not among `names` follow them."""
    from sklearn.preprocessing import MultiLabelBinarizer

    return MultiLabelBinarizer(classes=_with_unseen(names, rows), sparse_output=True).fit_transform(rows)


def _repeats(splits: DatasetDict) -> Iterator[BadRow]:
    """Yield lists with a label twice, which are often indicators."""
    for split, rows in splits.items():
        for row, values in enumerate(arrow_column(rows, "labels").to_pylist()):
            if values and None not in values and len(set(values)) < len(values):
                hint = "set task.label_format=multi_hot for indicators" if {*map(str, values)} <= {"0", "1"} else ""
                text = f"duplicate labels in {COLUMN}: {preview(values)}"
                yield BadRow(split, row, "labels", text, hint, preview(values))


@dataclass
class _Collator:
    """Collator that pads texts, and converts any label IDs to multi-hot vectors."""

    tokenizer: Any
    count: int

    def __call__(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        import torch

        texts = [{name: value for name, value in row.items() if name != "labels"} for row in rows]
        batch = self.tokenizer.pad(texts, return_tensors="pt")
        if "labels" not in rows[0]:
            return {**batch}
        labels = torch.zeros(len(rows), self.count)
        for i, row in enumerate(rows):
            labels[i, row["labels"]] = 1.0
        return {**batch, "labels": labels}
