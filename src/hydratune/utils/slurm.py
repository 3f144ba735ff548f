"""The Slurm job that this process runs in: its ID, its restarts, and its tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hydratune.utils.errors import KEY, Problem, invalid_value


def job_id() -> str | None:
    """Return the ID of the job, which it keeps when Slurm requeues it; None outside Slurm."""
    return os.environ.get("SLURM_JOB_ID")


def restarts() -> int:
    """Return how often Slurm has requeued and restarted the job."""
    return _number("SLURM_RESTART_COUNT") if job_id() else 0


def nodes() -> int:
    """Return the number of nodes of the job step that this process is a task of; 1 outside a step."""
    return _number("SLURM_STEP_NUM_NODES", 1)


def check_tasks(nnodes: int, node_rank: int) -> Iterator[Problem]:
    """Yield an error if the tasks of a job step would each train a copy of the same run.

    `srun --ntasks=2 hydratune ...` starts the command twice. That is correct only if each task is one machine of the
    run, with its own number.

    Args:
        nnodes: Number of machines of the run.
        node_rank: Number of this machine, from 0.
    """
    tasks, task = _number("SLURM_STEP_NUM_TASKS", 1), _number("SLURM_PROCID")  # only srun sets the first one
    if nnodes < tasks:
        hints = (
            "start one task with srun --ntasks=1",
            "or make each task a machine of one run: hardware=ddp hardware.launch.nnodes=$SLURM_STEP_NUM_TASKS "
            "hardware.launch.node_rank=$SLURM_PROCID hardware.launch.rdzv_endpoint=HOST:29500",
            "or start one job step for each run, if they are different runs",
        )
        text = f"each of the {tasks} tasks of this Slurm step would train the same run on {nnodes} machine"
        yield Problem("SLURM_STEP_NUM_TASKS", text + "s" * (nnodes > 1), "\n".join(hints))
    elif nnodes == tasks > 1 and node_rank != task:
        hint = f"set {KEY}=$SLURM_PROCID in single quotes: srun bash -c 'hydratune ...'"
        yield invalid_value("hardware.launch.node_rank", f"{task}, the number of this Slurm task", node_rank, hint)


def _number(name: str, default: int = 0) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default
