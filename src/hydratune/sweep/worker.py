"""Worker of a sweep: it claims trials from the study, trains them, and reports the results, until none is left."""

from __future__ import annotations

import gc
import logging
import os
import socket
import statistics
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hydratune.config import servers
from hydratune.config.import_guards import guard_imports
from hydratune.config.instantiate import build
from hydratune.config.launchers import LauncherKind, launcher_kind
from hydratune.sweep import isolated
from hydratune.sweep.out_of_fold import merge_folds
from hydratune.sweep.plan import Plan, label
from hydratune.sweep.storage import StudyUnavailableError, retry
from hydratune.sweep.stored_plan import read_plan
from hydratune.sweep.study import EVALUATIONS, SECONDS, VALUES, ChangedDataError, ClaimedTrial, Study
from hydratune.sweep.trial import one_run, quiet_terminal
from hydratune.tracking import uploader
from hydratune.training.hardware.environment import ignore_other_launchers
from hydratune.training.warm_cache import WarmCache
from hydratune.utils import gc_tuning, signals
from hydratune.utils.errors import TERMINATED, ConfigError, Problem, one_line, optional_record
from hydratune.utils.files import CHECKPOINTS, PLAN, remove_later
from hydratune.utils.logs import guard_output, quiet_libraries
from hydratune.utils.machine import pin_process
from hydratune.utils.provenance import redact

log = logging.getLogger(__name__)

PREEMPTED = -1
STARTED_BY = "HYDRATUNE_STARTED_BY"  # environment variable of workers on this machine: the ID of their parent process
REPORT_DELAY = 1.0  # seconds of delay, after which the study has the result of a trial, and the next one trains
_KEPT = 4  # models and datasets that a worker caches in memory
_FRAMES = 10  # innermost frames of a traceback that are recorded


def work(cfg: DictConfig) -> int:
    """Train trials in the process that the launcher starts.

    Returns:
        The number of trials that were trained here, or `PREEMPTED` if a signal asked this worker to end. For the
        launcher, a preemption is a normal return, so that the parent replaces the worker without waiting.
    """
    hydra = HydraConfig.get()
    number, launcher = int(hydra.job.num), launcher_kind(hydra.launcher)
    if launcher is LauncherKind.JOBLIB and os.environ.get(STARTED_BY) == str(os.getpid()):  # its only worker
        launcher = LauncherKind.BASIC  # also runs the worker in the parent's process
    plan, options = _shared_plan(Path(hydra.sweep.dir)), build(cfg.sweep)
    if launcher is not LauncherKind.BASIC:  # this process did not start with our command
        gc_tuning.defer_gc()
        guard_output()
        servers.ignore_default_login()
        guard_imports()
    _configure_process(number, options.workers, launcher)
    log.info("worker %d: process %d begins", number, os.getpid())
    ignore_other_launchers()  # here, since each trial restores the environment
    try:
        result = _work(Study(plan, options, waits=True), WarmCache(_KEPT))
    except (KeyboardInterrupt, SystemExit):
        if launcher is LauncherKind.BASIC:  # this is the parent's process, which was asked to end
            raise
        result = PREEMPTED
    finally:
        if signals.is_orphan():  # otherwise, it would wait forever for work
            os._exit(TERMINATED)
        uploader.wait()
        if launcher is LauncherKind.JOBLIB:  # if this idle process ended, joblib would kill the workers that are saving
            signals.ignore()
    if result == PREEMPTED:
        log.info("worker %d: asked to end; its trial continues from its last checkpoint", number)
        _requeue(number)
    else:
        log.info("worker %d: no trials left", number)
    return result


def _requeue(number: int) -> None:
    """Let the launcher requeue the job of this worker; if it refuses, the parent of the sweep replaces the worker."""
    try:
        signals.call_launcher_handlers()
    except Exception as error:  # submitit: more timeouts than `max_num_timeout`, or an error of `scontrol requeue`
        log.info("worker %d: not requeued: %s", number, one_line(error))


def _shared_plan(directory: Path) -> Plan:
    """Read the plan of a sweep, or raise ConfigError if this machine does not have the sweep's directory."""
    if not (directory / PLAN).is_file():
        text = f"the sweep's directory {str(directory)!r} does not exist on {socket.gethostname()}"
        hint = "set hydra.sweep.dir=/SHARED/NAME, a directory on a file system that all machines share"
        raise ConfigError(Problem("hydra.sweep.dir", text, hint))
    return read_plan(directory)


def _work(study: Study, cache: WarmCache) -> int:
    n_trained = 0
    while claim := study.claim():
        log.info("trial %d: %s, in %s", claim.trial.number, label(claim.point), claim.directory.name)
        try:
            with study.heartbeat(claim):
                train_configuration(study, claim, cache)
        except BaseException as error:
            study.release(claim, is_interrupted=not isinstance(error, Exception))
            raise
        signals.raise_pending()
        if not n_trained:  # no object of a trial is alive, and all modules are imported
            gc.collect()  # otherwise, the model of a failed trial would stay: its traceback references it
            gc.freeze()
        n_trained += 1
    return n_trained


def _configure_process(number: int, workers: int, launcher: LauncherKind | None) -> None:
    """Prepare the process of a worker: no output in the terminal, signal handlers, and its share of CPUs and GPUs."""
    import datasets

    quiet_terminal()
    quiet_libraries()
    datasets.disable_progress_bars()
    parent = os.environ.get(STARTED_BY)
    if parent and launcher in (
        LauncherKind.JOBLIB,
        LauncherKind.SUBMITIT_LOCAL,
    ):  # others may run on other machines, without their parent
        signals.exit_with_parent(int(parent))
    if launcher is not LauncherKind.BASIC and threading.current_thread() is threading.main_thread():
        signals.install()  # replaces the launcher's handlers, which are called once the trial is saved
    if launcher is LauncherKind.JOBLIB:
        pin_process(number, workers)


def train_configuration(study: Study, claim: ClaimedTrial, cache: WarmCache) -> None:
    """Train one configuration with each of its seeds and folds, and report the result to the study."""
    try:
        results, pruned = _replicates(study, claim, cache)
    except (ChangedDataError, StudyUnavailableError):  # not caused by this configuration
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {one_line(error)}"
        study.fail(claim, message, str(redact("".join(traceback.format_exception(error, limit=-_FRAMES)))))
        log.error("trial %d failed: %s", claim.trial.number, message)
        return
    values = None if pruned else [_mean(results, name) for name in study.plan.objectives]
    if not pruned:
        with optional_record("out-of-fold predictions"):
            merge_folds(study.plan, claim.directory)
    if study.finish(claim, values, _means(results)) and pruned:  # no other worker resumes from its checkpoints
        for checkpoints in study.checkpoints(claim.directory):
            remove_later(checkpoints, REPORT_DELAY)


def _replicates(study: Study, claim: ClaimedTrial, cache: WarmCache) -> tuple[list[Mapping[str, Any]], bool]:
    """Train each replicate, and return the metrics of each, and whether the study pruned the configuration."""
    began, seconds_before = time.monotonic(), float(study.noted(claim).get(SECONDS, 0))
    results: list[Mapping[str, Any]] = []
    try:
        for i in range(len(study.plan.replicates)):
            result = (
                isolated.start(study, claim, i) if study.options.process_per_trial else one_run(study, claim, i, cache)
            )
            if result.error:
                raise result.error
            if result.pruned:
                return results, True
            remove_later(claim.run_directory(study.plan.replicates[i]) / CHECKPOINTS, REPORT_DELAY)
            results.append(result.metrics)
            if study.plan.is_replicated:  # otherwise, the trial itself has the values
                study.note(claim, VALUES, _by_seed(study, results))
                study.note(claim, EVALUATIONS, [int(metrics.get(EVALUATIONS, 0)) for metrics in results])
            if _is_hopeless(study, claim, results):
                return results, True
    finally:
        study.note(claim, SECONDS, seconds_before + time.monotonic() - began)
    return results, False


def _is_hopeless(study: Study, claim: ClaimedTrial, results: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the replicates so far show that a configuration is worse than the best one."""
    if study.options.pruner != "wilcoxon":
        return False
    value = results[-1][next(iter(study.plan.objectives))]
    retry(lambda: claim.trial.report(value, len(results) - 1))
    return len(results) < len(study.plan.replicates) and retry(claim.trial.should_prune)


def _by_seed(study: Study, results: list[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return objective -> its value in each replicate so far."""
    return {name: [float(metrics[name]) for metrics in results] for name in study.plan.objectives}


def _mean(results: list[Mapping[str, Any]], name: str) -> float:
    return statistics.fmean(float(metrics[name]) for metrics in results)


def _means(results: list[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of each metric that is a number in all runs."""
    names = [name for name, value in results[0].items() if isinstance(value, int | float)] if results else []
    return {name: _mean(results, name) for name in names if all(name in metrics for metrics in results)}
