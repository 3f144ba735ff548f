"""Causal language modeling: predict the next token of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.cache import arrow_column
from hydratune.data.columns import BadRow, Column
from hydratune.data.streaming import described, is_stream
from hydratune.tasks.base import EncodedData, EvalSplit
from hydratune.tasks.language_modeling import PERPLEXITY, TOKEN_ACCURACY, CausalTask, mean_scores, select_metrics
from hydratune.tasks.metrics.metric import Metric, error
from hydratune.tasks.tokenize import Batch, encode_splits
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction, PretrainedConfig

PIECE = 10_000  # characters of the lines that are tokenized together


@dataclass(kw_only=True)
class CausalLm(CausalTask):
    """Causal language modeling on column `text`; the texts of a split are packed into blocks without padding.

    Perplexity is per token, and comparable only for the same tokenizer. Bits per byte, of the texts in UTF-8, are
    comparable for all models with lossless tokenizers. A split's bytes are spread evenly over its tokens: the first
    token of a block is not predicted, and end tokens are predicted but have no bytes.

    Args:
        block_size: Tokens of a block; fewer if the model has fewer positions.
        document_separator: Separator after each text: the tokenizer's end token (`eos`), or a line break (`newline`),
            which joins the lines of a text file as they were.

    Example:
        >>> CausalLm(metrics=["bits_per_byte"], block_size=256).objectives()
        ['eval_loss', 'eval_bits_per_byte']
    """

    columns: ClassVar[Mapping[str, Column]] = {"text": Column("text")}
    known_metrics: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, error("bits_per_byte"), TOKEN_ACCURACY)
    streams: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["perplexity"])
    objective: str = "eval_perplexity"
    block_size: int = 128
    document_separator: Literal["eos", "newline"] = "eos"

    def check(self) -> Iterator[Problem]:
        """Also yield an error if a block has no token to predict."""
        yield from super().check()
        if self.block_size < 2:
            yield invalid_value("block_size", "an integer of at least 2", self.block_size)
        if self.max_length == 1:
            yield invalid_value("max_length", "null or an integer of at least 2", self.max_length)

    def keeps_order(self) -> bool:
        """Return True for the lines of a text."""
        return self.document_separator == "newline"

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Yield only null rows, since a blank line is valid."""
        return (bad for bad in super().bad_rows(splits, label_names) if bad.value == "None")

    def max_tokens(self, config: PretrainedConfig, processor: Any) -> int | None:
        """Return at most the block size, since the model is not trained on longer inputs."""
        return min(self.block_size, super().max_tokens(config, processor) or self.block_size)

    def prompts(self, batch: Batch, processor: Any) -> list[list[int]]:
        """Return the tokens of each text; for an empty text, the separator, which precedes texts."""
        separator = [_end_token(processor)] if self.document_separator == "eos" else processor("\n")["input_ids"]
        ids = processor(batch["text"], add_special_tokens=False, verbose=False)["input_ids"]
        return [row or separator for row in ids]

    def ends(self, processor: Any) -> list[int]:
        """Return the end token, or nothing for texts joined as lines, which have no end token."""
        return [_end_token(processor)] if self.document_separator == "eos" else []

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (texts have no labels)
    ) -> EncodedData:
        """Return rows of `input_ids`, all of the same length, with the average number of `bytes` of their text."""
        size = min(self.block_size, max_length or self.block_size)
        separator = [_end_token(processor)] if self.document_separator == "eos" else []

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            ids = processor(batch["text"], add_special_tokens=False, verbose=False)["input_ids"]
            return {
                "input_ids": [row + separator for row in ids],
                "bytes": [len(text.encode()) for text in batch["text"]],
            }

        if self.document_separator == "newline":
            splits = type(splits)({split: _joined(rows) for split, rows in splits.items()})
        key = {"task": "causal_lm/2", "document_separator": self.document_separator}
        encoded = encode_splits(splits, encode, processor, key)
        messages: list[str] = []
        return EncodedData(
            type(splits)({split: _packed(rows, split, size, messages) for split, rows in encoded.items()}), {}, messages
        )

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:  # noqa: ARG002
        """Return a collator for `input_ids` and `labels` (batch, block_size) int64; the model shifts the labels."""
        return _collate

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names."""
        scores = mean_scores(prediction.predictions)
        first_block = evaluated.rows[0]
        bytes_per_token = first_block["bytes"] / len(first_block["input_ids"])
        scores["bits_per_byte"] = scores["nats"] / math.log(2) / bytes_per_token
        return select_metrics(scores, self.metrics)


def _end_token(tokenizer: Any) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return token
    text = f"{KEY}=eos needs a tokenizer with an end token, which {type(tokenizer).__name__} does not have"
    raise ConfigError(Problem("task.document_separator", text, f"set {KEY}=newline"))


def _joined(rows: Any) -> Any:
    """Join lines to texts of many lines.

    Many tokenizers encode a line alone differently than within a text: they put a space before its first word, or
    have tokens of line breaks with the characters that follow. The ends of the texts do not depend on the machine.
    """
    from datasets import Dataset, Features

    if is_stream(rows):
        features = Features({"text": rows.features["text"]})
        other_columns = [name for name in rows.column_names if name != "text"]
        return rows.map(
            lambda batch: {"text": list(_pieces(batch["text"]))},
            batched=True,
            remove_columns=other_columns,
            features=features,
        )
    lines = (line for batch in rows.select_columns("text").iter(batch_size=1000) for line in batch["text"])
    return Dataset.from_dict({"text": list(_pieces(lines))})


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines with their line breaks, joined until there are over PIECE characters."""
    piece: list[str] = []
    size = 0
    for line in lines:
        piece.append(f"{line}\n")
        size += len(piece[-1])
        if size > PIECE:
            yield "".join(piece)
            piece, size = [], 0
    if piece:
        yield "".join(piece)


def _packed(rows: Any, split: str, size: int, messages: list[str]) -> Dataset:
    """Return the tokens of all rows in blocks of `size`; the rest is dropped, and reported if it is over 1%."""
    from datasets import Dataset

    if is_stream(rows):
        blocks = rows.map(
            lambda batch: {"input_ids": _blocks(batch["input_ids"], size)}, batched=True, remove_columns=["bytes"]
        )
        return described(blocks, f"block_size: {size}")
    import pyarrow.compute as pc

    tokens = pc.list_flatten(arrow_column(rows, "input_ids")).to_numpy()
    count = len(tokens) // size
    if not count:
        text = f"{split} has only {len(tokens):,} tokens, less than one block of {size}"
        raise ConfigError(Problem("task.block_size", text, f"lower {KEY}, or add text"))
    if (dropped := len(tokens) % size) * 100 > len(tokens):
        messages.append(
            f"{dropped:,} of {len(tokens):,} tokens of {split} do not fill a block of {size} and are dropped"
        )
    mean_bytes = size * pc.sum(arrow_column(rows, "bytes")).as_py() / len(tokens)
    return Dataset.from_dict({"input_ids": tokens[: count * size].reshape(count, size), "bytes": [mean_bytes] * count})


def _blocks(rows: list[list[int]], size: int) -> list[list[int]]:
    tokens = [token for row in rows for token in row]
    return [tokens[i : i + size] for i in range(0, len(tokens) - size + 1, size)]


def _collate(rows: list[Any]) -> dict[str, torch.Tensor]:
    import torch

    ids = torch.tensor([row["input_ids"] for row in rows])
    return {"input_ids": ids, "labels": ids.clone()}
