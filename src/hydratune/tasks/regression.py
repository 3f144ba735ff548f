"""Regression: a number for a text or for a pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.columns import ROW_WEIGHT, Column
from hydratune.tasks.base import EncodedData, EvalSplit, Task
from hydratune.tasks.losses import WEIGHT_COLUMN, SquaredError, have_row_weights, row_weights
from hydratune.tasks.metrics.metric import Metric
from hydratune.tasks.metrics.regression import REGRESSION
from hydratune.tasks.tokenize import encode_splits, say_truncated

if TYPE_CHECKING:
    import torch
    from datasets import DatasetDict
    from transformers import EvalPrediction


@dataclass(kw_only=True)
class Regression(Task):
    """Regression on columns `text`, optionally `text_pair`, and `label`, a number.

    Example:
        >>> rows = [{"label": 1.0, "prediction": 2.0}, {"label": 3.0, "prediction": 3.0}]
        >>> Regression(metrics=["mse"]).metrics_from_predictions(rows, [])["mse"]
        0.5
    """

    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str | None] = "text-classification"
    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("text"),
        "text_pair": Column("text", required=False),
        "label": Column("number", target=True),
        ROW_WEIGHT: WEIGHT_COLUMN,
    }
    known_metrics: ClassVar[tuple[Metric, ...]] = REGRESSION
    streams: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["pearson"])
    objective: str = "eval_pearson"

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (numbers have no names)
    ) -> EncodedData:
        """Return rows of `input_ids` and `labels`."""

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            targets = {"labels": [float(value) for value in batch["label"]], **row_weights(batch)}
            return self.encode(batch, processor, max_length) | targets

        encoded = encode_splits(splits, encode, processor, {"task": "regression/1", "max_length": max_length})
        rows, messages = say_truncated(encoded, max_length)
        loss = SquaredError(has_row_weights=have_row_weights(splits))
        return EncodedData(rows, {"num_labels": 1, "problem_type": "regression"}, messages, loss)

    def reduce_logits(self, logits: Any, labels: Any) -> torch.Tensor:  # noqa: ARG002 (Trainer's call)
        """Reduce (batch, 1) to (batch,) numbers."""
        values = logits[0] if isinstance(logits, tuple) else logits
        return values.squeeze(-1).float()

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names."""
        return self.metrics_from_predictions(list(self.predictions_with_labels(prediction, evaluated)), ())

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:  # noqa: ARG002
        """Return the predicted number of each row."""
        return ({"prediction": float(value)} for value in predictions)

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the true and the predicted number of each row."""
        for label, predicted in zip(
            prediction.label_ids, self.format_predictions(prediction.predictions, evaluated), strict=True
        ):
            yield {"label": float(label), **predicted}

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics that the config names."""
        import numpy as np

        references, predictions = (np.array([row[key] for row in rows], dtype=float) for key in ("label", "prediction"))
        return self.scores(predictions=predictions, references=references)

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """Return the sums of a row for both mean errors."""
        error = row["prediction"] - row["label"]
        return {"mse": (error**2, 1.0), "mae": (abs(error), 1.0)}
