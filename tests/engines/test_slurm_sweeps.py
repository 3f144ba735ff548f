"""A sweep on a real Slurm cluster: the command of docs/slurm.md, and workers that are preempted or canceled."""

import pytest

import processes
from engines.pages import scripts, typed
from engines.slurm_cluster import missing, temporary, wait_until
from engines.slurm_user import PAGE, User
from real_sweeps import studies

REASON = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture(scope="module")
def user(tiny_model, tmp_path_factory):
    """Return a function that makes a user of the cluster."""
    with temporary() as cluster:
        yield lambda: User(cluster, tmp_path_factory.mktemp("user"), tiny_model)


@pytest.fixture
def sweeps(user):
    """Return a user, and a function that starts the page's sweep with more overrides."""
    one = user()

    def start(*overrides):
        variables = {"SWEEP_STORAGE": f"sqlite:///{one.directory}/study.db", **one.environment()}
        (words,) = typed(scripts(PAGE)["Sweeps"], "hydratune", **variables).calls
        return processes.start(*words, *one.overrides, *overrides, cwd=one.directory, **variables)

    return one, start


def test_sweep_of_preempted_and_canceled_workers(sweeps):
    """Neither SIGUSR2, which submitit asks for, nor `scancel` costs a trial a failure; the trials end elsewhere."""
    user, start = sweeps
    with start(user.waits(most=2), "sweep.max_retries=0") as process:
        wait_until(lambda: process.poll() is not None or len(list(user.waiting.glob("*"))) == 2)
        workers = user.cluster.run("squeue", "--array", "--noheader", "--format=%i").split()
        user.cluster.run("scancel", "--signal=USR2", next(job for job in workers if job.endswith("_0")))
        user.cluster.run("scancel", next(job for job in workers if job.endswith("_1")))
        said = process.communicate()
    assert process.returncode == 0, said
    (study,) = studies(f"sqlite:///{user.directory}/study.db")
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert not any(trial.user_attrs.get("failures") for trial in trials)
    assert [trial.user_attrs["interruptions"] for trial in trials] == [1, 1]


def test_sweep_that_asks_for_missing_gpus(sweeps):
    """What sbatch says is the one error, and nothing is left."""
    user, start = sweeps
    with start("hydra.launcher.gpus_per_node=8") as process:
        said = process.communicate()[1]
    assert process.returncode == 2, said
    assert said.count("sbatch: error") == 1
    assert not (user.directory / "multirun").exists()


def test_queue_notices_canceled_jobs(user, monkeypatch):
    """Without accounting, `squeue` tells which jobs of an array are left."""
    slurm = pytest.importorskip("hydratune.sweep.slurm", reason="submitit is not installed")
    one = user()
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, one.cluster.environment[name])
    array = one.submits("#!/bin/bash\nsleep 1000\n", "--array=0-1")
    queue = slurm.Queue()
    for number in range(2):
        queue.register_job(f"{array}_{number}")
    assert not any(queue.is_done(f"{array}_{number}", mode="force") for number in range(2))
    one.cluster.run("scancel", f"{array}_0")
    wait_until(lambda: queue.is_done(f"{array}_0", mode="force"))
    assert not queue.is_done(f"{array}_1", mode="force")
    one.cluster.run("scancel", array)
