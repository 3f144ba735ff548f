"""A sweep on Slurm, whose commands are fakes here; tests/engines/test_slurm_sweeps.py has a real cluster."""

import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fake_sweep import fake_study
from hydratune.sweep import worker
from hydratune.sweep.controller import sqlite_warning
from hydratune.sweep.study import Study
from hydratune.utils.errors import ConfigError

slurm = pytest.importorskip("hydratune.sweep.slurm", reason="submitit is not installed")
from submitit.core.utils import DelayedSubmission, JobPaths  # noqa: E402 (after the check that it is installed)
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJobEnvironment  # noqa: E402


@pytest.fixture
def commands(own_directory, monkeypatch):
    """Return a function that puts fakes of Slurm's commands, shell scripts, on an otherwise empty PATH."""
    folder = own_directory / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def fake(**scripts):
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    return fake


@pytest.fixture
def queue():
    """A watcher of three jobs: two of an array, and one."""
    watcher = slurm.Queue()
    for job in ("7_0", "7_1", "8"):
        watcher.register_job(job)
    return watcher


def test_queue_takes_jobs_that_are_not_listed_to_have_ended(queue, commands):
    """Whether they were canceled, failed, or are done."""
    commands(squeue="echo 7_1")
    assert [queue.is_done(job, mode="force") for job in ("7_0", "7_1", "8")] == [True, False, True]
    assert queue.unfinished() == {"7_1"}


def test_jobs_to_cancel_are_those_in_the_queue(queue, commands, monkeypatch):
    """One ID for a job array; none before the first submission, when the watcher is submitit's own."""
    monkeypatch.setattr(slurm.SlurmJob, "watcher", SlurmInfoWatcher())
    assert slurm.job_ids() == []
    monkeypatch.setattr(slurm.SlurmJob, "watcher", queue)
    assert slurm.job_ids() == ["7", "8"]
    commands(squeue="echo 7_1")
    queue.update()
    assert slurm.job_ids() == ["7"]


def test_queue_keeps_jobs_while_slurm_does_not_answer(queue, commands):
    """A controller that is down says nothing about jobs."""
    commands(squeue="exit 1")
    assert not any(queue.is_done(job, mode="force") for job in ("7_0", "7_1", "8"))


def test_queue_calls_slurm_only_for_unfinished_jobs(queue, commands):
    """Once all have ended, the queue of the cluster is left alone."""
    commands(squeue="echo >>calls")
    queue.update()
    queue.update()
    assert len(Path("calls").read_text().splitlines()) == 1


def test_a_request_that_sbatch_rejects_is_an_error_of_the_user(sweep, commands, own_directory, capsys):
    """It names the launcher, is reported once, and leaves nothing."""
    message = "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    commands(srun="", squeue="", sbatch=f"echo '{message}' >&2; exit 1")
    with pytest.raises(ConfigError) as caught:
        sweep("hydra/launcher=submitit_slurm", "trainer.args.weight_decay=0,0.1")
    (problem,) = caught.value.problems
    assert problem.key == "hydra.launcher"
    assert message in problem.message
    assert all(key in problem.hint for key in ("gpus_per_node", "cpus_per_task", "mem_gb"))
    assert message not in capsys.readouterr().err
    assert not (own_directory / "s").exists()


def test_a_machine_without_slurm_is_an_error_of_the_user(sweep, commands):
    """A sweep whose launcher is Slurm's needs its commands."""
    commands()
    with pytest.raises(ConfigError) as caught:
        sweep("hydra/launcher=submitit_slurm", "trainer.args.weight_decay=0,0.1")
    assert [problem.key for problem in caught.value.problems] == ["hydra/launcher"]


@pytest.mark.usefixtures("handled_signals")
def test_worker_that_submitit_does_not_requeue_was_preempted(toy, compose, monkeypatch):
    """Too many timeouts are neither an error of the worker nor a failure of its trial: the parent replaces it."""
    fake_study([*toy, "trainer.args.weight_decay=0,0.1", "hydra.sweep.dir=s"])

    def refuse(*_):
        raise RuntimeError("Job not requeued because: timed-out too many times.")

    monkeypatch.setattr(Study, "claim", lambda _: signal.raise_signal(signal.SIGUSR2))
    signal.signal(signal.SIGUSR2, refuse)  # as submitit does before it starts the worker
    cfg = compose("hydra/launcher=submitit_slurm", "+hydra.job.num=0", f"hydra.sweep.dir={Path('s').resolve()}")
    assert worker.work(cfg) == worker.PREEMPTED


class Worker:
    """A function that submitit can start again."""

    def __call__(self):
        """Do nothing."""

    def checkpoint(self):
        """Return what the job does when it starts again."""
        return DelayedSubmission(self)


@pytest.mark.usefixtures("handled_signals")
@pytest.mark.parametrize("most", [0, 1])
def test_job_at_its_time_limit_is_requeued_up_to_max_num_timeout_times(toy, compose, commands, monkeypatch, most):
    """With submitit's own handler of SIGUSR2; otherwise, the parent of the sweep replaces the worker."""
    fake_study([*toy, "trainer.args.weight_decay=0,0.1", "hydra.sweep.dir=s"])
    monkeypatch.setattr(Study, "claim", lambda _: signal.raise_signal(signal.SIGUSR2))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    commands(scontrol='echo "$@" >>calls')
    submission = DelayedSubmission(Worker())
    submission.set_timeout(0, most)  # minutes, and the number of restarts
    SlurmJobEnvironment()._handle_signals(JobPaths(Path("s").resolve(), "7"), submission)
    cfg = compose("hydra/launcher=submitit_slurm", "+hydra.job.num=0", f"hydra.sweep.dir={Path('s').resolve()}")
    if most:
        with pytest.raises(SystemExit):
            worker.work(cfg)
        assert Path("calls").read_text() == "requeue 7\n"
    else:
        assert worker.work(cfg) == worker.PREEMPTED
        assert not Path("calls").exists()


@pytest.mark.parametrize(
    ("url", "launcher", "nodes", "warns"),
    [
        ("sqlite:////a/study.db", "SlurmLauncher", "1", True),
        ("sqlite:////a/study.db", "BasicLauncher", "2", True),
        ("sqlite:////a/study.db", "RayLauncher", "1", True),
        ("sqlite:////a/study.db", "JoblibLauncher", "1", False),
        ("postgresql://host/db", "SlurmLauncher", "2", False),
    ],
)
def test_sqlite_warning_names_several_machines(monkeypatch, url, launcher, nodes, warns):
    """SQLite's locks fail on many network file systems; PostgreSQL, and one machine, are no reason to warn."""
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", nodes)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    launchers = {"_target_": f"x.{launcher}", "ray": {"init": {"address": "host:6379"}}}
    cfg = OmegaConf.create({"hydra": {"launcher": launchers}})
    assert bool(sqlite_warning(url, cfg)) == warns
