"""Drop the rows that a task cannot use, or raise an error that lists them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hydratune.data.columns import BadRow, located, mistakes
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
    lost = {split: sum(one.split == split for one in raw.bad) for split in splits}
    sizes = {split: (length(rows) or 0) + lost[split] for split, rows in splits.items()}
    bad, unseen, errors = split_unseen(bad, unseen_labels, sizes)
    if not drop and (raw.bad or bad):
        errors = [*mistakes([*raw.bad, *bad], sizes), *errors]
    if errors:
        raise ConfigError(*errors)
    if unseen:
        log.warning("data: %s", unseen_counts(unseen, sizes, unseen_labels))
    without = [*bad, *(unseen if unseen_labels == "drop" else ())]
    for split in {one.split for one in without}:
        numbers = {one.row for one in without if one.split == split}
        splits[split] = splits[split].select([i for i in range(len(splits[split])) if i not in numbers])
    _log_counts(bad, lost)
    return [*raw.bad, *without]


def _bad_rows(
    splits: DatasetDict, raw: RawDataset, task: TaskSpec, label_names: list[str] | None, drop: bool
) -> list[BadRow]:
    """Return the rows that the task cannot use, with their places."""
    samples = {split: head(rows) if is_stream(rows) else rows for split, rows in splits.items() if length(rows) != 0}
    if "train" not in samples:
        return []
    bad = located(task.bad_rows(type(splits)(samples), label_names), raw.locate)
    if is_stream(splits["train"]) and drop:  # the stream drops its own bad rows while it is read
        bad = [one for one in bad if one.split != "train"]
    return [replace(one, unseen_label=one.unseen_label and one.split != "train") for one in bad]


def _log_counts(bad: Sequence[BadRow], lost: dict[str, int]) -> None:
    """Log the number of rows that were dropped from each split."""
    counts = {split: len({one.row for one in bad if one.split == split}) + count for split, count in lost.items()}
    if total := sum(counts.values()):
        parts = ", ".join(f"{count:,} of {split}" for split, count in counts.items() if count)
        log.warning("data: %s bad rows were dropped: %s", f"{total:,}", parts)
