"""One label for a text or for a pair of texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.cache import arrow_column, map_once, tokenizer_hash
from hydratune.errors import ConfigError, Mistake
from hydratune.tasks.base import Prepared, Task
from hydratune.tasks.labels import Labels, collect_labels

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction, PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class SequenceClassification(Task):
    """Columns `text`, optionally `text_pair`, and `label`, which may be a string, an id or a truth value."""

    auto_model: ClassVar[str] = "AutoModelForSequenceClassification"
    columns: ClassVar[Mapping[str, bool]] = {"text": True, "text_pair": False, "label": True}
    known_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "macro_f1", "matthews_correlation")

    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    objective: str = "eval_accuracy"

    def prepare(
        self,
        splits: DatasetDict,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None,
        label_names: list[str] | None,
    ) -> Prepared:
        """Rows of `input_ids` and `labels`."""
        _check_texts(splits)
        labels = collect_labels(splits, label_names)
        key = {
            "task": "sequence_classification/1",
            "tokenizer": tokenizer_hash(tokenizer),
            "tokenizers": version("tokenizers"),
            "max_length": max_length,
            "labels": labels.names,
        }
        encoded, truncated = {}, {}
        for split, rows in splits.items():
            encode = _Encoder(tokenizer, max_length, labels)
            done = map_once(rows, encode, key, what=f"tokenising {split}")
            truncated[split] = sum(done["truncated"])
            encoded[split] = done.remove_columns("truncated")
        return Prepared(type(splits)(encoded), labels.head(), truncated)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Pads a batch to its own longest row: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(tokenizer)

    def reduce_logits(self, logits: Any, labels: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (Trainer's call)
        """(batch, labels) -> (batch,) predicted ids."""
        scores = logits[0] if isinstance(logits, tuple) else logits
        return scores.argmax(dim=-1)

    def compute_metrics(self, prediction: EvalPrediction, head: Mapping[str, Any]) -> dict[str, float]:
        """The metrics that the config names."""
        from hydratune.tasks.metrics import CLASSIFICATION

        pairs = {"predictions": prediction.predictions, "references": prediction.label_ids}
        scores = {name: CLASSIFICATION[name]() for name in self.metrics}
        return {name: score.compute(**pairs, num_labels=head["num_labels"])[name] for name, score in scores.items()}

    def decode(self, predictions: Any, head: Mapping[str, Any]) -> list[Any]:
        """The name of each predicted label."""
        return [head["id2label"][int(i)] for i in predictions]


@dataclass
class _Encoder:
    """Tokenises a batch of texts or pairs and numbers its labels."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int | None
    labels: Labels

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, Any]:
        texts = [batch["text"], *([batch["text_pair"]] if "text_pair" in batch else [])]
        cut = {"truncation": True, "max_length": self.max_length} if self.max_length else {}
        encoded = self.tokenizer(*texts, **cut)
        if encoded.is_fast:
            truncated = [bool(encoding.overflowing) for encoding in encoded.encodings]
        else:
            whole = self.tokenizer(*texts, verbose=False)["input_ids"]
            truncated = [len(w) > len(c) for w, c in zip(whole, encoded["input_ids"], strict=True)]
        labels = self.labels.encode(batch["label"])
        return {**encoded, "labels": labels, "truncated": truncated}


def _check_texts(splits: DatasetDict) -> None:
    mistakes = [
        mistake
        for split, rows in splits.items()
        for column in ("text", "text_pair")
        if column in rows.column_names
        for mistake in _check_text(split, column, rows)
    ]
    if mistakes:
        raise ConfigError(*mistakes)


def _check_text(split: str, column: str, rows: Dataset) -> list[Mistake]:
    """Columns of other types, and rows without a text, which would be tokenised into nothing."""
    key, dtype = (
        f"dataset.columns.{column}",
        str(getattr(rows.features[column], "dtype", rows.features[column])),
    )
    if dtype not in ("string", "large_string"):
        fix = f"Name a column of texts in {key}."
        return [Mistake(key, f"texts in {split}", f"values of type {dtype}", fix)]
    is_null = arrow_column(rows, column).is_null()
    first = is_null.index(True).as_py()
    if first < 0:
        return []
    where = f"no text in {is_null.to_pylist().count(True)} rows of {split}, the first of them row {first + 1}"
    return [Mistake(key, "a text in every row", where, "Fill or drop these rows.")]
