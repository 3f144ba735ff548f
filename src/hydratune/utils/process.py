"""Which process a run is, so that MLflow is told when it is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOST, PROCESS = "hydratune.host", "hydratune.process"
HEALED = "hydratune.healed"
_PROC = Path("/proc")
_STARTED = 19  # of the fields of /proc/PID/stat behind the name: ticks since the machine was started


def tags() -> dict[str, str]:
    """This process: its host, its number and when it began, since numbers are used again."""
    return {HOST: socket.gethostname(), PROCESS: f"{os.getpid()} {_began(os.getpid())}"}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote these tags ran on this host and has ended; False where that can't be known."""
    number, _, began = tags.get(PROCESS, "").partition(" ")
    if not is_here(tags) or not number.isdecimal() or not began:
        return False
    return _began(int(number)) != began


def is_here(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote these tags ran on this host."""
    return tags.get(HOST) == socket.gethostname()


def mark_dead_runs_killed(client: MlflowClient) -> list[Any]:
    """Marks runs KILLED that are RUNNING by the store and whose process is gone; returns them."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    dead = [run for run in running if is_gone(run.data.tags)]
    for run in dead:
        client.set_tag(run.info.run_id, HEALED, "its process ended without a word (kill -9, a reboot)")
        client.set_terminated(run.info.run_id, "KILLED")
    return dead


def _began(number: int) -> str:
    """When a process began; nothing where there is none, or nothing of it but its exit code.

    psutil counts from 1970, with the clock of now: setting it would make another process of each that is older. So on
    Linux it is the time since the machine was started, and which start of the machine that was.
    """
    import psutil

    try:
        process = psutil.Process(number)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        with suppress(OSError):
            fields = (_PROC / str(number) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            return f"{fields[_STARTED]}@{(_PROC / 'sys/kernel/random/boot_id').read_text().strip()}"
        return f"{process.create_time():.0f}"
    except psutil.Error:
        return ""
