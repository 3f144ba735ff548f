"""The next token of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.cache import arrow_column
from hydratune.data.rows import BadRow, Column
from hydratune.data.streaming import is_stream
from hydratune.errors import ConfigError, Mistake
from hydratune.tasks.base import Evaluated, Prepared
from hydratune.tasks.encode import encode_splits
from hydratune.tasks.language_modeling import LeftToRight, chosen, mean_scores

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction


@dataclass(kw_only=True)
class CausalLm(LeftToRight):
    """Column `text`. All texts of a split are joined and cut into blocks, so that no token is padding.

    Perplexity is per token, and comparable only for one tokenizer. Bits per byte, of the texts in UTF-8, compare
    any networks whose tokenizers lose nothing.

    Args:
        block_size: Tokens of a block; fewer where the network has fewer positions.
        separator: What follows each text: the tokenizer's end token (`eos`), or a line break (`newline`), which
            joins the lines of a text file as they were.
    """

    columns: ClassVar[Mapping[str, Column]] = {"text": Column("text")}
    known_metrics: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte", "accuracy")
    streams: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["perplexity"])
    objective: str = "eval_perplexity"
    block_size: int = 128
    separator: Literal["eos", "newline"] = "eos"

    def check(self) -> Iterator[Mistake]:
        """Adds: whether a block has a token to predict."""
        yield from super().check()
        if self.block_size < 2:
            yield Mistake("block_size", "at least 2 tokens", repr(self.block_size), "Set task.block_size=128.")

    def keeps_order(self) -> bool:
        """True for the lines of a text."""
        return self.separator == "newline"

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Nulls only: a blank line is a line."""
        return (bad for bad in super().bad_rows(splits, label_names) if bad.got == "no value")

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (texts have no labels)
    ) -> Prepared:
        """Rows of `input_ids`, all of one length, with the `bytes` of text that they stand for on average."""
        size = min(self.block_size, max_length or self.block_size)
        end = _end_token(processor) if self.separator == "eos" else None

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            texts = batch["text"] if end is not None else [f"{text}\n" for text in batch["text"]]
            ids = processor(texts, add_special_tokens=False, verbose=False)["input_ids"]
            return {
                "input_ids": [[*row, end] for row in ids] if end is not None else ids,
                "bytes": [len(text.encode()) for text in texts],
            }

        key = {"task": "causal_lm/1", "separator": self.separator}
        encoded = encode_splits(splits, encode, processor, key)
        return Prepared(type(splits)({split: _packed(rows, split, size) for split, rows in encoded.items()}), {})

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:  # noqa: ARG002
        """`input_ids` and `labels` (batch, block_size) int64; the network shifts the labels."""
        return _collate

    def compute_metrics(self, prediction: EvalPrediction, evaluated: Evaluated) -> dict[str, float]:
        """The metrics that the config names."""
        scores = mean_scores(prediction.predictions)
        first = evaluated.rows[0]
        bytes_per_token = first["bytes"] / len(first["input_ids"])
        scores["bits_per_byte"] = scores["nats"] / math.log(2) / bytes_per_token
        return chosen(scores, self.metrics)


def _end_token(tokenizer: Any) -> int:
    for token in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return token
    fix = "Set task.separator=newline."
    raise ConfigError(Mistake("task.separator", "a tokenizer with an end token", "one without", fix))


def _packed(rows: Any, split: str, size: int) -> Dataset:
    """The tokens of all rows in blocks of `size`; what is left at the end is dropped."""
    from datasets import Dataset

    if is_stream(rows):
        return rows.map(
            lambda batch: {"input_ids": _blocks(batch["input_ids"], size)}, batched=True, remove_columns=["bytes"]
        )
    import pyarrow.compute as pc

    tokens = pc.list_flatten(arrow_column(rows, "input_ids")).to_numpy()
    count = len(tokens) // size
    if not count:
        got = f"{len(tokens):,} tokens in {split}"
        raise ConfigError(Mistake("task.block_size", f"at least one block of {size} tokens", got, "Lower it."))
    average = size * pc.sum(arrow_column(rows, "bytes")).as_py() / len(tokens)
    return Dataset.from_dict({"input_ids": tokens[: count * size].reshape(count, size), "bytes": [average] * count})


def _blocks(rows: list[list[int]], size: int) -> list[list[int]]:
    tokens = [token for row in rows for token in row]
    return [tokens[i : i + size] for i in range(0, len(tokens) - size + 1, size)]


def _collate(rows: list[Any]) -> dict[str, torch.Tensor]:
    import torch

    ids = torch.tensor([row["input_ids"] for row in rows])
    return {"input_ids": ids, "labels": ids.clone()}
