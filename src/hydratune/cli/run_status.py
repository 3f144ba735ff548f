"""State and score of the runs on this machine, from their directories alone: no MLflow store is opened."""

from __future__ import annotations

import fcntl
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hydratune.tracking.delivery import pointer
from hydratune.tracking.journal import Journal, recorded_name
from hydratune.tracking.mlflow import STATE
from hydratune.tracking.run_directories import start_time
from hydratune.utils import process
from hydratune.utils.files import CONFIG, LOCK, METRICS
from hydratune.utils.stored_files import open_stored
from hydratune.utils.yaml_files import parse_yaml

FINISHED, RUNNING, FAILED, INTERRUPTED, PRUNED = "finished", "running", "failed", "interrupted", "pruned"
_STATES = {"FINISHED": FINISHED, "FAILED": FAILED, "KILLED": INTERRUPTED}  # MLflow's status -> state


@dataclass(frozen=True)
class RunStatus:
    """State of a run.

    Args:
        directory: Run directory.
        name: Name of the run's config, e.g. `digits`; empty if it cannot be read.
        state: `finished`, `running`, `failed`, `interrupted`, or, for trials of sweeps, `pruned`.
        objective: Name of the metric that the run optimizes, e.g. `eval_accuracy`.
        score: Its value at the best checkpoint; None unless the run is finished.
        started: Start of the run, in seconds since 1970.
        run_id: ID of the MLflow run; empty without one.
        run_name: Name of the MLflow run when it started; empty if it was not tracked.
    """

    directory: Path
    name: str
    state: str
    objective: str
    score: float | None
    started: float
    run_id: str
    run_name: str


def run_status(directory: Path) -> RunStatus:
    """Return the state of the run in a directory; what cannot be read there is left empty."""
    config, metrics = _load(directory / CONFIG, parse_yaml), _load(directory / METRICS, json.loads)
    # Texts only: the text of nested lists that a file repeats by aliases could be longer than the memory.
    name, objective = (value if isinstance(value := config.get(key), str) else "" for key in ("name", "objective"))
    score = metrics.get(objective)
    return RunStatus(
        directory=directory,
        name=name,
        state=FINISHED if metrics else _state(directory),
        objective=objective,
        score=float(score) if isinstance(score, int | float) else None,
        started=start_time(directory),
        run_id=(pointer(directory) or {}).get("run_id", ""),
        run_name=recorded_name(directory),
    )


def format_age(seconds: float) -> str:
    """Return a duration in its largest unit, e.g. `3 h`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _state(directory: Path) -> str:
    """Return the state of a run without metrics; one that was killed has recorded no end.

    A process locks the directory of its run, but not those of trials, whose journals name the process.
    """
    if _is_locked(directory / LOCK):
        return RUNNING
    state, has_ended, tags = INTERRUPTED, False, dict[str, str]()
    try:
        entries = [*Journal(directory).entries(0)]
    except OSError:  # the journal of another user
        return INTERRUPTED
    for entry in entries:
        tags |= entry.values["tags"] if entry.kind in ("run", "continue", "tags") else {}
        if entry.kind in ("run", "continue", "status"):
            has_ended = entry.kind == "status"
            state = _STATES.get(entry.values["status"], INTERRUPTED) if has_ended else INTERRUPTED
    if state == INTERRUPTED and tags.get(STATE) == "PRUNED":
        return PRUNED
    has_process = not (directory / LOCK).exists() and process.PROCESS in tags and not process.is_gone(tags)
    return RUNNING if has_process and not has_ended else state


def _is_locked(path: Path) -> bool:
    """Return whether a process works in the directory of a lock file."""
    with suppress(OSError), open_stored(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _load(path: Path, parse: Any) -> dict[str, Any]:
    """Return the content of a file; empty if the file is missing or invalid."""
    try:
        with open_stored(path) as file:
            content = parse(file.read().decode("utf-8"))
    except (OSError, RecursionError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
