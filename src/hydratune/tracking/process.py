"""Which process a run is, so that MLflow is told when it is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

HOST, PROCESS = "hydratune.host", "hydratune.process"
HEALED = "hydratune.healed"
_CLOCK = 5  # seconds by which a clock that is set may move the begin of a process


def tags() -> dict[str, str]:
    """This process: its host, its number and when it began, since numbers are used again."""
    return {HOST: socket.gethostname(), PROCESS: f"{os.getpid()} {_began(os.getpid()):.0f}"}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote these tags ran on this host and has ended; False where that can't be known."""
    number, _, began = tags.get(PROCESS, "").partition(" ")
    if not is_here(tags) or not number.isdecimal() or not began.isdecimal():
        return False
    return abs(_began(int(number)) - int(began)) > _CLOCK


def is_here(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote these tags ran on this host."""
    return tags.get(HOST) == socket.gethostname()


def heal(client: MlflowClient) -> list[Any]:
    """Marks runs KILLED that are RUNNING by the store and whose process is gone; returns them."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
    dead = [run for run in running if is_gone(run.data.tags)]
    for run in dead:
        client.set_tag(run.info.run_id, HEALED, "its process ended without a word (kill -9, a reboot)")
        client.set_terminated(run.info.run_id, "KILLED")
    return dead


def _began(number: int) -> float:
    """When a process began, in seconds since 1970; 0 where there is none, or nothing of it but its exit code."""
    import psutil

    try:
        process = psutil.Process(number)
        return 0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0
