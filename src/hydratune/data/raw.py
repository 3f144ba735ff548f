"""The rows of a dataset as they were read, under the column names of the data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydratune.data.columns import BadRow

if TYPE_CHECKING:
    from datasets import DatasetDict


def _nowhere(split: str, row: int) -> str:
    return f"row {row + 1} of {split}"


def _same_number(_: str, row: int) -> int:
    return row


@dataclass(frozen=True)
class RawDataset:
    """Rows as they were read.

    Args:
        splits: Rows of each split under the data's own column names.
        bad: Lines that are not rows, e.g. a ragged line.
        locate: Split and number of a row -> its place, for messages.
        shuffle_buffer_size: Number of rows of a stream in the buffer that the next row is drawn from.
        columns: Split -> the names of all its columns, if not all of them were read.
        number: Split and number of a row -> its position in the files, counting records that are not rows.
        split_names: Column of the training rows -> its distinct values, for columns whose values may all name splits.
            Empty if `splits` has all columns of the data.
        data_columns: The task's name of a column -> the columns of the data that it is read from, for messages.
    """

    splits: DatasetDict
    bad: Sequence[BadRow] = ()
    locate: Callable[[str, int], str] = _nowhere
    shuffle_buffer_size: int = 1
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    number: Callable[[str, int], int] = _same_number
    split_names: Mapping[str, Collection[str]] = field(default_factory=dict)
    data_columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def names(self, split: str) -> Sequence[str]:
        """Return the names of all columns of a split."""
        names: Sequence[str] = self.columns.get(split) or self.splits[split].column_names
        return names

    def located(self, bad: Iterable[BadRow]) -> list[BadRow]:
        """Return bad rows with file and line, and with the data's names of their columns."""
        return [
            bad_row.located(self.locate(bad_row.split, bad_row.row or 0), self.data_columns.get(bad_row.column, ()))
            for bad_row in bad
        ]
