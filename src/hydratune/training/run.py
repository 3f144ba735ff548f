"""One run: load, train, evaluate, save, and record."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.config.instantiate import build
from hydratune.data.streaming import format_length
from hydratune.tasks.base import EvalSplit
from hydratune.tracking.base import NoTracking
from hydratune.training import artifacts, model_card
from hydratune.training.exact_resume import EXACT, exactness
from hydratune.training.hardware.environment import is_rank
from hydratune.training.job import Job, foreign_code, run_info
from hydratune.training.push import TAG
from hydratune.training.results import BALANCED, PRECISIONS, RunResult, split_metrics
from hydratune.training.run_params import run_params, schedule, training_args
from hydratune.training.setup import Setup, scorer, set_up
from hydratune.utils import signals
from hydratune.utils.errors import SAVED, optional_record
from hydratune.utils.files import METRICS, MODEL, write_json

if TYPE_CHECKING:
    from transformers.trainer_utils import PredictionOutput

    from hydratune.tracking.base import DatasetInfo, RunLog

log = logging.getLogger(__name__)


def run(cfg: DictConfig, job: Job) -> RunResult:
    """Fine-tune one model as a checked config says (see `check_config`), and write its files to the job's directory.

    Raises:
        ConfigError: For errors that only the data or the checkpoint can show; nothing is trained or tracked then.
    """
    if foreign := foreign_code(cfg):
        log.warning("code: this run executes code beyond hydratune's own allow-list: %s", ", ".join(foreign))
    setup = set_up(cfg, job)
    from hydratune.training.trainer.fsdp import gather_weights

    log.info("batches: %s", schedule(setup.trainer))
    exact = exactness(setup.trainer)
    log.info("resume: %s", "bit-exact" if exact == "yes" else f"not bit-exact{exact.removeprefix('no')}")
    dataset_infos = artifacts.dataset_infos(cfg, job, setup.data.splits)
    decided = {"max_length": setup.data.max_length, **setup.precision, **setup.data.balanced_weights}
    params = run_params(cfg, job, setup.trainer, dataset_infos, decided)
    tracking = build(cfg.tracking) if job.is_main_process else NoTracking()
    with tracking.start(run_info(cfg, job, params)) as run_log:
        if job.is_main_process:
            artifacts.log_run_start(cfg, job, dataset_infos, setup.trainer.args, run_log)
            artifacts.dropped_rows(job, setup.data.dropped, run_log)
            run_log.tags({EXACT: exact})
        _train(setup, job, run_log)
        metrics = {**_best_metrics(setup, cfg.objective, run_log), "eval_samples": _rows(dataset_infos, "validation")}
        if job.trial:  # a sweep reads no test data, and leaves scores but no weights
            if job.is_main_process:
                write_json(job.directory / METRICS, {**metrics, **_facts(setup)})
            return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link())
        test = _evaluate_test(setup, metrics, run_log)
        if test:
            metrics |= {**test[0].metrics, "test_samples": _rows(dataset_infos, "test")}
        gather_weights(setup.model, keep=job.is_main_process)
        if not job.is_main_process:
            return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link())
        _save_model(cfg, job, setup, params, metrics)
        _record_results(job, setup, test, metrics, run_log)
        url = setup.push.try_send() if setup.push else None
        if url:
            run_log.tags({TAG: url})
    pushed, tracked = bool(url) or not setup.push, not run_log.is_blocked()
    return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link(), pushed, tracked)


def _train(setup: Setup, job: Job, run_log: RunLog) -> None:
    """Train, and evaluate on validation; the Trainer ends with the weights of the best checkpoint."""
    from hydratune.training.trainer.callbacks import PreemptionCallback, closing_bars
    from hydratune.training.trainer.cpu_speedups import use_cpu_speedups

    trainer = setup.trainer
    for callback in run_log.callbacks(setup.model_info):
        trainer.add_callback(callback)
    # A sweep in this process ends by the request itself; a rank reports to `launch` that it has saved.
    exit_request = None if job.trial and not is_rank() else SystemExit(SAVED)
    trainer.add_callback(PreemptionCallback(exit_request, getattr(trainer, "resumes_evaluation", False)))
    speedups = use_cpu_speedups(trainer) if setup.hardware.cpu_optimizations else nullcontext()
    with signals.defer_signals(), closing_bars(trainer), speedups:
        trainer.train(resume_from_checkpoint=setup.checkpoint)
    if job.is_main_process:
        artifacts.streamed_dropped_rows(job, setup.data.dropped, run_log)


def _best_metrics(setup: Setup, objective: str, run_log: RunLog) -> dict[str, Any]:
    """Record and return the evaluation of the trainer's current weights; evaluate only if the history lacks it."""
    trainer = setup.trainer
    state = trainer.state
    step = state.best_global_step if trainer.args.load_best_model_at_end else state.global_step
    evaluations = [entry for entry in state.log_history if objective in entry and entry["step"] == step]
    metrics = evaluations[-1] if evaluations else {**trainer.evaluate(), "step": step}
    run_log.metrics({f"best_{name}": value for name, value in split_metrics(metrics, "eval").items()}, metrics["step"])
    train_log: Mapping[str, Any] = next(
        (entry for entry in reversed(state.log_history) if "train_runtime" in entry), {}
    )
    return {**metrics, **{name: value for name, value in train_log.items() if name.startswith("train_")}}


def _facts(setup: Setup) -> dict[str, Any]:
    """Return the facts that accompany the metrics: the precisions, and the label weights that the data determined."""
    balanced = setup.data.balanced_weights
    return {PRECISIONS: setup.precision, **({BALANCED: balanced} if balanced else {})}


def _rows(dataset_infos: Iterable[DatasetInfo], split: str) -> int | None:
    """Return the number of rows of a split, which is needed to judge a proportion; None for a stream or no split."""
    return next((info.rows for info in dataset_infos if info.split == split), None)


def _evaluate_test(
    setup: Setup, metrics: Mapping[str, Any], run_log: RunLog
) -> tuple[PredictionOutput, EvalSplit] | None:
    """Evaluate once on test, with the thresholds that validation has tuned; None without a test split."""
    task, encoded, trainer = setup.data.task, setup.data.encoded, setup.trainer
    if "test" not in encoded.splits:
        return None
    thresholds = {name: metrics[f"eval_{name}"] for name in task.tuned_metrics if f"eval_{name}" in metrics}
    test = EvalSplit(encoded.splits["test"], encoded.head, thresholds)
    trainer.compute_metrics = scorer(task, test)
    output = trainer.predict(test.rows, metric_key_prefix="test")
    run_log.metrics(output.metrics, step=trainer.state.global_step)
    return output, test


def _save_model(cfg: DictConfig, job: Job, setup: Setup, params: Mapping[str, str], metrics: Mapping[str, Any]) -> None:
    """Save the model, its tokenizer or image processor, and its card."""
    data, folder = setup.data, job.directory / MODEL
    setup.adapter.save(setup.model, folder)
    if data.max_length and data.task.processor == "tokenizer":
        data.processor.model_max_length = data.max_length  # `truncation=True` truncates to it after loading
    data.processor.save_pretrained(folder)
    rows = {split: format_length(data.splits[split]) for split in data.splits}
    with optional_record("model card"):
        classes, args = (data.task.auto_model, data.task.processor), training_args(setup.trainer.args)
        settings = (setup.precision, params, args)
        model_card.write(
            folder, model_card.ModelCardInputs(cfg, job, *classes, setup.sources, rows, metrics, *settings)
        )


def _record_results(
    job: Job,
    setup: Setup,
    test: tuple[PredictionOutput, EvalSplit] | None,
    metrics: Mapping[str, Any],
    run_log: RunLog,
) -> None:
    """Record predictions, tables, and metrics, and log the model; their errors do not lose the saved model."""
    if test:
        with optional_record("predictions"):
            decoded = artifacts.decoded_rows(
                setup.data.task, setup.data.splits["test"], setup.data.test_positions, *test
            )
            artifacts.predictions(job, setup.data.task, decoded, test[1], run_log)
    # The last file: a run that has it is finished.
    write_json(job.directory / METRICS, {**metrics, **_facts(setup)})
    run_log.artifact(job.directory / METRICS)
    with optional_record("model in MLflow"):
        run_log.model(replace(setup.model_info, step=metrics["step"], metrics=metrics))
