"""Duplicates within the training rows."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.data.columns import BadRow, Column
from hydratune.data.raw import RawDataset
from hydratune.data.splits import row_hashes
from hydratune.data.streaming import is_stream
from hydratune.data.task_spec import TaskSpec

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

log = logging.getLogger(__name__)

_LABELS = ("label", "labels")  # kinds of columns of which equal inputs should have equal values


@dataclass(frozen=True)
class Duplicates:
    """Rows that have the same inputs as other rows.

    Args:
        repeats: Number of rows with the inputs and the targets of an earlier row.
        conflicts: Number of rows with the inputs of another row, but another label.
        repeat: Numbers of an earlier row and of a row that repeats it; empty without repeats.
        conflict: Numbers of two rows with the same inputs and different labels; empty without conflicts.
        names: Names of the columns of the inputs, and of the targets.
        total: Number of all rows.
    """

    repeats: int
    conflicts: int
    repeat: tuple[int, ...]
    conflict: tuple[int, ...]
    names: tuple[str, str]
    total: int

    def repeat_text(self, locate: Callable[[int], str]) -> str:
        """Return the sentence about repeated rows, with the place of an example; empty without repeats."""
        if not self.repeats:
            return ""
        first, second = map(locate, self.repeat)
        same = f"the same {' and '.join(self.names)}"
        rows = f"{self.repeats:,} of {self.total:,} rows of train"
        return (
            f"{rows} {'repeats' if self.repeats == 1 else 'repeat'} an earlier row ({same}), e.g. {first} and {second}"
        )

    def conflict_text(self, locate: Callable[[int], str]) -> str:
        """Return the sentence about rows with different labels, with the places of an example; empty without any."""
        if not self.conflicts:
            return ""
        first, second = map(locate, self.conflict)
        inputs, label = self.names
        rows = f"{self.conflicts:,} of {self.total:,} rows of train"
        reason = f"have the same {inputs} as another row, but a different {label}"
        return f"{rows} {reason}, e.g. {first} and {second}; correct the labels, or remove the rows"


def warn_of_duplicates(train: Any, raw: RawDataset, task: TaskSpec, dropped: Iterable[BadRow]) -> None:
    """Log a warning for training rows that repeat others, and for those with another label, with places of examples.

    Args:
        train: Valid training rows.
        raw: The rows as they were read.
        task: The task.
        dropped: Rows that are not among the valid ones.
    """
    if (duplicates := find_duplicates(train, task.columns, task.inputs)) is None:
        return
    missing = {bad_row.row for bad_row in dropped if bad_row.split == "train"}

    def locate(row: int) -> str:
        rows_as_read = (number for number in itertools.count() if number not in missing)
        return raw.locate("train", next(itertools.islice(rows_as_read, row, None)))

    for sentence in filter(None, (duplicates.conflict_text(locate), duplicates.repeat_text(locate))):
        log.warning("data: %s", sentence)


def find_duplicates(rows: Dataset, columns: Mapping[str, Column], inputs: Sequence[str]) -> Duplicates | None:
    """Return the duplicates of rows; None for a stream, or for a task without inputs or targets.

    Args:
        rows: Valid rows.
        columns: Columns of the task.
        inputs: Columns in which duplicates are equal.
    """
    if is_stream(rows):
        return None
    used_inputs = [name for name in inputs if name in rows.column_names]
    targets = [name for name, column in columns.items() if column.target and name in rows.column_names]
    if not used_inputs or not targets:
        return None
    import numpy as np

    input_hashes = row_hashes(rows, used_inputs)
    if len(np.unique(input_hashes)) == len(rows):
        return Duplicates(0, 0, (), (), ("", ""), len(rows))
    row_ids = input_hashes ^ (row_hashes(rows, targets) * np.uint64(3))  # of inputs and targets
    repeats, repeat = _repeats(row_ids)
    has_labels = all(columns[name].kind in _LABELS for name in targets)
    conflicts, conflict = _conflicts(input_hashes, row_ids) if has_labels else (0, ())
    names = " and ".join(used_inputs), " and ".join(targets)
    return Duplicates(repeats, conflicts, repeat, conflict, names, len(rows))


def _repeats(row_ids: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """Return the number of values that occur before, and the positions of the first pair; shape (rows,)."""
    import numpy as np

    _, firsts, codes = np.unique(row_ids, return_index=True, return_inverse=True)
    earlier = firsts[codes]  # position of the first row with the same value
    later = np.flatnonzero(earlier != np.arange(len(row_ids)))
    return len(later), (int(earlier[later[0]]), int(later[0])) if len(later) else ()


def _conflicts(input_hashes: np.ndarray, row_ids: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """Return the number of rows whose inputs occur with several row IDs, and the first two rows of such inputs."""
    import numpy as np

    _, firsts, codes = np.unique(input_hashes, return_index=True, return_inverse=True)
    differs = row_ids != row_ids[firsts[codes]]  # from the first row with the same inputs
    is_conflict = np.isin(codes, codes[differs])
    if not differs.any():
        return 0, ()
    second = int(np.flatnonzero(differs)[0])
    return int(is_conflict.sum()), (int(firsts[codes[second]]), second)
