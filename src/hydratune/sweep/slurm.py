"""Workers on Slurm: the queue of their jobs, and requests that sbatch rejects."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator
from subprocess import CalledProcessError
from typing import Any

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from hydratune.utils.errors import Problem, one_line

_EVERY = 30  # seconds between two calls of squeue
_TOO_LARGE = (
    "lower hydra.launcher.gpus_per_node, cpus_per_task, mem_gb, or nodes\n"
    "sinfo --format='%P %D %G %c %m' lists the nodes, GPUs, CPUs, and memory (MB) of each partition"
)
_HINTS = {
    "node configuration": _TOO_LARGE,
    "partition": "sinfo lists the partitions",
    "account": "sacctmgr show associations lists your accounts",
    "time limit": "lower hydra.launcher.timeout_min",
}


class Queue(SlurmInfoWatcher):
    """Watcher that takes a job to have ended once `squeue` no longer lists it.

    Submitit asks `sacct` at growing intervals of up to ten minutes. Without a database for accounting, `sacct` fails,
    and submitit never learns that a job was canceled or that its node failed.
    """

    def _make_command(self) -> list[str] | None:
        return ["squeue", "--me", "--array", "--noheader", "--format=%i"] if self.unfinished() else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Return job ID -> state of all jobs that were submitted, from the output of squeue."""
        listed = set((string.decode() if isinstance(string, bytes) else string).split())
        return {job: {"State": "RUNNING" if job in listed else "ENDED"} for job in self._registered}

    def unfinished(self) -> set[str]:
        """Return the jobs that were in the queue at the last call."""
        return self._registered - self._finished


def unfinished() -> int:
    """Return the number of jobs of this process in the queue; submitit watches them through `Queue` from now on."""
    if not isinstance(SlurmJob.watcher, Queue):
        SlurmJob.watcher = Queue(delay_s=_EVERY)
    SlurmJob.watcher.update_if_long_enough("standard")
    return len(SlurmJob.watcher.unfinished())


def job_ids() -> list[str]:
    """Return the IDs of the jobs and job arrays of this process that were in the queue at the last call of squeue."""
    queue = SlurmJob.watcher
    return sorted({job.partition("_")[0] for job in queue.unfinished()}) if isinstance(queue, Queue) else []


def unavailable() -> Problem | None:
    """Return an error if this machine has no Slurm commands."""
    if shutil.which("sbatch"):
        return None
    text = "Slurm is not available on this machine: there is no sbatch on the PATH"
    hint = "start the sweep on a login node of the cluster, or set hydra/launcher=joblib"
    return Problem("hydra/launcher", text, hint)


def rejection(error: Exception) -> Problem | None:
    """Return the error of a request that sbatch rejected, or None for other exceptions."""
    cause = error.__cause__
    if not isinstance(cause, CalledProcessError) or cause.cmd[0] != "sbatch":
        return None
    message = one_line(error)
    hint = next((hint for word, hint in _HINTS.items() if word in message.lower()), "check the keys of hydra.launcher")
    return Problem("hydra.launcher", f"sbatch rejected the job: {message}", hint)


@contextlib.contextmanager
def without_copies() -> Iterator[None]:
    """Suppress the output of submitit about a rejection, which `rejection` reports as an error."""
    with contextlib.redirect_stderr(_WithoutSbatch(sys.stderr)):
        yield


class _WithoutSbatch(io.TextIOBase):
    """Stream that drops lines of sbatch; `print` writes a line and its end separately."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._drops_end = stream, False

    def write(self, text: str) -> int:
        if text.startswith("sbatch: ") or (self._drops_end and text == "\n"):
            self._drops_end = text != "\n"
            return len(text)
        self._drops_end = False
        return int(self._stream.write(text))

    def flush(self) -> None:
        self._stream.flush()
