"""Directories of the runs and sweeps on this machine, and commands that take them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from hydratune.utils.errors import Problem
from hydratune.utils.files import CONFIG, LOCK, METRICS, OVERRIDES, PLAN, not_a_run
from hydratune.utils.provenance import cli_path

BEST = "best"  # directory of the retrained trials, in that of the sweep


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Return the directories of the runs in and below some folders, trials of sweeps included, the newest first."""
    directories = {directory for folder in folders for directory in _walk(Path(folder))}
    return sorted(directories, key=start_time, reverse=True)


def _walk(root: Path) -> Iterator[Path]:
    """Yield the directories of runs; `.hydra/` and MLflow's artifacts have some files of a run, but are not one."""
    for folder, subfolders, names in os.walk(root):
        directory = Path(folder)
        is_trial = {CONFIG, OVERRIDES} <= {*names} and is_in_sweep(directory)
        if (LOCK in names and ".hydra" in subfolders) or is_trial:
            yield directory
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]


def is_in_sweep(directory: Path) -> bool:
    """Return whether a directory is that of a trial: that of a sweep is one level above, or two with several seeds."""
    return any((parent / PLAN).is_file() for parent in directory.absolute().parents[:2])


def sweep_of(directory: Path) -> Path | None:
    """Return the directory of the sweep that a directory is, or has a trial of; None for other directories."""
    folders = (directory, *directory.absolute().parents[:2])
    return next((folder for folder in folders if (folder / PLAN).is_file()), None)


def unfinished_run(directory: Path, missing: Sequence[str]) -> Problem:
    """Return the error for a directory that lacks files of a finished run with a model; trials save no model."""
    if CONFIG in missing:
        return not_a_run(directory, *missing)
    sweep = sweep_of(directory)
    if METRICS in missing or sweep is None:
        return Problem("RUN", f"the run {str(directory)!r} has not finished: it has no {', '.join(missing)}")
    text = f"the run {str(directory)!r} is a trial of a sweep, which saves no model"
    return Problem("RUN", text, f"retrain the best trial and save its model: {finish_command(sweep)}")


def finish_command(sweep: Path, trial: int | str | None = None) -> str:
    """Return the command that retrains and tests a trial of a sweep.

    Args:
        sweep: Directory of the sweep.
        trial: Number of the trial, or name of its directory; None for the best trial.
    """
    flags = [] if trial is None else ["--trial", str(trial)]
    return shlex.join([cli_path(), "sweep", "finish", os.path.relpath(sweep), *flags])


def retrainings(sweep: Path, number: int | str) -> str:
    """Return the retrainings of a trial as a shell pattern, which `compare` takes once they are finished."""
    return f"{shlex.quote(os.path.relpath(sweep / BEST / f'trial={number}'))}/*"


def retrained(sweep: Path, number: int | str) -> list[Path]:
    """Return the directories of the finished retrainings of a trial.

    Args:
        sweep: Directory of the sweep.
        number: Number of the trial.
    """
    return sorted(path.parent for path in sweep.glob(f"{BEST}/trial={number}/seed=*/{METRICS}"))


def start_time(directory: Path) -> float:
    """Return when the run or sweep in a directory began, in seconds since 1970; 0 if that cannot be read.

    The lock file of a run never changes. A trial has none, but writes its overrides when it starts; a sweep writes its
    plan.
    """
    for name in (LOCK, OVERRIDES, PLAN):
        with suppress(OSError):
            return (directory / name).stat().st_mtime
    return 0.0
