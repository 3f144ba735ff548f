"""Comparison of runs that were tested on the same rows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydratune.evaluation.compare.paired_tests import (
    MIN_DIFFERING,
    SEED,
    RowScores,
    Scores,
    SummaryScores,
    against_best,
    paired_test,
)
from hydratune.evaluation.compare.runs import NotComparableError, Run
from hydratune.evaluation.compare.sets import RowsMetric, metric_of_rows, rows_of
from hydratune.evaluation.compare.wording import Comparison, Unit
from hydratune.tasks.base import Task
from hydratune.tracking.run_directories import finish_command, retrained, retrainings
from hydratune.utils.files import GROUP, PREDICTIONS
from hydratune.utils.provenance import cli_path

_MOST_STEPS = 4  # trials whose commands are listed
TWO_MODELS = "these two trained models, on this fixed test set"
_TRUTHS = ("label", "labels", "answers")  # keys of a decoded row with the true labels or answers


def compare_pair(first: Run, second: Run, unit: Unit) -> Comparison:
    """Return the difference of a metric, second minus first, and its test.

    Raises:
        NotComparableError: If the runs cannot be tested row by row, with the reason as a sentence.
    """
    scores = row_scores([first, second], unit.metric)
    method, interval = paired_test(scores, 0, 1)
    method = f"{method}, {_rows(scores, first, unit.metric)}"
    refusal = _refusal(scores, 0, 1, first, second)
    return Comparison(
        first.label,
        second.label,
        unit,
        first.evaluation or "test",
        method,
        TWO_MODELS,
        unit.clip(interval),
        refusal=refusal,
    )


def compare_with_best(runs: Sequence[Run], best: Run, unit: Unit) -> list[Comparison]:
    """Return the difference of each run to the best one, best minus run, adjusted for all pairs of runs.

    Raises:
        NotComparableError: See `compare_pair`.
    """
    scores, best_index = row_scores(runs, unit.metric), list(runs).index(best)
    method = f"bootstrap max-T test, {_rows(scores, best, unit.metric)}"
    pair_count = len(runs) * (len(runs) - 1) // 2
    return [
        Comparison(
            run.label,
            best.label,
            unit,
            best.evaluation or "test",
            method,
            TWO_MODELS,
            unit.clip(interval),
            tests=pair_count,
            refusal=_refusal(scores, i, best_index, run, best),
        )
        for i, (run, interval) in enumerate(zip(runs, against_best(scores, best_index), strict=True))
        if run is not best
    ]


def row_scores(runs: Sequence[Run], metric: str) -> Scores:
    """Return the row scores of runs; raise NotComparableError if their test rows differ or are too few."""
    first = runs[0]
    task, rows_metric = _task(first, metric)
    for run in runs[1:]:
        check_pair(first, run, metric)
    scores = []
    for seed, name in enumerate(rows_metric.sets, SEED):
        rows = [rows_of(run, name) for run in runs]
        if len(rows[0]) < 2:
            labels, where = " and ".join(run.label for run in runs), f" of {name}" if name else ""
            raise NotComparableError(f"{labels} were tested on one row{where}, which is too few")
        scores.append(RowScores(task, rows_metric.name, rows, first.label_names, _groups(task, rows[0]), seed))
    return scores[0] if rows_metric.summary is None else SummaryScores(scores, rows_metric.summary)


def check_pair(first: Run, second: Run, metric: str) -> None:
    """Raise NotComparableError if two runs cannot be tested on the same rows."""
    (task, _), (other_task, _) = _task(first, metric), _task(second, metric)
    labels = f"{first.label} and {second.label}"
    if type(task) is not type(other_task):
        raise NotComparableError(f"{labels} have different tasks")
    if reason := different_rows(first, second):
        raise NotComparableError(reason)
    for run in (first, second):
        if not run.rows:
            raise NotComparableError(untested(run))
    if reason := _different_truths(first, second):
        raise NotComparableError(reason)
    if task.needs_names and first.label_names != second.label_names:
        raise NotComparableError(_different_labels(first, second))


def _different_labels(first: Run, second: Run) -> str:
    """Return how the labels of two models differ: in the first label that only one has, or else in their order."""
    for run, other in ((first, second), (second, first)):
        if missing := [name for name in run.label_names if name not in other.label_names]:
            return f"{run.label} has the label {missing[0]!r}, which {other.label} does not have"
    return f"{first.label} and {second.label} have their labels in another order"


def untested(run: Run) -> str:
    """Return why a run has no predictions for test rows, and what to do."""
    if run.sweep:
        return f"{run.label} is a trial, which a sweep does not evaluate on test"
    if run.is_tested:
        return f"{run.label} has no {PREDICTIONS}, which has its predictions for the test rows"
    return (
        f"{run.label} has no test split; score each run with `hydratune evaluate RUN dataset.files.test=FILE`, "
        "or train with dataset.test_size=0.1"
    )


def next_steps(runs: Sequence[Run]) -> list[str]:
    """Return sentences with the commands that retrain and test trials, and then compare them; empty without trials."""
    trials = [(run, sweep) for run in runs if not run.rows and run.directory and (sweep := run.sweep)]
    if not trials:
        return []
    if len(trials) > _MOST_STEPS:
        sweeps = dict.fromkeys(sweep for _, sweep in trials)
        return [f"to retrain and test the best trial: {finish_command(sweep)}" for sweep in sweeps]
    steps, sides = [], {run.label: shlex.quote(os.path.relpath(run.directory or run.id)) for run in runs}
    for run, sweep in trials:
        number = Path(os.path.relpath(run.directory or "", sweep)).parts[0]
        sides[run.label] = retrainings(sweep, number)
        if not retrained(sweep, number):
            steps.append(f"to retrain and test {run.label}: {finish_command(sweep, number)}")
    patterns = " ".join(dict.fromkeys(sides.values()))
    return [*steps, f"{'then, ' if steps else ''}to compare them on test: {cli_path()} compare {patterns}"]


def different_rows(first: Run, second: Run) -> str:
    """Return the reason why two runs' test rows differ; empty if they are the same as far as recorded."""
    message = f"{first.label} and {second.label} were not tested on the same rows"
    digests = first.test_digest, second.test_digest
    if all(digests) and digests[0] != digests[1]:
        return f"{message}: the digests of their test sets are {digests[0]} and {digests[1]}"
    if first.rows and second.rows and len(first.rows) != len(second.rows):
        return f"{message}: there are {len(first.rows):,} and {len(second.rows):,}"
    return ""


def _different_truths(first: Run, second: Run) -> str:
    pairs = enumerate(zip(first.rows, second.rows, strict=True), 1)
    mismatches = (number for number, rows in pairs if any(rows[0].get(key) != rows[1].get(key) for key in _TRUTHS))
    if number := next(mismatches, 0):
        return f"{first.label} and {second.label} were not tested on the same rows: row {number} has another label"
    return ""


def _task(run: Run, metric: str) -> tuple[Task, RowsMetric]:
    """Return the task of a run; raise NotComparableError if the metric cannot be computed from the run's rows."""
    rows_metric = metric_of_rows(run, metric)
    task = run.task(rows_metric.name)
    if task.no_predictions_reason:
        raise NotComparableError(f"{run.label} cannot be tested row by row: {task.no_predictions_reason}")
    _check_metric(task, run, rows_metric.name)
    if run.rows and task.needs_names and not run.label_names:
        raise NotComparableError(f"{run.label} has no labels.json, so the order of its labels is unknown")
    if run.rows:
        run.score_rows(task, run.rows)  # reports malformed rows, before resamples of them are scored
    return task, rows_metric


def _groups(task: Task, rows: Sequence[dict[str, Any]]) -> list[str] | None:
    """Return the group of each row, or None if rows are independent.

    The group is the value of `dataset.group_by_column`, or of an input that several rows share.
    """
    for name in (GROUP, task.shared_input):
        if name and all(name in row for row in rows):
            return [str(row[name]) for row in rows]
    return None


def _rows(scores: Scores, run: Run, metric: str) -> str:
    """Return the number of rows, and of groups of rows, that a test is based on, as text."""
    sets = metric_of_rows(run, metric).sets
    rows = f"{sum(len(rows_of(run, name)) for name in sets):,} rows" + (
        f" of {len(sets)} sets" if len(sets) > 1 else ""
    )
    return f"{rows} in {scores.units:,} groups" if scores.is_grouped else rows


def _refusal(scores: Scores, first: int, second: int, first_run: Run, second_run: Run) -> str:
    """Return the reason why too few rows differ for a verdict; empty if enough differ."""
    differing, units = scores.differing(first, second), "groups of rows" if scores.is_grouped else "rows"
    if not differing:
        return f"{first_run.label} and {second_run.label} have the same scores on all {scores.units:,} {units}"
    if differing < MIN_DIFFERING:
        counts = f"{differing} of {scores.units:,} {units} differ, at least {MIN_DIFFERING} are required"
        more = "evaluate both on more rows with `hydratune evaluate`"
        return f"too few {units} to tell {first_run.label} and {second_run.label} apart: {counts}; {more}"
    return ""


def _check_metric(task: Task, run: Run, metric: str) -> None:
    row_metrics = task.row_metrics(run.label_names)
    if metric not in row_metrics:
        options = ", ".join(row_metrics)
        raise NotComparableError(f"{metric} cannot be computed from predictions; --metric takes {options} for a test")


def rescored(run: Run, metric: str) -> float:
    """Return a metric of a run's own rows, even if the run did not report it."""
    rows_metric = metric_of_rows(run, metric)
    task = run.task(rows_metric.name)
    _check_metric(task, run, rows_metric.name)
    values = [run.score_rows(task, rows_of(run, name))[rows_metric.name] for name in rows_metric.sets]
    return values[0] if rows_metric.summary is None else float(rows_metric.summary(values))
