"""Samplers whose order depends only on the seed and the epoch: shuffled, or grouped by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pyarrow import types
from torch.utils.data import Sampler

from hydratune.utils.rng import seeded_generator

_LARGEST, _SMALLEST = 50, 8  # groups per megabatch; sizes in between give at least four megabatches


class ShuffledSampler(Sampler[int]):
    """Sampler of row numbers in a random order that depends only on the seed and the epoch.

    Args:
        size: Number of rows.
        seed: Data seed of the run.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed, self._epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Select the order of an epoch, counted from 0; Trainer calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self._size, generator=seeded_generator(self._seed, self._epoch)).tolist()


class LengthGroupedSampler(ShuffledSampler):
    """Sampler of row numbers that groups by length for each step; the step with the longest row comes first.

    Rows are shuffled, divided into megabatches, sorted by length within each megabatch, and split into groups that form
    a step. Then the groups are shuffled. An incomplete group comes last; it has arbitrary lengths, not the shortest
    ones.

    Upstream's sampler depends on the state of torch's global generator, which a resumed run does not have. It also
    reads each megabatch from long to short, and does not group small datasets.

    Args:
        lengths: Number of tokens of each row.
        batch_size: Rows per batch, summed over all processes.
        seed: Data seed of the run.
        accumulation: Batches per step.
        drop_last: Whether the DataLoader drops an incomplete last batch. Its rows are then drawn from all rows, so that
            no length is dropped more often than another.
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
        sampled, dropped = rows[self._dropped :], rows[: self._dropped]
        groups, incomplete = self._groups(sampled, generator)
        if groups:
            # The longest row is in the first batch, so that the first step shows whether memory suffices.
            first = max(range(len(groups)), key=lambda i: self._lengths[groups[i][0]])
            if incomplete and self._lengths[incomplete[0]] > self._lengths[groups[first][0]]:
                incomplete[0], groups[first][0] = groups[first][0], incomplete[0]
            yield from groups.pop(first)
        for i in torch.randperm(len(groups), generator=generator).tolist():
            yield from groups[i]
        yield from incomplete  # if it came earlier, the rows of later steps would shift
        yield from dropped

    def _groups(self, rows: list[int], generator: torch.Generator) -> tuple[list[list[int]], list[int]]:
        """Return groups of rows of similar length, each from long to short, and the incomplete group."""
        full, remainder = divmod(len(rows), self._group)
        megabatches = max(1, full // min(_LARGEST, max(_SMALLEST, full // 4)))
        groups: list[list[int]] = []
        incomplete: list[int] = []
        end = 0
        for index in range(megabatches):
            # Full groups are spread evenly; the last megabatch also gets the rows of the incomplete group.
            count = full // megabatches + (index < full % megabatches)
            start, end = end, end + count * self._group + (remainder if index == megabatches - 1 else 0)
            ordered = sorted(rows[start:end], key=self._lengths.__getitem__, reverse=True)
            if megabatches == 1:  # without moves of up to half a group, all epochs would have the same groups
                positions = torch.arange(len(ordered)) + torch.rand(len(ordered), generator=generator) * self._group / 2
                ordered = [ordered[i] for i in positions.argsort().tolist()]
            if end == len(rows) and remainder:
                # The incomplete group is taken at a random position, so that its lengths are arbitrary.
                position = self._group * int(torch.randint(count + 1, (1,), generator=generator))
                incomplete = ordered[position : position + remainder]
                del ordered[position : position + remainder]
            groups += [ordered[i : i + self._group] for i in range(0, len(ordered), self._group)]
        for group in (*groups, incomplete):
            group.sort(key=self._lengths.__getitem__, reverse=True)
        return groups, incomplete


def _is_list(kind: Any) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind))


def lengths(rows: Any, column: str) -> list[int] | None:
    """Count the tokens of each row of a `datasets.Dataset`; for a row with several texts, those of the longest.

    Returns:
        Number of tokens of each row; None if `column` does not hold lists.
    """
    if column not in (getattr(rows, "column_names", None) or ()):
        return None
    values = rows.with_format("arrow")[column].combine_chunks()
    if not _is_list(values.type):
        return None
    if _is_list(values.type.value_type):
        return [max((len(text) for text in texts), default=0) for texts in values.to_pylist()]
    return values.value_lengths().to_pylist()
