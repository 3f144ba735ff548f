"""Cached tokenization of rows, which the tasks over text share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from hydratune.data.cache import cached_map, tokenizer_hash
from hydratune.data.streaming import is_stream

if TYPE_CHECKING:
    from datasets import DatasetDict

IGNORED = -100  # label of tokens that torch's cross entropy ignores
Batch = Mapping[str, list[Any]]  # columns of some rows
Encode = Callable[..., Mapping[str, list[Any]]]  # takes a batch of columns, and the row numbers if requested


def encode_splits(
    splits: DatasetDict, encode: Encode, tokenizer: Any, key: Mapping[str, Any], with_indices: bool = False
) -> DatasetDict:
    """Return each split mapped by `encode` in batches, or read from the cache.

    Args:
        splits: Rows under the task's column names.
        encode: Takes a batch of columns and returns a batch of new ones, of any number of rows.
        tokenizer: Tokenizer that `encode` uses.
        key: Other values that the result depends on, with the task's name and a version number of its code.
        with_indices: Whether `encode` also takes the rows' numbers in their split.
    """
    full_key = {"tokenizer": tokenizer_hash(tokenizer), "tokenizers": version("tokenizers"), **key}
    return type(splits)(
        {
            split: cached_map(rows, encode, {**full_key, "split": split}, f"tokenizing {split}", with_indices)
            for split, rows in splits.items()
        }
    )


def encode_texts(batch: Mapping[str, list[Any]], tokenizer: Any, max_length: int | None) -> dict[str, Any]:
    """Return the model inputs of the columns `text` and `text_pair`, and whether each row was `truncated`."""
    texts = [batch["text"], *([batch["text_pair"]] if "text_pair" in batch else [])]
    encoded = tokenizer(*texts, **cut(max_length))
    return {**encoded, "truncated": truncated(tokenizer, encoded, *texts)}


def cut(max_length: int | None) -> dict[str, Any]:
    """Return the arguments that make a tokenizer truncate texts, if there is a limit."""
    return {"truncation": True, "max_length": max_length} if max_length else {}


def truncated(tokenizer: Any, encoded: Any, *texts: Any) -> list[bool]:
    """Return whether each text of a batch, encoded with `cut`, lost tokens."""
    if encoded.is_fast:
        return [bool(encoding.overflowing) for encoding in encoded.encodings]
    full_ids = tokenizer(*texts, verbose=False)["input_ids"]
    return [len(full) > len(short) for full, short in zip(full_ids, encoded["input_ids"], strict=True)]


def say_truncated(splits: DatasetDict, max_length: int | None, what: str = "texts") -> tuple[DatasetDict, list[str]]:
    """Return the splits without their column `truncated`, and a sentence with its counts, except for streams."""
    counts = {split: sum(rows["truncated"]) for split, rows in splits.items() if not is_stream(rows)}
    split_counts = ", ".join(f"{count:,} of {split}" for split, count in counts.items() if count)
    messages = (
        [f"{sum(counts.values()):,} {what} were truncated to {max_length} tokens: {split_counts}"]
        if split_counts
        else []
    )
    return type(splits)({split: rows.remove_columns("truncated") for split, rows in splits.items()}), messages
