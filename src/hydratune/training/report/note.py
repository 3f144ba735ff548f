"""MLflow note of a run, before and after it has a result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hydratune.tracking.notes import note
from hydratune.training.job import Job
from hydratune.training.report.inputs import ReportInputs
from hydratune.training.report.summary import result_sentences, setting_facts
from hydratune.utils import provenance

if TYPE_CHECKING:
    from hydratune.tracking.base import DatasetInfo


def command(job: Job) -> str:
    """Return the command of a run as it was typed, with masked secrets."""
    return provenance.command([*job.flags], job.overrides)


def start_note(job: Job, params: Mapping[str, str], splits: Sequence[DatasetInfo]) -> str:
    """Return the note of a run that has no result yet: what it trains, and on which data."""
    return note([], setting_facts(job, params, splits) | {"directory": os.path.relpath(job.directory)}, command(job))


def trial_note(
    job: Job,
    params: Mapping[str, str],
    splits: Sequence[DatasetInfo],
    metrics: Mapping[str, object],
    objective: str,
    is_best: bool,
) -> str:
    """Return the note of a finished trial, which is neither tested nor saved: its result, and what it trained.

    Args:
        job: Job of the trial.
        params: Params of the trial.
        splits: Rows of the trial.
        metrics: Metrics under Trainer's names.
        objective: Metric that the trial optimizes, e.g. `eval_accuracy`.
        is_best: Whether the metrics are those of the best checkpoint, and not of the last one.
    """
    facts = setting_facts(job, params, splits) | {"directory": os.path.relpath(job.directory)}
    return note([*result_sentences(metrics, objective, is_best)], facts, command(job))


def result_note(inputs: ReportInputs) -> str:
    """Return the note of a finished run: its result, and what it trained."""
    directory = {"directory": os.path.relpath(inputs.directory)}
    return note(inputs.summary, {**inputs.facts, **directory}, inputs.command)
