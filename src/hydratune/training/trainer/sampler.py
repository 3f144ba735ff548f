"""Orders of the training rows that depend on the seed and the epoch alone: shuffled, or grouped by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyarrow import types
from torch.utils.data import Sampler

from hydratune.utils.rng import seeded_generator

_LARGEST, _SMALLEST = 50, 8  # groups of a megabatch; there are at least four megabatches in between


class ShuffledSampler(Sampler[int]):
    """Row numbers in a random order that depends on the seed and the epoch alone.

    Args:
        size: Number of rows.
        seed: The run's data seed.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed, self._epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Selects the order of an epoch, counted from 0; Trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self._size, generator=seeded_generator(self._seed, self._epoch)).tolist()


class LengthGroupedSampler(ShuffledSampler):
    """Row numbers such that the rows of each step have similar lengths; the step with the longest row comes first.

    Rows are shuffled, divided into megabatches, sorted by length within each of them, and cut into the groups of
    rows that make a step. Then the groups are shuffled. A group that is not full comes last; it has any lengths, not
    the shortest. Upstream's sampler depends on the state of torch's global generator, which a resumed run does not
    have, goes through each megabatch from long to short, and does not group small data sets.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a batch, of all processes together.
        seed: The run's data seed.
        accumulation: Batches of a step.
        drop_last: Whether the DataLoader drops the last batch where it is not full. Its rows are then drawn from all
            rows, so that no length is dropped more often than another.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, accumulation: int = 1, drop_last: bool = False
    ) -> None:
        super().__init__(len(lengths), seed)
        self._lengths, self._group = lengths, batch_size * accumulation
        self._dropped = len(lengths) % batch_size if drop_last else 0

    def __iter__(self) -> Iterator[int]:
        generator = seeded_generator(self._seed, self._epoch)
        rows = torch.randperm(self._size, generator=generator).tolist()
        read, dropped = rows[self._dropped :], rows[: self._dropped]
        groups, short = self._groups(read, generator)
        if groups:
            # The longest row is in the first batch: memory that does not suffice shows in the first step.
            first = max(range(len(groups)), key=lambda i: self._lengths[groups[i][0]])
            if short and self._lengths[short[0]] > self._lengths[groups[first][0]]:
                short[0], groups[first][0] = groups[first][0], short[0]
            yield from groups.pop(first)
        for i in torch.randperm(len(groups), generator=generator).tolist():
            yield from groups[i]
        yield from short  # steps would be cut at other places if it came earlier
        yield from dropped

    def _groups(self, rows: list[int], generator: torch.Generator) -> tuple[list[list[int]], list[int]]:
        """Groups of rows of similar length, each from long to short, and the one that is not full."""
        full, rest = divmod(len(rows), self._group)
        megabatches = max(1, full // min(_LARGEST, max(_SMALLEST, full // 4)))
        groups: list[list[int]] = []
        short: list[int] = []
        end = 0
        for number in range(megabatches):
            count = full // megabatches + (number < full % megabatches)
            start, end = end, end + count * self._group + (rest if number == megabatches - 1 else 0)
            ordered = sorted(rows[start:end], key=self._lengths.__getitem__, reverse=True)
            if megabatches == 1:  # rows move by up to half a group, or all epochs would have the same groups
                places = torch.arange(len(ordered)) + torch.rand(len(ordered), generator=generator) * self._group / 2
                ordered = [ordered[i] for i in places.argsort().tolist()]
            if end == len(rows) and rest:
                at = self._group * int(torch.randint(count + 1, (1,), generator=generator))
                short = ordered[at : at + rest]
                del ordered[at : at + rest]
            groups += [ordered[i : i + self._group] for i in range(0, len(ordered), self._group)]
        for group in (*groups, short):
            group.sort(key=self._lengths.__getitem__, reverse=True)
        return groups, short


def _is_list(kind: Any) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind))


def lengths(rows: Any, column: str) -> list[int] | None:
    """Counts the tokens of each row of a `datasets.Dataset`; of the longest text where a row has several.

    Returns:
        None where `column` does not hold lists.
    """
    if column not in (getattr(rows, "column_names", None) or ()):
        return None
    values = rows.with_format("arrow")[column].combine_chunks()
    if not _is_list(values.type):
        return None
    if _is_list(values.type.value_type):
        return [max((len(text) for text in texts), default=0) for texts in values.to_pylist()]
    return values.value_lengths().to_pylist()
