"""Drop the rows that a task cannot use, or raise an error that lists them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hydratune.data.columns import BadRow, problems
from hydratune.data.label_names import UnseenLabels, split_unseen, unseen_counts
from hydratune.data.raw import RawDataset
from hydratune.data.streaming import head, is_stream, length
from hydratune.data.task_spec import TaskSpec
from hydratune.utils.errors import ConfigError

if TYPE_CHECKING:
    from datasets import DatasetDict

log = logging.getLogger(__name__)


def drop_bad_rows(
    splits: DatasetDict,
    raw: RawDataset,
    task: TaskSpec,
    label_names: list[str] | None,
    drop: bool,
    unseen_labels: UnseenLabels,
) -> list[BadRow]:
    """Drop the invalid rows from `splits`, and return them.

    Of a stream, only the first rows are checked.

    Args:
        splits: Rows under the task's column names; invalid rows are removed in place.
        raw: The same rows as they were read.
        task: Task that determines which rows are invalid.
        label_names: Labels that the model will have; None for the labels of train.
        drop: Whether to drop invalid rows; otherwise they are an error.
        unseen_labels: Policy for rows whose label is not among `label_names`.

    Raises:
        ConfigError: If there are invalid rows that must not be dropped.
    """
    bad = _bad_rows(splits, raw, task, label_names, drop)
    bad_line_counts = {split: sum(bad_row.split == split for bad_row in raw.bad) for split in splits}
    sizes = {split: (length(rows) or 0) + bad_line_counts[split] for split, rows in splits.items()}
    bad, unseen, errors = split_unseen(bad, unseen_labels, sizes)
    if not drop and (raw.bad or bad):
        errors = [*problems([*raw.bad, *bad], sizes), *errors]
    if errors:
        raise ConfigError(*errors)
    if unseen:
        log.warning("data: %s", unseen_counts(unseen, sizes, unseen_labels))
    dropped = [*bad, *(unseen if unseen_labels == "drop" else ())]
    for split in {bad_row.split for bad_row in dropped}:
        row_numbers = {bad_row.row for bad_row in dropped if bad_row.split == split}
        splits[split] = splits[split].select([i for i in range(len(splits[split])) if i not in row_numbers])
    _log_counts(bad, bad_line_counts)
    return [*raw.bad, *dropped]


def _bad_rows(
    splits: DatasetDict, raw: RawDataset, task: TaskSpec, label_names: list[str] | None, drop: bool
) -> list[BadRow]:
    """Return the rows that the task cannot use, with their places."""
    samples = {split: head(rows) if is_stream(rows) else rows for split, rows in splits.items() if length(rows) != 0}
    if "train" not in samples:
        return []
    bad = raw.located(task.bad_rows(type(splits)(samples), label_names))
    if is_stream(splits["train"]) and drop:  # the stream drops its own bad rows while it is read
        bad = [bad_row for bad_row in bad if bad_row.split != "train"]
    return [replace(bad_row, unseen_label=bad_row.unseen_label and bad_row.split != "train") for bad_row in bad]


def _log_counts(bad: Sequence[BadRow], bad_line_counts: dict[str, int]) -> None:
    """Log the number of rows that were dropped from each split."""
    counts = {
        split: len({bad_row.row for bad_row in bad if bad_row.split == split}) + count
        for split, count in bad_line_counts.items()
    }
    if total := sum(counts.values()):
        per_split = ", ".join(f"{count:,} of {split}" for split, count in counts.items() if count)
        log.warning("data: %s invalid rows are skipped: %s", f"{total:,}", per_split)
