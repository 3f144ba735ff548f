"""Sequence classification: one label per text or pair of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.columns import ROW_WEIGHT, Column
from hydratune.tasks.base import EncodedData
from hydratune.tasks.labels import collect_labels, with_true_names
from hydratune.tasks.losses import WEIGHT_COLUMN, row_weights
from hydratune.tasks.single_label import SingleLabelTask
from hydratune.tasks.tokenize import encode_splits, say_truncated

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(kw_only=True)
class SequenceClassification(SingleLabelTask):
    """Sequence classification on columns `text`, optionally `text_pair`, and `label`, a string, an ID, or a boolean.

    Example:
        >>> rows = [{"label": "pos", "prediction": "pos"}, {"label": "neg", "prediction": "pos"}]
        >>> SequenceClassification(metrics=["accuracy"]).metrics_from_predictions(rows, ["neg", "pos"])["accuracy"]
        0.5
    """

    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str | None] = "text-classification"
    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("text"),
        "text_pair": Column("text", required=False),
        "label": Column("label", target=True),
        ROW_WEIGHT: WEIGHT_COLUMN,
    }
    streams: ClassVar[bool] = True

    def prepare(
        self, splits: DatasetDict, processor: Any, max_length: int | None, label_names: list[str] | None
    ) -> EncodedData:
        """Return rows of `input_ids` and `labels`."""
        labels = collect_labels(splits, label_names)
        self.use_labels(labels.names)

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            targets = {"labels": labels.encode(batch["label"]), **row_weights(batch)}
            return self.encode(batch, processor, max_length) | targets

        key = {"task": "sequence_classification/2", "max_length": max_length, "labels": labels.names}
        encoded, messages = say_truncated(encode_splits(splits, encode, processor, key), max_length)
        named_splits = {split: with_true_names(rows, splits[split], labels) for split, rows in encoded.items()}
        loss = self.class_loss(splits, encoded, labels.names)
        return EncodedData(type(splits)(named_splits), labels.head(), messages, loss)
