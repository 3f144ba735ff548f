"""One run: load, train, evaluate, save, and record."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.config.instantiate import build
from hydratune.data.eval_sets import kind_of, sets_of
from hydratune.data.streaming import format_length
from hydratune.tracking.base import NoTracking
from hydratune.training import artifacts, model_card
from hydratune.training.baseline import constant_baseline
from hydratune.training.calibrate import calibrate
from hydratune.training.card_inputs import ModelCardInputs
from hydratune.training.eval_sets import EvalSets, Evaluated, eval_splits
from hydratune.training.exact_resume import EXACT, exactness
from hydratune.training.hardware.environment import is_rank
from hydratune.training.job import Job, foreign_code, run_info
from hydratune.training.out_of_fold import record_fold
from hydratune.training.push import TAG
from hydratune.training.report.note import start_note, trial_note
from hydratune.training.report.record import has_best, record, report_inputs
from hydratune.training.report.summary import setting_facts
from hydratune.training.results import BALANCED, PRECISIONS, SOUP, RunResult, split_metrics
from hydratune.training.run_params import run_params, schedule, training_args
from hydratune.training.setup import Setup, cross_validation, set_up
from hydratune.utils import signals
from hydratune.utils.errors import SAVED, optional_record
from hydratune.utils.files import METRICS, MODEL, write_json
from hydratune.utils.report_page import REPORT_PAGE

if TYPE_CHECKING:
    import pandas as pd

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
    from hydratune.training.trainer.checkpoint_files import step_of
    from hydratune.training.trainer.fsdp import gather_weights

    log.info("batches: %s", schedule(setup.trainer))
    if setup.checkpoint:
        log.info("resuming from step %s", f"{step_of(Path(setup.checkpoint)):,}")
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
            run_log.note(start_note(job, params, dataset_infos))
        _train(setup, job, run_log)
        metrics = {**_best_metrics(setup, cfg.objective, run_log), "eval_samples": _rows(dataset_infos, "validation")}
        record_fold(setup, job, cross_validation(cfg), cfg.seed, metrics, run_log)
        if job.trial:  # a sweep reads no test data, and leaves scores but no weights
            metrics |= _evaluations(setup, cfg.objective)
            if job.is_main_process:
                write_json(job.directory / METRICS, {**metrics, **_facts(setup)})
                run_log.note(trial_note(job, params, dataset_infos, metrics, cfg.objective, has_best(setup.trainer)))
            return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link())
        metrics |= calibrate(setup, job, metrics, run_log)
        test = _evaluate_test(setup, metrics, run_log)
        if test:
            metrics |= {**test.metrics, "test_samples": _rows(dataset_infos, "test")}
        gather_weights(setup.model, keep=job.is_main_process)
        if not job.is_main_process:
            return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link())
        loading = _save_model(cfg, job, setup, params, metrics)
        facts = setting_facts(job, params, dataset_infos)
        _record_results(cfg, job, setup, test, metrics, (facts, loading), run_log)
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
    step = trainer.args.load_best_model_at_end and state.best_global_step  # none is best if the objective is always NaN
    step = step or state.global_step
    soup = getattr(trainer, "soup", None)
    evaluations = [entry for entry in state.log_history if objective in entry and entry["step"] == step]
    evaluations += [soup.metrics] if soup else []
    metrics = {**(evaluations[-1] if evaluations else trainer.evaluate()), "step": step}
    run_log.metrics({f"best_{name}": value for name, value in split_metrics(metrics, "eval").items()}, metrics["step"])
    train_log: Mapping[str, Any] = next(
        (entry for entry in reversed(state.log_history) if "train_runtime" in entry), {}
    )
    return {**metrics, **{name: value for name, value in train_log.items() if name.startswith("train_")}}


def _evaluations(setup: Setup, objective: str) -> dict[str, int]:
    """Return the number of evaluations, for pruners, which count those of all runs of a trial."""
    return {"evaluations": sum(objective in entry for entry in setup.trainer.state.log_history)}


def _facts(setup: Setup) -> dict[str, Any]:
    """Return the facts that accompany the metrics: precisions, label weights from the data, and steps of a soup."""
    balanced, soup = setup.data.balanced_weights, getattr(setup.trainer, "soup", None)
    facts = {BALANCED: balanced, SOUP: soup and list(soup.steps)}
    return {PRECISIONS: setup.precision, **{name: fact for name, fact in facts.items() if fact}}


def _rows(dataset_infos: Iterable[DatasetInfo], split: str) -> int | None:
    """Return the number of rows of a split, which is needed to judge a proportion; None for a stream or no split."""
    counts = [info.rows for info in dataset_infos if kind_of(info.split) == split]
    return None if None in counts or not counts else sum(filter(None, counts))


def _evaluate_test(setup: Setup, metrics: Mapping[str, Any], run_log: RunLog) -> Evaluated | None:
    """Evaluate once on test, with the thresholds that validation has tuned; None without a test split."""
    task, encoded, trainer = setup.data.task, setup.data.encoded, setup.trainer
    thresholds = {name: metrics[f"eval_{name}"] for name in task.tuned_metrics if f"eval_{name}" in metrics}
    if not (splits := eval_splits(encoded, "test", thresholds)):
        return None
    evaluated = EvalSets(task, splits).predict(trainer, "test")
    run_log.metrics(evaluated.metrics, step=trainer.state.global_step)
    return evaluated


def _save_model(cfg: DictConfig, job: Job, setup: Setup, params: Mapping[str, str], metrics: Mapping[str, Any]) -> str:
    """Save the model, its tokenizer or image processor, and its card; return the Python code that loads the model."""
    data, folder = setup.data, job.directory / MODEL
    setup.adapter.save(setup.model, folder)
    if data.max_length and data.task.processor == "tokenizer":
        data.processor.model_max_length = data.max_length  # `truncation=True` truncates to it after loading
    data.processor.save_pretrained(folder)
    rows = {split: format_length(data.splits[split]) for split in data.splits}
    with optional_record("model card"):
        classes, args = (data.task.auto_model, data.task.processor), training_args(setup.trainer.args)
        settings = (setup.precision, params, args)
        labels = [*data.encoded.head.get("id2label", {}).values()]
        reference = constant_baseline(data.encoded.splits, data.encoded.head)
        card = ModelCardInputs(cfg, job, *classes, setup.sources, rows, metrics, *settings, labels, reference)
        model_card.write(folder, card)
        return model_card.loading_code(folder, card)
    return ""


def _record_results(
    cfg: DictConfig,
    job: Job,
    setup: Setup,
    test: Evaluated | None,
    metrics: Mapping[str, Any],
    described: tuple[Mapping[str, str], str],
    run_log: RunLog,
) -> None:
    """Record predictions, tables, the report, and metrics, and log the model; errors do not lose the saved model.

    Args:
        cfg: Config of the run.
        job: Job of the run.
        setup: Objects of the run.
        test: Predictions for the test rows, and these rows; None without a test split.
        metrics: Metrics under Trainer's names.
        described: Facts about the run for its report, and the Python code that loads its model.
        run_log: Tracker's log of the run.
    """
    decoded: list[dict[str, Any]] = []
    tables: Mapping[str, pd.DataFrame] = {}
    if test:
        with optional_record("predictions"):
            task, splits = setup.data.task, setup.data.splits
            sets = {name: splits[split] for name, split in sets_of(splits, "test").items()}
            decoded = artifacts.decoded_rows(task, sets, setup.data.places.get("test", ()), test)
            tables = artifacts.predictions(job, task, decoded, test.rows(), run_log)
    with optional_record(REPORT_PAGE):
        facts, loading = described
        link = run_log.link()
        record(report_inputs(cfg, job, setup, facts, metrics, (decoded, tables), loading, link), run_log)
    # The last file: a run that has it is finished.
    write_json(job.directory / METRICS, {**metrics, **_facts(setup)})
    run_log.artifact(job.directory / METRICS)
    with optional_record("model in MLflow"):
        run_log.model(replace(setup.model_info, step=metrics["step"], metrics=metrics))
