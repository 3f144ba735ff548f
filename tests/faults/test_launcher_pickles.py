"""Pickles that came with the directory of a sweep are not loaded by the launchers that start its workers."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest

from hydratune.sweep import controller

submitit = pytest.importorskip("submitit", reason="submitit is not installed")
JOB = 4242


class Evil:
    """Unpickled, it creates the directory `canary`."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["CANARY"],))


@pytest.fixture
def canary(own_directory, monkeypatch):
    """A directory that exists once a pickle was loaded, which lies where submitit looks for those of job 4242."""
    from submitit.local import local

    monkeypatch.setenv("CANARY", str(own_directory / "canary"))

    def start(*_, **__):
        for name in (f"{JOB}_0_result.pkl", f"{JOB}_submitted.pkl"):
            path = own_directory / "s" / ".submitit" / str(JOB) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(Evil()))
        return SimpleNamespace(pid=JOB, poll=lambda: 0)  # it ends at once, without a result of its own

    monkeypatch.setattr(local, "start_controller", start)
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)
    return own_directory / "canary"


SWEEP = ["hydra/launcher=submitit_local", "trainer.args.weight_decay=0,0.1"]


def test_result_of_someone_else_is_not_loaded(sweep, canary):
    """A worker that ends without a result has none."""
    assert sweep(*SWEEP)[0] == 1
    assert not canary.exists()


def test_result_of_someone_else_would_run(sweep, canary, monkeypatch):
    """Positive control: submitit loads what lies in the folder of a config."""
    monkeypatch.setattr(controller, "with_own_folder", lambda cfg: cfg)
    sweep(*SWEEP)
    assert canary.exists()


@pytest.mark.parametrize("folder", ["multirun/x/.submitit/%j", "multirun/x/jobs", "multirun/x/%A/%a"])
def test_folder_of_a_launcher_is_new(compose, folder):
    """Every start of workers has a folder of its own, which is the same for all of its jobs."""
    options = [
        "hydra/launcher=submitit_slurm",
        "hydra.sweep.dir=multirun/x",
        f"hydra.launcher.submitit_folder='{folder}'",
    ]
    cfg = compose(*options)
    one, other = (Path(controller.with_own_folder(cfg).hydra.launcher.submitit_folder) for _ in range(2))
    assert one != other
    shared = Path(submitit.core.utils.JobPaths.get_first_id_independent_folder(one))
    assert shared.parent == Path(submitit.core.utils.JobPaths.get_first_id_independent_folder(folder))
    assert cfg.hydra.launcher.submitit_folder == folder
