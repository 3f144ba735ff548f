"""Masked language modeling: predict the masked tokens of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.columns import Column
from hydratune.tasks.base import EXAMPLE, EncodedData, EvalSplit, Task
from hydratune.tasks.language_modeling import (
    PERPLEXITY,
    TOKEN_ACCURACY,
    UNDECODED,
    mean_scores,
    select_metrics,
    token_scores,
)
from hydratune.tasks.metrics.metric import Metric
from hydratune.tasks.tokenize import cut, encode_splits, say_truncated, truncated
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction, PreTrainedModel, TrainerCallback


@dataclass(kw_only=True)
class MaskedLm(Task):
    """Masked language modeling on column `text`; masks change in each training epoch, but are fixed in evaluation.

    Args:
        mlm_probability: Share of the tokens that are masked.
        whole_word_mask: Whether to mask all tokens of a word, always by the mask token. Otherwise, one in ten is
            replaced by another token and one in ten stays unchanged, as in BERT.
        seed: Seed of the training masks. The masks of evaluation do not depend on it.

    Example:
        >>> MaskedLm(metrics=["perplexity"], whole_word_mask=True).objectives()
        ['eval_loss', 'eval_perplexity']
    """

    auto_model: ClassVar[str] = "AutoModelForMaskedLM"
    pipeline: ClassVar[str | None] = "fill-mask"
    no_predictions_reason: ClassVar[str] = UNDECODED
    columns: ClassVar[Mapping[str, Column]] = {"text": Column("text")}
    known_metrics: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, TOKEN_ACCURACY)
    metric_inputs: ClassVar[tuple[str, ...]] = ()

    metrics: list[str] = field(default_factory=lambda: ["perplexity"])
    objective: str = "eval_perplexity"
    mlm_probability: float = 0.15
    whole_word_mask: bool = False
    seed: int = 0

    def check(self) -> Iterator[Problem]:
        """Also yield an error if the share is not between 0 and 1."""
        yield from super().check()
        if not 0 < self.mlm_probability < 1:
            yield invalid_value("mlm_probability", "between 0 and 1", self.mlm_probability, f"set {KEY}=0.15")

    def check_processor(self, processor: Any) -> None:
        """Also raise ConfigError for a tokenizer without a mask token, or for whole words, for a slow tokenizer."""
        super().check_processor(processor)
        if processor.mask_token is None:
            text = "this task needs a mask token, which the tokenizer of the model does not have"
            raise ConfigError(Problem("model", text, "set task=causal_lm\nchoose a masked language model such as BERT"))
        if self.whole_word_mask and not processor.is_fast:
            text = f"{KEY}=true needs a fast tokenizer, not {type(processor).__name__}"
            raise ConfigError(Problem("task.whole_word_mask", text, f"set {KEY}=false"))

    def arguments(self, objective: str) -> dict[str, Any]:
        """Also keep all columns, since some that the model does not take must reach the collator."""
        return super().arguments(objective) | {"remove_unused_columns": False}

    def callbacks(self, collator: Any) -> list[TrainerCallback]:
        """Return a callback that sets the epoch of the collator."""
        from hydratune.tasks.mask_collator import SetEpochCallback

        return [SetEpochCallback(collator)]

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (texts have no labels)
    ) -> EncodedData:
        """Return rows of `input_ids`, `special_tokens_mask`, `example`, and for whole words `offset_mapping`."""

        def encode(batch: Mapping[str, list[Any]], numbers: list[int]) -> dict[str, Any]:
            options = {"return_special_tokens_mask": True, "return_offsets_mapping": self.whole_word_mask}
            encoded = processor(
                batch["text"], return_token_type_ids=False, return_attention_mask=False, **options, **cut(max_length)
            )
            columns = {**encoded, "truncated": truncated(processor, encoded, batch["text"]), "example": numbers}
            maskable = [i for i, special in enumerate(encoded["special_tokens_mask"]) if not all(special)]
            return {name: [values[i] for i in maskable] for name, values in columns.items()}

        key = {"task": "masked_lm/2", "max_length": max_length, "whole_word_mask": self.whole_word_mask}
        encoded = encode_splits(splits, encode, processor, key, with_indices=True)
        dropped_messages = _say_nothing_to_mask(splits, encoded)
        encoded, messages = say_truncated(encoded, max_length)
        for split in encoded:
            if split != "train":
                marks = [-1] * len(encoded[split])
                encoded[split] = encoded[split].remove_columns("example").add_column("example", marks)
        return EncodedData(encoded, {}, [*dropped_messages, *messages])

    def prepare_inputs(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Return rows of `input_ids` with their `text`."""
        from datasets import Dataset

        self._tokenizer = processor
        texts = rows["text"][:]
        encoded = processor(texts, **cut(max_length))
        is_cut = truncated(processor, encoded, texts)
        return Dataset.from_dict({"input_ids": encoded["input_ids"], "text": texts, "truncated": is_cut})

    def inputs_collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest row and masks nothing: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        processor.padding_side = "right"  # `format_predictions` counts positions from the left
        pad = DataCollatorWithPadding(processor)
        return lambda rows: pad([{"input_ids": row["input_ids"]} for row in rows])

    def predict_batch(self, network: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return (batch, seq) most probable token IDs."""
        return network(**batch).logits.argmax(dim=-1)

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield each text with its masks filled in, and the tokens that fill them; a text without masks stays as is."""
        mask, mask_id = self._tokenizer.mask_token, self._tokenizer.mask_token_id
        for row, best_ids in zip(evaluated.rows, predictions, strict=True):
            positions = [position for position, token in enumerate(row["input_ids"]) if token == mask_id]
            tokens = [self._tokenizer.decode([int(best_ids[position])]).strip() for position in positions]
            text = row["text"]
            for token in tokens:
                text = text.replace(mask, token, 1)
            yield {"prediction": text, "tokens": tokens}

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a `MaskingCollator`."""
        from transformers import DataCollatorForLanguageModeling

        from hydratune.tasks.mask_collator import MaskingCollator

        mask_args = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0} if self.whole_word_mask else {}
        upstream_collator = DataCollatorForLanguageModeling(
            processor, mlm_probability=self.mlm_probability, whole_word_mask=self.whole_word_mask, **mask_args
        )
        return MaskingCollator(upstream_collator, self.seed)

    def reduce_logits(self, logits: Any, labels: Any) -> torch.Tensor:
        """Reduce (batch, seq, vocabulary) to (batch, 3), see `token_scores`."""
        return token_scores(logits, labels, shift=False)

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics that the config names, over the masked tokens."""
        return select_metrics(mean_scores(prediction.predictions), self.metrics)

    def example(self, row: Mapping[str, Any], processor: Any) -> dict[str, str]:
        """Return the start of a text, followed by a mask."""
        return {"text": f"{row['text'][:EXAMPLE]} {processor.mask_token}"}

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:  # noqa: ARG002
        """Return no rows, since each masked token has its own prediction."""
        return ()

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return no metrics, since there are no rows."""
        return {}


def _say_nothing_to_mask(splits: DatasetDict, encoded: DatasetDict) -> list[str]:
    """Report dropped texts: a batch of only special tokens would have no loss, and training would end in NaN."""
    messages = []
    for split, rows in encoded.items():
        if not len(rows):
            hint = f"raise {KEY}, or choose a tokenizer that supports these texts"
            raise ConfigError(Problem("task.max_length", f"no text of {split} has a token to mask", hint))
        if dropped := len(splits[split]) - len(rows):
            messages.append(
                f"{dropped:,} of {len(splits[split]):,} texts of {split} have no token to mask and are dropped"
            )
    return messages
