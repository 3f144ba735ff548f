"""Predictions of a run for the rows of its fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hydratune.training import artifacts
from hydratune.training.eval_sets import EvalSets, eval_splits
from hydratune.utils.errors import optional_record
from hydratune.utils.files import OUT_OF_FOLD, SPLIT, write_lines

if TYPE_CHECKING:
    from hydratune.data.cross_validation import CrossValidation
    from hydratune.tracking.base import RunLog
    from hydratune.training.job import Job
    from hydratune.training.setup import Setup


def record_fold(
    setup: Setup, job: Job, cv: CrossValidation, seed: int, metrics: Mapping[str, Any], run_log: RunLog
) -> None:
    """Predict the rows of the fold with the best checkpoint, and write `out_of_fold.jsonl`; no file without folds.

    Args:
        setup: Objects of the run, whose model has the parameters of the best checkpoint.
        job: Job of the run.
        cv: Folds of the run.
        seed: Seed of the run.
        metrics: Metrics of the best checkpoint, with values that were tuned on the fold.
        run_log: Tracker's log of the run.
    """
    if cv.folds is None:
        return
    data, task = setup.data, setup.data.task
    tuned = {name: metrics[f"eval_{name}"] for name in task.tuned_metrics if f"eval_{name}" in metrics}
    evaluated = EvalSets(task, eval_splits(data.encoded, "validation", tuned)).predict(setup.trainer, "fold")
    if not job.is_main_process:
        return
    with optional_record("out-of-fold predictions"):
        places = data.places.get("validation", ())
        decoded = artifacts.decoded_rows(task, {"": data.splits["validation"]}, places, evaluated)
        if not decoded:  # the task makes no prediction per row
            return
        origin = {"fold": cv.fold, "repeat": cv.repeat, "seed": seed}
        splits = [{SPLIT: split} for split, _ in places] if len(places) == len(decoded) else [{}] * len(decoded)
        rows = [{**split, **row, **origin} for split, row in zip(splits, decoded, strict=True)]
        write_lines(job.directory / OUT_OF_FOLD, rows)
        run_log.artifact(job.directory / OUT_OF_FOLD)
