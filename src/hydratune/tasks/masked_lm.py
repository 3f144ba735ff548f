"""The tokens of a text that are masked."""

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
from hydratune.utils.errors import ConfigError, Mistake

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction, PreTrainedModel, TrainerCallback


@dataclass(kw_only=True)
class MaskedLm(Task):
    """Column `text`. Each epoch of training has other masks; evaluation has the same masks in all runs.

    Args:
        mlm_probability: Share of the tokens that are masked.
        whole_word_mask: Mask all tokens of a word, and always by the mask token; otherwise one in ten is replaced
            by another token and one in ten stays as it is, as in BERT.
        seed: Seed of the training masks. The masks of evaluation do not depend on it.
    """

    auto_model: ClassVar[str] = "AutoModelForMaskedLM"
    pipeline: ClassVar[str | None] = "fill-mask"
    undecoded: ClassVar[str] = UNDECODED
    columns: ClassVar[Mapping[str, Column]] = {"text": Column("text")}
    known_metrics: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, TOKEN_ACCURACY)
    metric_inputs: ClassVar[tuple[str, ...]] = ()

    metrics: list[str] = field(default_factory=lambda: ["perplexity"])
    objective: str = "eval_perplexity"
    mlm_probability: float = 0.15
    whole_word_mask: bool = False
    seed: int = 0

    def check(self) -> Iterator[Mistake]:
        """Adds: whether the share is one."""
        yield from super().check()
        if not 0 < self.mlm_probability < 1:
            fix = "Set task.mlm_probability=0.15."
            yield Mistake("mlm_probability", "a share between 0 and 1", repr(self.mlm_probability), fix)

    def check_processor(self, processor: Any) -> None:
        """Adds: whether there is a token to mask with, and for whole words whether they can be told."""
        super().check_processor(processor)
        if processor.mask_token is None:
            fix = "Choose a checkpoint that was trained with masks, or task=causal_lm."
            raise ConfigError(Mistake("model", "a tokenizer with a mask token", "one without", fix))
        if self.whole_word_mask and not processor.is_fast:
            fix = "Set task.whole_word_mask=false."
            raise ConfigError(Mistake("task.whole_word_mask", "false for a slow tokenizer", "true", fix))

    def arguments(self, objective: str) -> dict[str, Any]:
        """Adds: columns that the network does not take must reach the collator."""
        return super().arguments(objective) | {"remove_unused_columns": False}

    def callbacks(self, collator: Any) -> list[TrainerCallback]:
        """Tells the collator which epoch it is."""
        from hydratune.tasks.mask_collator import SetEpochCallback

        return [SetEpochCallback(collator)]

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (texts have no labels)
    ) -> EncodedData:
        """Rows of `input_ids`, what is special in them and where words are, and `example`."""

        def encode(batch: Mapping[str, list[Any]], numbers: list[int]) -> dict[str, Any]:
            asked = {"return_special_tokens_mask": True, "return_offsets_mapping": self.whole_word_mask}
            encoded = processor(
                batch["text"], return_token_type_ids=False, return_attention_mask=False, **asked, **cut(max_length)
            )
            columns = {**encoded, "truncated": truncated(processor, encoded, batch["text"]), "example": numbers}
            kept = [i for i, special in enumerate(encoded["special_tokens_mask"]) if not all(special)]
            return {name: [values[i] for i in kept] for name, values in columns.items()}

        key = {"task": "masked_lm/2", "max_length": max_length, "whole_word_mask": self.whole_word_mask}
        encoded = encode_splits(splits, encode, processor, key, with_indices=True)
        nothing = _say_nothing_to_mask(splits, encoded)
        encoded, said = say_truncated(encoded, max_length)
        for split in encoded:
            if split != "train":
                marks = [-1] * len(encoded[split])
                encoded[split] = encoded[split].remove_columns("example").add_column("example", marks)
        return EncodedData(encoded, {}, [*nothing, *said])

    def prepare_inputs(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Rows of `input_ids` with their `text`."""
        from datasets import Dataset

        self._tokenizer = processor
        texts = rows["text"][:]
        encoded = processor(texts, **cut(max_length))
        lost = truncated(processor, encoded, texts)
        return Dataset.from_dict({"input_ids": encoded["input_ids"], "text": texts, "truncated": lost})

    def inputs_collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Pads a batch to its own longest row and masks nothing: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        processor.padding_side = "right"  # `say` counts places from the left
        pad = DataCollatorWithPadding(processor)
        return lambda rows: pad([{"input_ids": row["input_ids"]} for row in rows])

    def respond(self, network: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, seq) best token ids."""
        return network(**batch).logits.argmax(dim=-1)

    def say(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Each text with its masks filled in, and the tokens that fill them; a text without a mask as it is."""
        mask, mask_id = self._tokenizer.mask_token, self._tokenizer.mask_token_id
        for row, best in zip(evaluated.rows, predictions, strict=True):
            places = [place for place, token in enumerate(row["input_ids"]) if token == mask_id]
            tokens = [self._tokenizer.decode([int(best[place])]).strip() for place in places]
            text = row["text"]
            for token in tokens:
                text = text.replace(mask, token, 1)
            yield {"prediction": text, "tokens": tokens}

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """See `MaskingCollator`."""
        from transformers import DataCollatorForLanguageModeling

        from hydratune.tasks.mask_collator import MaskingCollator

        always = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0} if self.whole_word_mask else {}
        masks = DataCollatorForLanguageModeling(
            processor, mlm_probability=self.mlm_probability, whole_word_mask=self.whole_word_mask, **always
        )
        return MaskingCollator(masks, self.seed)

    def reduce_logits(self, logits: Any, labels: Any) -> torch.Tensor:
        """(batch, seq, vocabulary) -> (batch, 3), see `token_scores`."""
        return token_scores(logits, labels, shift=False)

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:  # noqa: ARG002
        """The metrics that the config names, over the masked tokens."""
        return select_metrics(mean_scores(prediction.predictions), self.metrics)

    def example(self, row: Mapping[str, Any], processor: Any) -> dict[str, str]:
        """The begin of a text, and a mask for what may follow."""
        return {"text": f"{row['text'][:EXAMPLE]} {processor.mask_token}"}

    def decode(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:  # noqa: ARG002
        """Nothing: each masked token has its own prediction."""
        return ()

    def rescore(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Nothing, since there are no rows."""
        return {}


def _say_nothing_to_mask(splits: DatasetDict, encoded: DatasetDict) -> list[str]:
    """What was left out: a batch of nothing but special tokens would have no loss, and end the training in NaN."""
    said = []
    for split, rows in encoded.items():
        if not len(rows):
            fix = "Raise task.max_length, or choose a tokenizer that reads these texts."
            raise ConfigError(Mistake("task.max_length", "texts with a token to mask", f"none in {split}", fix))
        if lost := len(splits[split]) - len(rows):
            said.append(f"{lost:,} of {len(splits[split]):,} texts of {split} have no token to mask and are dropped")
    return said
