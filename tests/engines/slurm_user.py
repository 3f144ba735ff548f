"""A user of the Slurm cluster, with a project directory; for the tests of jobs and of sweeps."""

from __future__ import annotations

import stat
from pathlib import Path

from conftest import toy_rows, write_rows
from engines.slurm_cluster import Cluster
from processes import HYDRATUNE

PAGE = "slurm.md"
STEP = 3  # at whose end a run waits for a signal
_HERE = Path(__file__).parent
_PYTHONPATH = f"{_HERE}:{_HERE / 'preloading'}:{_HERE.parent}"


class User:
    """A user with a project directory, whose `hydratune` trains a tiny model on a few rows.

    Attributes:
        directory: Where the user works.
        waiting: Has a file as soon as a run waits for a signal.
    """

    def __init__(self, cluster: Cluster | None, directory: Path, model: Path) -> None:
        self._cluster, self.directory = cluster, directory
        self.waiting = directory / "waiting"
        self.overrides = [
            *("dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test"))),
            *("model=pretrained", f"model.pretrained_model_name_or_path={model}", "tracking=none"),
            *("hardware.device=cpu", "hardware.threads=1", "hardware.precision=fp32"),
            *("trainer.args.max_steps=8", "trainer.args.learning_rate=0.02", "trainer.args.save_total_limit=3"),
        ]
        for split, rows in toy_rows().items():
            write_rows(directory / f"{split}.jsonl", rows)

    @property
    def cluster(self) -> Cluster:
        """Return the cluster; a user without one only trains for comparison."""
        assert self._cluster
        return self._cluster

    def installs(self, *overrides: str, waits: bool = True) -> Path:
        """Put a `hydratune` on the PATH that adds overrides to the command, and return its folder."""
        more = [*self.overrides, *overrides, *([self.waits()] if waits else [])]
        program = self.directory / "bin" / "hydratune"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/bash\nexec {HYDRATUNE} "$@" {" ".join(f"{word!r}" for word in more)}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program.parent

    def waits(self, step: int = STEP, most: int = 1) -> str:
        """Return the override that makes runs wait for a signal."""
        return f"+trainer.callbacks.wait={{_target_: waiting.WaitForSignal, folder: '{self.waiting}', step: {step}, most: {most}}}"

    def submits(self, script: str, *options: str) -> str:
        """Submit a script and return the ID of its job."""
        path = self.directory / "job.sh"
        path.write_text(script)
        places = [f"--chdir={self.directory}", f"--output={self.directory}/log"]
        return self.cluster.run("sbatch", "--parsable", *places, *options, str(path), environment=self.environment())

    def environment(self) -> dict[str, str]:
        """Return the variables of the user's shell."""
        path = f"{self.directory}/bin:{self.cluster.environment['PATH']}"
        own = {"PATH": path, "PYTHONPATH": _PYTHONPATH, "HYDRATUNE_ALLOW": "waiting.WaitForSignal"}
        return {**self.cluster.environment, **own}

    def log(self) -> str:
        """Return what the job has printed."""
        return (self.directory / "log").read_text()
