"""Two runs on the same test rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydratune.compare.runs import Run, UnusableError
from hydratune.compare.statistics import RESAMPLES, over_rows, paired_bootstrap
from hydratune.files import PREDICTIONS
from hydratune.intervals import Interval
from hydratune.tasks.base import Task

_TRUTHS = ("label", "labels", "answers")  # what a decoded row was to be


def compared(first: Run, second: Run, metric: str) -> tuple[str, Interval]:
    """The test and the difference of a metric, second minus first.

    Raises:
        UnusableError: Where they cannot be tested row by row, with the reason as a sentence.
    """
    task = _task(first, second, metric)
    if why := different_rows(first, second):
        raise UnusableError(why)
    for run in (first, second):
        if not run.rows:
            raise UnusableError(f"{run.label} has no {PREDICTIONS}, so {first.label} and {second.label} are not tested")
    if why := _different_truths(first, second):
        raise UnusableError(why)
    count = len(first.rows)
    if count < 2:
        raise UnusableError(f"{first.label} and {second.label} were tested on one row, which says nothing")
    sampler = paired_bootstrap(_scorer(task, metric, first), _scorer(task, metric, second), count)
    return f"paired bootstrap over {count:,} rows, {RESAMPLES:,} resamples", sampler


def different_rows(first: Run, second: Run) -> str:
    """Why two runs were not tested on the same rows; empty where they were, as far as is recorded."""
    both = f"{first.label} and {second.label} were not tested on the same rows"
    digests = first.test_digest, second.test_digest
    if all(digests) and digests[0] != digests[1]:
        return f"{both}: the digests of their test sets are {digests[0]} and {digests[1]}"
    if first.rows and second.rows and len(first.rows) != len(second.rows):
        return f"{both}: there are {len(first.rows):,} and {len(second.rows):,}"
    return ""


def _different_truths(first: Run, second: Run) -> str:
    pairs = enumerate(zip(first.rows, second.rows, strict=True), 1)
    unlike = (number for number, rows in pairs if any(rows[0].get(key) != rows[1].get(key) for key in _TRUTHS))
    if number := next(unlike, 0):
        return f"{first.label} and {second.label} were not tested on the same rows: row {number} has another label"
    return ""


def _task(first: Run, second: Run, metric: str) -> Task:
    task = first.task(metric)
    if type(task) is not type(second.task(metric)):
        raise UnusableError(f"{first.label} and {second.label} have different tasks")
    if task.undecoded:
        raise UnusableError(f"{first.label} and {second.label} cannot be tested row by row: {task.undecoded}")
    if metric not in task.known_metrics:
        known = ", ".join(task.known_metrics)
        raise UnusableError(f"{metric} cannot be computed from predictions; --metric takes {known} for a test")
    return task


def rescored(run: Run, metric: str) -> float:
    """A metric of a run's own rows, also one that it did not report."""
    return run.task(metric).rescore(run.rows, run.label_names)[metric]


def _scorer(task: Task, metric: str, run: Run) -> Callable[[Any], Any]:
    if task.needs_names and not run.label_names:
        raise UnusableError(f"{run.label} has no labels.json, so the order of its labels is not known")
    return over_rows(task, metric, run.rows, run.label_names)
