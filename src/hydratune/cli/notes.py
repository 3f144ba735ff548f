"""Notes in MLflow that depend on several runs: those of experiments, and of sweeps whose trials were retrained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.tracking.client import existing
from hydratune.tracking.delivery import checked_pointer
from hydratune.tracking.experiment_note import write_experiment_note
from hydratune.tracking.runs_view import runs_page
from hydratune.utils.errors import ConfigError, one_line, optional_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hydratune.evaluation.compare.best_two import Significance
    from hydratune.sweep.study import Study

log = logging.getLogger(__name__)


def compare_best(
    client: MlflowClient, runs: Sequence[Any], metric: str
) -> tuple[str, Sequence[str], Mapping[str, str]]:
    """Return the verdict on the best two configurations, sentences, and commands; see `best_two`."""
    from hydratune.evaluation.compare.best_two import best_two, not_tested

    try:
        verdict = best_two(client, runs, metric)
    except Exception as error:  # a note must not fail because of a run, which may be someone else's
        log.debug("note: the best runs were not compared", exc_info=True)
        verdict = not_tested(one_line(error, 200))
    return verdict.state, verdict.sentences, verdict.commands


def update_experiment_note(directory: Path) -> None:
    """Rewrite the note and the view of the experiment of a run or a sweep that has changed, if its store answers."""
    try:
        with optional_record("note of the experiment"):
            if pointer := checked_pointer(directory):
                client = existing(pointer["uri"], "tracking.uri", "")
                write_experiment_note(client, pointer["experiment_id"], compare_best)
                runs_page(client, pointer["experiment_id"])  # columns and charts of the settings that differ now
    except ConfigError as error:
        log.debug("note: the note of the experiment was not updated: %s", error)


def update_sweep(study: Study, verdict: Significance) -> None:
    """Rewrite the report of a sweep, and its note in MLflow, after its trials were retrained.

    Args:
        study: Study of the sweep.
        verdict: Comparison of its best two trials.
    """
    from hydratune.sweep.report import page, results
    from hydratune.sweep.report.note import sweep_note
    from hydratune.tracking.later import replace_note, upload

    plan = study.plan
    try:
        with optional_record("report of the sweep"):
            paths = page.write(study, verdict)
            if pointer := checked_pointer(plan.directory):
                text = sweep_note(study, results.rows(plan, study.trials()), verdict)
                replace_note(pointer, plan.directory, lambda _: text)
                upload(pointer, paths, page.REPORT)
    except ConfigError as error:
        log.warning("the note of the sweep was not updated in MLflow: %s", error)
