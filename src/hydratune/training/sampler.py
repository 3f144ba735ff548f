"""Batches of rows of about the same length, in an order that a resumed run finds again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyarrow import types
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroupedSampler(Sampler[int]):
    """Row numbers such that each batch has rows of similar lengths; the batch with the longest row comes first.

    The order of an epoch depends on the seed and its number alone. Upstream's depends on the state that torch's own
    generator happens to have, which a run that goes on in the middle of an epoch does not have; and it goes through
    each 50 batches from long to short, where this one mixes them.

    Args:
        lengths: Of each row, in tokens.
        batch_size: Rows of one batch, or of those that are accumulated for one step.
        seed: Of the run.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch, from 0; Trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed(self._seed + self._epoch)
        rows = get_length_grouped_indices(self._lengths, self._batch_size, generator=drawn)
        batches = [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]
        last = [batches.pop()] if len(batches[-1]) < self._batch_size else []  # it stays last, or others would be cut
        order = (1 + torch.randperm(len(batches) - 1, generator=drawn)).tolist() if batches else []
        for batch in [*batches[:1], *(batches[i] for i in order), *last]:
            yield from batch


def _is_list(kind: Any) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind))


def lengths(rows: Any, column: str) -> list[int] | None:
    """The number of tokens of each row of a `datasets.Dataset`; of several texts in a row (a choice) the longest.

    Returns:
        None where `column` holds no lists: rows that are no texts, or that have no columns.
    """
    if column not in (getattr(rows, "column_names", None) or ()):
        return None
    values = rows.with_format("arrow")[column].combine_chunks()
    if not _is_list(values.type):
        return None
    if _is_list(values.type.value_type):
        return [max((len(text) for text in texts), default=0) for texts in values.to_pylist()]
    return values.value_lengths().to_pylist()
