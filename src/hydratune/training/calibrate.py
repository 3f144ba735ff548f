"""Calibration of a trained model on its validation rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydratune.tasks import calibration
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.metrics.metric import SCORES
from hydratune.tasks.probabilities import ProbabilitySettings, first_logits
from hydratune.training.job import Job
from hydratune.training.setup import Setup
from hydratune.utils.files import MODEL, make_directory, write_json

if TYPE_CHECKING:
    import numpy as np
    from transformers import EvalPrediction, Trainer

    from hydratune.tracking.base import RunLog

log = logging.getLogger(__name__)

SUFFIX = "_uncalibrated"  # of the metrics before calibration
_METRICS = ("log_loss", "brier", "ece")
_FEW_ROWS = 1000  # with fewer, isotonic regression often overfits
_CHUNK = 4096  # rows


def calibrate(setup: Setup, job: Job, metrics: Mapping[str, Any], run_log: RunLog) -> dict[str, Any]:
    """Calibrate the task if its config says so, and write the calibration to the folder of the model.

    Returns:
        Metrics on test before and after the calibration, and values that validation tunes with calibrated
        probabilities.
    """
    task, trainer = setup.data.task, setup.trainer
    if not isinstance(task, ProbabilitySettings) or task.calibration is None:
        return {}
    encoded = setup.data.encoded
    splits = {name: EvalSplit(rows, encoded.head) for name, rows in encoded.splits.items() if name != "train"}
    content: dict[str, Any] = {"method": None}
    try:
        with _logits(trainer, lambda logits, labels: content.update(_fitted(task, splits, logits, labels))):
            trainer.predict(splits["validation"].rows, metric_key_prefix="calibration")
    except ValueError as error:
        log.warning("calibration: skipped, since %s", error)
    calibrated: dict[str, Any] = {}
    if task.calibrator is not None:
        if "test" in splits:
            with _logits(trainer, lambda *arrays: content.update(test=_report(task, splits["test"], *arrays))):
                trainer.predict(splits["test"].rows, metric_key_prefix="calibration")
            calibrated = {f"test_{name}": value for name, value in content["test"].items()}
        if tuned := [f"eval_{name}" for name in task.tuned_metrics if f"eval_{name}" in metrics]:
            measured = trainer.evaluate()
            calibrated |= {name: measured[name] for name in tuned}
    if job.is_main_process:
        make_directory(job.directory / MODEL)
        write_json(job.directory / MODEL / calibration.FILE, content)
        run_log.metrics(calibrated, step=trainer.state.global_step)
    return calibrated


def _fitted(task: Any, splits: Mapping[str, EvalSplit], logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Calibrate the task on validation; return the contents of the file."""
    if task.calibration == calibration.Isotonic.method and len(labels) < _FEW_ROWS:
        text = "calibration: isotonic regression on %s validation rows may overfit; set task.calibration=temperature"
        log.warning(text, f"{len(labels):,}")
    task.calibrator = calibration.fit(task.calibration, logits, labels, task.is_multi_label)
    report = _report(task, splits["validation"], logits, labels)
    name = "log_loss"
    temperature = getattr(task.calibrator, "temperature", None)
    details = f"temperature {temperature:.3g}" if temperature else task.calibration
    log.info("calibration: %s; validation %s %.4f, before %.4f", details, name, report[name], report[name + SUFFIX])
    return {**task.calibrator.content(), "validation": {"rows": len(labels), **report}}


def _report(task: Any, evaluated: EvalSplit, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the metrics of calibrated probabilities, and those of the model's own with a suffix."""
    scores: dict[str, float] = {}
    for suffix, calibrator in (("", task.calibrator), (SUFFIX, None)):
        probe = replace(task, metrics=[*_METRICS], extra_metrics={})
        probe.calibrator = calibrator
        measured = probe.compute_metrics(_reduced(probe, logits, labels), evaluated)
        scores |= {f"{name}{suffix}": measured[name] for name in _METRICS}
    return scores


def _reduced(task: Any, logits: np.ndarray, labels: np.ndarray) -> EvalPrediction:
    """Return what the Trainer would pass to `compute_metrics`."""
    import torch
    from transformers import EvalPrediction

    starts = range(0, len(labels), _CHUNK)
    chunks = [tuple(torch.tensor(values[start : start + _CHUNK]) for values in (logits, labels)) for start in starts]
    outputs = [task.reduce_logits(*chunk) for chunk in chunks]
    return EvalPrediction({name: torch.cat([part[name] for part in outputs]).numpy() for name in outputs[0]}, labels)


@contextmanager
def _logits(trainer: Trainer, use: Callable[[np.ndarray, np.ndarray], Any]) -> Iterator[None]:
    """Make the Trainer pass the (rows, labels) logits and the true labels of its next evaluation to a function."""
    reduce, compute = trainer.preprocess_logits_for_metrics, trainer.compute_metrics

    def pass_on(prediction: EvalPrediction) -> dict[str, float]:
        use(prediction.predictions[SCORES], prediction.label_ids)
        return {}

    trainer.preprocess_logits_for_metrics = lambda logits, _: {SCORES: first_logits(logits)}
    trainer.compute_metrics = pass_on
    try:
        yield
    finally:
        trainer.preprocess_logits_for_metrics, trainer.compute_metrics = reduce, compute
