"""`hydratune OVERRIDES`: check everything, choose the run directory once, then let Hydra run the job."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.hydra_main import RunFailedError, run_composed, run_sweep
from hydratune.cli.interrupts import is_saved, resumable
from hydratune.cli.notes import update_experiment_note
from hydratune.cli.run_summary import oom_hint, show
from hydratune.cli.train_options import make_request, parse_overrides, with_project_configs
from hydratune.config import composition, hydra_guard, typed_settings, user_settings
from hydratune.config.compose_errors import compose_error
from hydratune.config.composition import Request
from hydratune.config.instantiate import build
from hydratune.config.launchers import LauncherKind, launcher_kind
from hydratune.config.validate import check_config
from hydratune.models.base import Checkpoint
from hydratune.sweep.controller import NoProgressError, print_summary, show_plan, sweep
from hydratune.sweep.plan import Plan, checked_job, make_plan
from hydratune.sweep.retraining import row_check, trial_of
from hydratune.sweep.stored_plan import sweep_command, write_plan
from hydratune.sweep.study import Study
from hydratune.training.job import hydra_job
from hydratune.training.launch import is_distributed, launch, machines, other_machine, resume_command, run_directory
from hydratune.training.preflight import preflight
from hydratune.training.resume import check_seed, resume_text
from hydratune.training.run import run
from hydratune.utils import signals, slurm, watchdog
from hydratune.utils.errors import FAILED, KEY, ConfigError, MachineLostError, NotFiniteError, Problem
from hydratune.utils.files import (
    METRICS,
    PRIVATE_FOLDER,
    check_links,
    claim_directory,
    make_directory,
    numbered_directories,
    remove_tree,
    try_lock,
)
from hydratune.utils.logs import apply_verbosity
from hydratune.utils.messages import print_error, print_line
from hydratune.utils.places import check_place, result_links
from hydratune.utils.yaml_files import read_hydra_node, read_overrides

log = logging.getLogger(__name__)


def train(
    arguments: Sequence[str],
    continued: Path | None = None,
    stored: int = 0,
    *,
    origin: str | None = None,
) -> int:
    """Run one job, or several with `-m`, and return the exit code.

    Args:
        arguments: Command-line arguments.
        continued: Directory of a run to resume.
        stored: Number of overrides, at the start of the arguments, that the run has stored.
        origin: Directory in which someone else started the run, or the sweep that the run retrains a trial of; None if
            the user did, so that its data files are their choice.
    """
    if not continued:
        arguments = with_project_configs(arguments)
    flags = parse_overrides(arguments)
    request, dry_run = replace(make_request(flags), stored=stored), flags.dry_run
    try:
        if flags.multirun:
            return _sweep(request, dry_run)
        with composition.composer(request):
            cfg = checked(request, is_own_project=origin is None)
            loader = GlobalHydra.instance().config_loader()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(compose_error(error)) from error
    if continued:
        check_seed(cfg, continued)
    target = Path(cfg.hydra.run.dir).absolute()
    if dry_run:
        previous = continued or (same_command(target, request) if cfg.resume else None)
        print(f"{resume_text(previous)}; no errors found\n{preflight([cfg], dry_run, reads_rows=True)}")
        return 0
    typed_settings.record_typed(request.overrides[stored:])
    n_machines, number = machines(cfg)
    if not continued and (continued := _previous(cfg, target, request, n_machines)):
        check_links(continued)
    run_dir = continued or target
    if (continued or n_machines > 1) and (run_dir / METRICS).is_file():
        print(f"{os.path.relpath(run_dir)}: finished, nothing to do")
        build(cfg.tracking).deliver(run_dir)  # the final upload may have been interrupted
        return 0
    with resumable(continued):
        checkpoint = preflight([cfg]).checkpoint
        if n_machines > 1:
            continued = _shared(run_dir, number, request)
        new_parents = _missing_parents(run_dir)
        try:
            directory = continued or claim_directory(run_dir)
        except OSError as error:
            raise _unwritable("hydra.run.dir", run_dir, error) from error
        with _alone(directory), resumable(directory), nullcontext() if continued else _undone(directory, new_parents):
            settings = {"hydra.run.dir": str(directory)}
            if origin:  # stays someone else's run, whose files were not the user's choice
                settings["hydra.runtime.cwd"] = origin
            if job_id := slurm.job_id():
                settings["hydra.job.id"] = job_id  # .hydra/hydra.yaml records it
            code = run_composed(cfg, loader, settings, partial(run_job, checkpoint=checkpoint))
            update_experiment_note(directory)
            return code


def _previous(cfg: DictConfig, target: Path, request: Request, machines: int) -> Path | None:
    """Return the run to resume, or None for a new one.

    With `resume=auto` it is the last run of the same command. A job that Slurm has requeued resumes the run that the
    job itself began, so that it never starts over silently. The machines of one run share its directory anyway.
    """
    if cfg.resume:
        return same_command(target, request)
    if not slurm.restarts() or machines > 1:
        return None
    previous = same_command(target, request, slurm.job_id())
    action = f"resuming {os.path.relpath(previous)}" if previous else "starting a new run, because the job has none yet"
    print_line(f"Slurm requeued job {slurm.job_id()}; {action}")
    return previous


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Lock the directory of a run; raise ConfigError if another process works on the run."""
    with try_lock(directory) as alone:
        if not alone:
            text = f"another process is running in {os.path.relpath(directory)!r}"
            raise ConfigError(Problem("hydra.run.dir", text, "wait until it ends, or stop it"))
        yield


def _shared(target: Path, number: int, request: Request) -> Path:
    """Return the directory of a machine inside the shared run directory, which is that of machine 0."""
    if not target.exists() and not request.sets("hydra.run.dir"):
        hint = f"set {KEY}=/shared/NAME on each machine"
        raise ConfigError(Problem("hydra.run.dir", f"{KEY} is required for a run on several machines", hint))
    directory = other_machine(target, number) if number else target
    try:
        make_directory(directory, PRIVATE_FOLDER)
    except OSError as error:
        raise _unwritable("hydra.run.dir", target, error) from error
    return directory


def same_command(target: Path, request: Request, job_id: str | None = None) -> Path | None:
    """Return the last run of the same command, of this Slurm job if given, or None.

    Args:
        target: Directory of a new run; `hydra.run.dir` may name it.
        request: The command.
        job_id: ID of the Slurm job that began the run; None for any run.
    """
    typed = _without_places(request.overrides)
    if request.sets("hydra.run.dir"):
        run_dirs = [*(reversed(numbered_directories(target)) if job_id else ()), *([target] if target.is_dir() else [])]
    else:
        run_dirs = sorted(target.parent.glob("*/"), reverse=True)
    for run_dir in run_dirs:
        with suppress(ConfigError):  # a run that was killed at its start, or whose files someone else wrote
            check_place("hydra.run.dir", run_dir)
            overrides = read_overrides(run_dir / ".hydra" / "overrides.yaml")
            is_same = _without_places(map(str, overrides)) == typed
            if is_same and (job_id is None or str(read_hydra_node(run_dir).job.id) == job_id):
                return run_dir
    return None


def _without_places(overrides: Iterable[str]) -> list[str]:
    """Return sorted overrides, without those of the run directory and of `resume`."""
    texts = (text.removeprefix("++") for text in overrides)
    return sorted(text for text in texts if not text.startswith(("hydra.run.dir=", "resume=")))


@contextmanager
def _undone(directory: Path, parents: Sequence[Path]) -> Iterator[None]:
    """Remove a new directory after a late error of the user, unless something was trained there."""
    try:
        yield
    except ConfigError:
        if not is_saved(directory):
            remove_tree(directory)
            with suppress(OSError):  # a store or another run is there
                for folder in parents:
                    folder.rmdir()
        raise


def _sweep(request: Request, dry_run: bool) -> int:
    """Train every configuration of a sweep that is not trained yet, or print the plan in a dry run."""
    plan, cfg = make_plan(request)
    with composition.composer(request):
        keys = request.typed_keys
        loader = GlobalHydra.instance().config_loader()
    places = (hydra_guard.place(cfg.hydra, name, f"hydra.{name}" in keys) for name in ("run.dir", "sweep.dir"))
    if problems := [
        *itertools.chain(*places),
        *result_links(),
        *user_settings.stores(cfg, keys),
        *user_settings.ray_address(cfg.hydra, keys),
    ]:
        raise ConfigError(*dict.fromkeys(problems))  # two settings can lead through the same link
    report = preflight(_corners(plan), dry_run, reads_rows=dry_run)
    if dry_run:
        show_plan(plan, cfg)
        print(report)
        return 0
    typed_settings.record_typed(request.overrides)
    for warning in report.warnings:
        print_line(warning)
    is_new, new_parents = not plan.directory.exists(), _missing_parents(plan.directory)
    check_links(plan.directory)
    try:
        write_plan(plan)
    except OSError as error:
        raise _unwritable("hydra.sweep.dir", plan.directory, error) from error
    code = 0
    try:
        undone = _undone(plan.directory, new_parents) if is_new else nullcontext()
        with resumable(plan.directory), watchdog.paused(), undone:  # workers save
            run_sweep(cfg, loader, {"hydra.sweep.dir": str(plan.directory)}, sweep)
    except NoProgressError as error:
        print_error(str(error))
        code = FAILED
    except (KeyboardInterrupt, SystemExit):
        print(f"\nfinished trials are saved; resume with: {sweep_command(plan)}", file=sys.stderr)
        if jobs := _slurm_jobs(cfg):
            print(f"workers continue on Slurm; cancel them with: scancel {' '.join(jobs)}", file=sys.stderr)
        raise
    update_experiment_note(plan.directory)
    return code or print_summary(Study(plan, build(cfg.sweep)), cfg)


def _slurm_jobs(cfg: DictConfig) -> list[str]:
    """Return the IDs of the Slurm jobs whose workers continue after the end of this process."""
    if launcher_kind(cfg.hydra.launcher) is not LauncherKind.SUBMITIT_SLURM:
        return []
    from hydratune.sweep import slurm  # imports submitit, which may not be installed

    return slurm.job_ids()


def _corners(plan: Plan) -> Iterator[DictConfig]:
    """Yield configs that together contain each choice, and both ends of each range, at least once.

    Raises:
        ConfigError: A file, not one of the keys that were `typed`, places a store elsewhere.
    """
    for point in plan.space.corners():
        with composition.composer(plan.request):
            yield checked_job(plan, plan.job(point, plan.replicates[0]))


def _missing_parents(path: Path) -> list[Path]:
    """Return the parent directories that do not exist, the lowest first."""
    return [folder for folder in path.parents if not folder.exists()]


def _unwritable(key: str, path: Path, error: OSError) -> ConfigError:
    text = f"cannot create the directory {str(path)!r}: {error.strerror or error}"
    return ConfigError(Problem(key, text, f"set {KEY} to a writable directory"))


def checked(request: Request, *, is_own_project: bool = True) -> DictConfig:
    """Return the config of a run after all checks.

    Args:
        request: The command.
        is_own_project: Whether the user chose the data files, also if they did not type them now.
    """
    wrong = list(composition.check_choices(request))
    problems = [problem for _, problem in wrong]
    problems += [*composition.check_single(request), *result_links()]
    invalid = {text for text, _ in wrong}
    valid_request = replace(request, overrides=tuple(o for o in request.overrides if o not in invalid))
    jobs = composition.expand_multirun(valid_request)
    configs = [composition.compose_config(request, overrides) for overrides in jobs]
    unreliable = tuple(f"{problem.key}." for problem in problems)  # these nodes are not what the user intended
    for cfg in configs:
        try:
            check_config(cfg)
        except ConfigError as error:
            problems += [problem for problem in error.problems if not problem.key.startswith(unreliable)]
        else:  # the directory's name contains valid values only
            problems += hydra_guard.place(cfg.hydra, "run.dir", request.sets("hydra.run.dir"))
            typed_keys = request.typed_keys
            trusted_keys = _trusted_keys(request) if is_own_project else typed_keys
            problems += user_settings.problems(cfg, typed_keys, trusted_keys)
            if not is_own_project:
                problems += user_settings.data_files(cfg, typed_keys)
                user_settings.restrict_images(cfg, typed_keys)
    if problems := problems or [*slurm.check_tasks(*machines(configs[0]))]:
        raise ConfigError(*dict.fromkeys(problems))  # two settings can lead through the same link
    return configs[0]


def _trusted_keys(request: Request) -> list[str]:
    """Return the keys that the user typed now or when they started the run; only those of now if another may have.

    Someone else's run can name the current directory, too, so what it may not set must have been typed before.
    """
    texts = tuple(typed_settings.unrecorded(request.overrides[: request.stored]))
    if typed_settings.are_limited(texts, replace(request, overrides=texts, stored=0).typed_keys):
        return request.typed_keys
    return replace(request, stored=0).typed_keys


def run_job(cfg: DictConfig, checkpoint: Checkpoint | None) -> None:
    """Run one job inside Hydra."""
    apply_verbosity()
    job = hydra_job()
    job = replace(job, check_rows=row_check(job.directory), retrains=trial_of(job.directory), checkpoint=checkpoint)
    directory = os.path.relpath(run_directory(cfg, job.directory))
    log.info("run: %s", directory)
    try:
        result = launch(cfg, job, "hydratune.cli._rank") if is_distributed(cfg) else run(cfg, job)
    except ConfigError:
        raise
    except (KeyboardInterrupt, SystemExit):
        print_line(f"resume with: {resume_command(cfg, job.directory)}")
        raise
    except NotFiniteError as error:
        log.error("\n  hint: ".join([error.problem.message, *error.problem.hints]))
        raise RunFailedError from error
    except MachineLostError as error:
        log.error("%s", error)
        print_line(f"resume with: {resume_command(cfg, job.directory)}")
        raise RunFailedError from error
    except Exception as error:
        signals.raise_pending()  # a library raised an error after the signal
        log.exception("run failed: its files are in %s", directory)
        if hint := oom_hint(error, job.directory):
            log.error("%s", hint)
        if job.directory.exists():
            print_line(f"resume with: {resume_command(cfg, job.directory)}")
        raise RunFailedError from error
    show(result, cfg)
    if not (result.pushed and result.tracked):
        raise RunFailedError
