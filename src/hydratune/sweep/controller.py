"""Controller of a sweep: starts workers through Hydra's launcher until no trial is left, and shows the progress."""

from __future__ import annotations

import logging
import os
import shlex
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from filelock import Timeout
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write

from hydratune.config.hydra_guard import RAY_ADDRESS
from hydratune.config.instantiate import build
from hydratune.config.launchers import LauncherKind, launcher_kind
from hydratune.sweep import ray_cluster
from hydratune.sweep.config import Sweep
from hydratune.sweep.monitor import Monitor
from hydratune.sweep.plan import Plan
from hydratune.sweep.report import results, tables
from hydratune.sweep.report.note import best_command
from hydratune.sweep.report.page import PAGE, REPORT
from hydratune.sweep.storage import retry
from hydratune.sweep.stored_plan import read_plan, sweep_command
from hydratune.sweep.study import FAILURES, INTERRUPTIONS, Study, folder_of
from hydratune.sweep.tracking import SweepRun
from hydratune.training.hardware.environment import ignore_other_launchers
from hydratune.utils import signals
from hydratune.utils import slurm as slurm_job
from hydratune.utils.errors import FAILED as FAILED_CODE
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.files import OUT_OF_FOLD, check_started_here, file_lock, remove_later
from hydratune.utils.provenance import cli_path, redact
from hydratune.utils.python_processes import shell_setup
from hydratune.utils.short_forms import metric_name

log = logging.getLogger(__name__)

_PARENT_LOCK = ".parent.lock"
_TRIES = 3  # consecutive starts of workers that end without the end of a trial
_POLL = 2  # seconds
_RETRY = 30  # seconds between two requests to sbatch
_TRACES = 3  # tracebacks that are shown at the end
_LONGEST_END = 30  # maximum seconds to wait for workers to end


class NoProgressError(RuntimeError):
    """Error for workers that ended repeatedly, without the end of a trial."""


def sweep(cfg: DictConfig, context: HydraContext, arguments: Sequence[str]) -> None:
    """Train the remaining trials of a sweep, whose directory contains its plan."""
    plan = read_plan(Path(cfg.hydra.sweep.dir))
    options = build(cfg.sweep)
    check_started_here(plan.cwd, "hydratune -m ...")
    if launcher_kind(cfg.hydra.launcher) is LauncherKind.RAY:
        ray_cluster.connect(cfg.hydra.launcher.ray.init)
    trained = trial_folders(plan.directory)  # read first: a trial is in the study before it has a directory
    study = Study(plan, options)
    check_trials(study, trained)
    warnings = (sqlite_warning(study.url, cfg), grid_warning(plan, options), seed_warning(plan))
    for warning in filter(None, warnings):
        log.warning("%s", warning)
    ignore_other_launchers()  # of which workers, which are processes of their own, would not know
    lock = file_lock(plan.directory / _PARENT_LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:  # another parent records this sweep; this one adds workers
        sweep_run = SweepRun(study, None)
    else:
        sweep_run = SweepRun(study, cfg)
    try:
        with sweep_run, Monitor(study, sweep_run):
            start_until_done(study, partial(launch_workers, cfg, context, list(arguments)), partial(_queued, cfg))
            _remove_left(study)
    finally:
        lock.release()


def trial_folders(directory: Path) -> set[str]:
    """Return the names of the directories of trials in the directory of a sweep."""
    return {
        path.name for path in directory.iterdir() if path.name.isdecimal() and path.is_dir() and any(path.iterdir())
    }


def check_trials(study: Study, folders: Collection[str]) -> None:
    """Raise ConfigError if a study lacks trials that have directories, which new trials would take for their own.

    The new trials could have other values of the parameters or other rows, and would take over the old results.

    Args:
        study: Study of the sweep.
        folders: Names of the directories of trials.
    """
    lost = sorted({*folders} - {folder_of(trial) for trial in retry(study.all_trials)}, key=int)
    if lost:
        directory = os.path.relpath(study.plan.directory)
        text = f"{directory} has the files of {len(lost)} trials that are not in its study {redact(study.url)}"
        hint = (
            f"restore the database of the study, remove {directory} to train all trials again, or set sweep.name=NAME"
        )
        raise ConfigError(Problem("sweep", text, hint))


def start_until_done(study: Study, launch: Callable[[int, int], bool], queued: Callable[[], int]) -> None:
    """Start workers, and replace those that have ended, until the study is done.

    Args:
        study: Study of the sweep.
        launch: Starts workers and waits until they end. Takes their number and the number of the first one, and returns
            whether any was preempted.
        queued: Returns how many workers are running, or waiting in the queue of a cluster. They can still be there
            after `launch`, which returns early if one of them has failed.

    Raises:
        NoProgressError: If all workers ended repeatedly, without the end of a trial.
    """
    tries, started = 0, 0
    while not study.is_done():
        missing = study.options.workers - queued()
        if missing <= 0 or not study.has_work():  # other workers train the last trials, and may still fail
            time.sleep(_POLL)
            continue
        before = _ended(study)
        preempted = launch(missing, started)
        signals.raise_pending()  # workers that got the signal before they had a handler have ended with an error
        started += missing
        if preempted or _ended(study) > before:
            tries = 0
        elif not queued():  # otherwise, other workers may be training long trials
            tries += 1
        if tries == _TRIES:
            raise NoProgressError(f"workers ended {_TRIES} times without a trial; see {study.plan.directory}/workers")


def _queued(cfg: DictConfig) -> int:
    """Return the number of workers in the queue of Slurm; other launchers wait until all workers have ended."""
    if launcher_kind(cfg.hydra.launcher) is not LauncherKind.SUBMITIT_SLURM:
        return 0
    from hydratune.sweep import slurm

    return slurm.unfinished()


def sqlite_warning(url: str, cfg: DictConfig) -> str | None:
    """Return a warning if workers on several machines share an SQLite file."""
    kind = launcher_kind(cfg.hydra.launcher)
    on_slurm = kind is LauncherKind.SUBMITIT_SLURM or slurm_job.nodes() > 1
    on_ray = kind is LauncherKind.RAY and ("RAY_ADDRESS" in os.environ or OmegaConf.select(cfg, RAY_ADDRESS))
    if not url.startswith("sqlite") or not (on_slurm or on_ray):
        return None
    return (
        "sweep: workers on several machines share an SQLite file, whose locks fail on many network file systems; "
        "set sweep.storage to a PostgreSQL or MySQL database"
    )


def grid_warning(plan: Plan, options: Sweep) -> str | None:
    """Return a warning if a grid has fewer points than `sweep.n_trials`."""
    points = len(plan.space.grid()) if options.sampler is None else None
    if points is None or not options.n_trials or options.n_trials <= points:
        return None
    return f"sweep: the grid has {points} points, fewer than sweep.n_trials ({options.n_trials})"


def seed_warning(plan: Plan) -> str | None:
    """Return a warning if each trial has one of several seeds, so that trials differ by chance."""
    parameters = {parameter.name: parameter for parameter in plan.space.parameters}
    if "seed" not in parameters or len(parameters) < 2:
        return None
    values = ",".join(map(str, parameters["seed"].labels)) or "1,2,3"
    return (
        f"sweep: every seed is a separate trial; to rank trials by their mean over seeds, set 'sweep.seeds=[{values}]'"
    )


def _remove_left(study: Study) -> None:
    """Remove the remaining checkpoints of finished trials: those of the last trials, and those of killed workers."""
    for trial in study.trials():
        if trial.state.name in ("COMPLETE", "PRUNED"):
            for checkpoints in study.checkpoints(study.directory(trial)):
                remove_later(checkpoints)


def _ended(study: Study) -> int:
    """Return the number of attempts that have ended: completed, pruned, failed, or preempted."""
    counters = (FAILURES, INTERRUPTIONS)
    return sum(t.state.is_finished() + sum(t.user_attrs.get(name, 0) for name in counters) for t in study.trials())


def launch_workers(cfg: DictConfig, context: HydraContext, arguments: list[str], workers: int, first: int) -> bool:
    """Start workers, wait until they end, and return whether any was preempted."""
    from hydratune.sweep.worker import PREEMPTED, STARTED_BY, work

    os.environ[STARTED_BY] = str(os.getpid())
    cfg = with_safe_path(with_own_folder(cfg))
    task = ray_cluster.with_environment(work) if launcher_kind(cfg.hydra.launcher) is LauncherKind.RAY else work
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=cfg)
    start = _start_function(cfg)
    try:
        job_returns: Sequence[Any] = start(launcher, [list(arguments) for _ in range(workers)], first)
    except (ConfigError, KeyboardInterrupt, SystemExit):
        _wait_for_workers()
        signals.raise_pending()  # Ray raises SystemExit(1) instead of the exception of our handler
        raise
    except Exception as error:  # a killed worker breaks the pool of its launcher
        log.warning("sweep: workers failed: %s", one_line(error).partition(". ")[0][:300])
        log.debug("sweep: workers ended", exc_info=error)
        return False
    for job_return in job_returns:
        if isinstance(job_return._return_value, ConfigError):
            raise job_return._return_value
        if job_return.status == JobStatus.FAILED:
            log.warning("sweep: a worker failed: %s", one_line(job_return._return_value, 300))
    return any(job_return._return_value == PREEMPTED for job_return in job_returns)


def with_own_folder(cfg: DictConfig) -> DictConfig:
    """Return the config of a sweep with a new folder for the pickles through which submitit and its jobs communicate.

    The names of these files follow from the IDs of jobs. A pickle that came with the directory of a sweep could
    otherwise be taken for that of a job, and run code.
    """
    folder = OmegaConf.select(cfg, "hydra.launcher.submitit_folder")
    if folder is None:
        return cfg
    parts = Path(folder).parts
    ids = next((i for i, part in enumerate(parts) if "%" in part), len(parts))  # e.g. of `%j`, the ID of a job
    cfg = cfg.copy()
    with read_write(cfg.hydra):
        cfg.hydra.launcher.submitit_folder = str(Path(*parts[:ids], uuid.uuid4().hex, *parts[ids:]))
    return cfg


def with_safe_path(cfg: DictConfig) -> DictConfig:
    """Return the config of a sweep whose Slurm jobs import no modules of the working directory.

    With `SBATCH_EXPORT=NONE`, a job does not inherit the variables of this process, nor `srun` those of the job.
    """
    if launcher_kind(cfg.hydra.launcher) is not LauncherKind.SUBMITIT_SLURM:
        return cfg
    cfg = cfg.copy()
    with read_write(cfg.hydra):
        cfg.hydra.launcher.setup = [f"{shell_setup()} SLURM_EXPORT_ENV=ALL", *(cfg.hydra.launcher.setup or [])]
    return cfg


def _start_function(cfg: DictConfig) -> Callable[[Launcher, Sequence[list[str]], int], Sequence[Any]]:
    """Return the function that starts workers by the launcher of a config."""
    kind = launcher_kind(cfg.hydra.launcher)
    if kind is LauncherKind.SUBMITIT_SLURM:
        return _launch_on_slurm
    return launch_by_joblib if kind is LauncherKind.JOBLIB else _launch_anywhere


def launch_by_joblib(launcher: Launcher, jobs: Sequence[list[str]], first: int) -> Sequence[Any]:
    """Start workers by joblib, and let them save and return if this process is asked to end.

    Joblib kills its workers if this process raises instead.
    """
    if len(jobs) == 1:  # joblib runs a single worker in this process, where it handles signals itself
        return launcher.launch(jobs, initial_job_idx=first)
    from joblib.externals.loky import get_reusable_executor

    with signals.defer_signals(_ask_workers):
        job_returns = launcher.launch(jobs, initial_job_idx=first)
        # Joblib would keep its idle processes for minutes. A new worker must not inherit requests to end, and
        # `_wait_for_workers` would wait for them in vain.
        get_reusable_executor().shutdown(wait=True)
        return job_returns


def _launch_anywhere(launcher: Launcher, jobs: Sequence[list[str]], first: int) -> Sequence[Any]:
    return launcher.launch(jobs, initial_job_idx=first)


def _launch_on_slurm(launcher: Launcher, jobs: Sequence[list[str]], first: int) -> Sequence[Any]:
    """Submit workers and wait until one has failed, or all have ended.

    Raises:
        ConfigError: If this machine has no Slurm, or sbatch rejects the first request.
    """
    from hydratune.sweep import slurm

    if problem := slurm.unavailable():
        raise ConfigError(problem)
    try:
        with slurm.without_copies():
            return launcher.launch(jobs, initial_job_idx=first)
    except Exception as error:
        problem = slurm.rejection(error)
        if problem and not first:
            raise ConfigError(problem) from error
        if problem:  # sbatch has accepted the same request before, so the rejection may be temporary
            time.sleep(_RETRY)
        raise


def _ask_workers() -> None:
    """Send the request to end to the workers of joblib, since the signal may have reached this process alone."""
    for worker in _local_workers():
        with suppress(psutil.NoSuchProcess):
            worker.terminate()


def _wait_for_workers() -> None:
    """Wait until the workers of joblib, which end with its pool, are gone, or until `_LONGEST_END` has passed."""
    psutil.wait_procs(_local_workers(), timeout=_LONGEST_END)


def _local_workers() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if _is_worker(process)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "LokyProcess" in " ".join(process.cmdline())
    except psutil.Error:  # the process has ended
        return False


def show_plan(plan: Plan, cfg: DictConfig) -> None:
    """Print the trials of a sweep, for a dry run."""
    console = tables.console()
    n_trials, runs = cfg.sweep.n_trials, f", each with {tables.replicates(plan)}" if plan.is_replicated else ""
    options = build(cfg.sweep)
    for warning in filter(None, (grid_warning(plan, options), seed_warning(plan))):
        console.print(warning, style="yellow")
    if cfg.sweep.sampler is None:
        points = options.in_order(plan.space.grid())[:n_trials]
        summary = f"{len(points)} trials{runs}"
    else:
        points = plan.space.corners()
        summary = f"{n_trials or 'any number of'} trials{runs}; the ends of the space are shown, and were checked"
    console.print(tables.plan_table(plan, points))
    console.print(summary)
    names = ", ".join(f"{direction} {metric_name(name)}" for name, direction in plan.objectives.items())
    console.print(f"{names}; files would be in {os.path.relpath(plan.directory)}")


def resume_line(study: Study, rows: Sequence[results.TrialRow]) -> str:
    """Return the line with the command that resumes a sweep; empty if the sweep is finished."""
    if study.is_done() or not (command := sweep_command(study.plan)):
        return ""
    is_running = any(row.state == results.RUNNING for row in rows)
    purpose = "resume the sweep, or add workers to it if it is running" if is_running else "resume the sweep"
    return f"resume   {command}   ({purpose})"


def print_summary(study: Study, cfg: DictConfig) -> int:
    """Print the results of a sweep, and return the exit code: 1 if a trial failed."""
    plan = study.plan
    rows = results.rows(plan, study.trials())
    console = tables.console()
    console.print(tables.final(plan, rows, tables.summary(plan, rows, study.total(), study.options.workers)))
    failed_rows = [row for row in rows if row.state == results.FAILED]
    for row in failed_rows[:_TRACES]:
        console.print(row.trace, style="dim", end="")
    for row in failed_rows:
        log_file = os.path.relpath(plan.directory / row.folder)
        console.print(f"{tables.line(plan, row)}   (its log is in {log_file})", style="red")
    script, directory = cli_path(), os.path.relpath(plan.directory)
    console.print(f"files    {directory}")
    for row in results.pareto_front(plan, rows):
        if (predictions := plan.directory / row.folder / OUT_OF_FOLD).is_file():
            console.print(f"folds    {os.path.relpath(predictions)}")
    if (page := plan.directory / REPORT / PAGE).is_file():
        console.print(f"report   {os.path.relpath(page)}")
    if cfg.tracking._target_.endswith(".Mlflow"):
        console.print(f"MLflow   {shlex.join([script, 'ui', directory])}")
    if unfinished := resume_line(study, rows):
        console.print(unfinished)
    if command := best_command(plan, rows):
        kind = "the best trial" if len(plan.objectives) == 1 else "a trial of the Pareto front"
        console.print(f"next     {command}   (retrain and test {kind})")
    if failed_rows:
        max_retries = study.options.max_retries + 1
        if command := sweep_command(plan, f"sweep.max_retries={max_retries}"):
            console.print(f"retry    {command}   (retry the failed trials)")
    return FAILED_CODE if failed_rows else 0
