"""One label for a text or for a pair of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.rows import BadRow, Column
from hydratune.tasks.base import Evaluated, Prepared, Task
from hydratune.tasks.encode import encode_splits, encode_texts, say_truncated
from hydratune.tasks.labels import collect_labels, unknown_labels

if TYPE_CHECKING:
    import torch
    from datasets import DatasetDict
    from transformers import EvalPrediction, PreTrainedTokenizerBase


@dataclass(kw_only=True)
class SequenceClassification(Task):
    """Columns `text`, optionally `text_pair`, and `label`, which may be a string, an id or a truth value."""

    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"
    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("text"),
        "text_pair": Column("text", required=False),
        "label": Column("label"),
    }
    known_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "macro_f1", "matthews_correlation")
    streams: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    objective: str = "eval_accuracy"

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Adds: labels that are none of the known ones."""
        yield from super().bad_rows(splits, label_names)
        yield from unknown_labels(splits, label_names)

    def prepare(
        self, splits: DatasetDict, processor: Any, max_length: int | None, label_names: list[str] | None
    ) -> Prepared:
        """Rows of `input_ids` and `labels`."""
        labels = collect_labels(splits, label_names)

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            return encode_texts(batch, processor, max_length) | {"labels": labels.encode(batch["label"])}

        key = {"task": "sequence_classification/2", "max_length": max_length, "labels": labels.names}
        encoded, said = say_truncated(encode_splits(splits, encode, processor, key), max_length)
        return Prepared(encoded, labels.head(), said)

    def collator(self, processor: PreTrainedTokenizerBase) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Pads a batch to its own longest row: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(processor)

    def reduce_logits(self, logits: Any, labels: Any) -> torch.Tensor:  # noqa: ARG002 (Trainer's call)
        """(batch, labels) -> (batch,) predicted ids."""
        scores = logits[0] if isinstance(logits, tuple) else logits
        return scores.argmax(dim=-1)

    def compute_metrics(self, prediction: EvalPrediction, evaluated: Evaluated) -> dict[str, float]:
        """The metrics that the config names."""
        from hydratune.tasks.metrics import CLASSIFICATION

        pairs = {"predictions": prediction.predictions, "references": prediction.label_ids}
        count = evaluated.head["num_labels"]
        return {name: CLASSIFICATION[name]().compute(**pairs, num_labels=count)[name] for name in self.metrics}

    def decode(self, prediction: EvalPrediction, evaluated: Evaluated) -> Iterable[Mapping[str, Any]]:
        """The names of the true and of the predicted label."""
        names = evaluated.head["id2label"]
        for label, said in zip(prediction.label_ids, prediction.predictions, strict=True):
            yield {"label": names[int(label)], "prediction": names[int(said)]}
