"""Identity of a run's process, so that MLflow learns when the process is gone."""

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
_STARTED = 19  # index among the fields of /proc/PID/stat after the name: start time, in ticks since boot


def tags() -> dict[str, str]:
    """Return tags with this process's host, ID, and start time, because process IDs are reused."""
    return {HOST: socket.gethostname(), PROCESS: f"{os.getpid()} {start_time(os.getpid())}"}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Return whether the process that wrote these tags ran on this host and has ended; False if that is unknown."""
    pid, _, began = tags.get(PROCESS, "").partition(" ")
    if not is_here(tags) or not pid.isdecimal() or not began:
        return False
    return start_time(int(pid)) != began


def is_here(tags: Mapping[str, str]) -> bool:
    """Return whether the process that wrote these tags ran on this host."""
    return tags.get(HOST) == socket.gethostname()


def mark_dead_runs_killed(client: MlflowClient) -> list[Any]:
    """Mark runs as KILLED that are RUNNING in the store but whose process is gone; return them."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    dead = [run for run in running if is_gone(run.data.tags)]
    for run in dead:
        client.set_tag(run.info.run_id, HEALED, "its process ended without recording a status (kill -9, a reboot)")
        client.set_terminated(run.info.run_id, "KILLED")
    return dead


def start_time(pid: int) -> str:
    """Return the start time of a process; empty if the process does not exist or is a zombie.

    psutil counts from 1970 by the current clock, so setting the clock would change the start times of older processes.
    On Linux, the result is therefore the time since boot and the ID of the boot.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        with suppress(OSError):
            fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            return f"{fields[_STARTED]}@{(_PROC / 'sys/kernel/random/boot_id').read_text().strip()}"
        return f"{process.create_time():.0f}"
    except psutil.Error:
        return ""
