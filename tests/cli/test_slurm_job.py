"""What a command does in a Slurm job; tests/engines/test_slurm.py runs real ones."""

from types import SimpleNamespace

import pytest

from hydratune.cli.main import dispatch
from hydratune.training.results import RunResult
from hydratune.utils import slurm
from hydratune.utils.errors import ConfigError


@pytest.fixture
def job(monkeypatch):
    """Set the environment of a job, and return a function that sets more of it."""

    def set_environment(**environment):
        for name, value in {"SLURM_JOB_ID": "7", **environment}.items():
            monkeypatch.setenv(name, value)

    return set_environment


@pytest.fixture
def started(toy, monkeypatch):
    """Return a function that starts a run, which Hydra prepares, and returns its directory; nothing is trained."""
    directories = []

    def train(_, job):
        directories.append(job.directory)
        return RunResult(0.5, {}, job.directory, None)

    def start(*overrides):
        dispatch([*toy, "name=x", "tracking=none", *overrides])
        return directories[-1]

    monkeypatch.setattr("hydratune.cli.train.run", train)
    monkeypatch.setattr(
        "hydratune.cli.train.preflight", lambda configs, *_, **__: SimpleNamespace(checkpoint=[*configs] and None)
    )
    return start


@pytest.mark.parametrize(
    ("tasks", "task", "machines", "key"),
    [
        ("2", "1", (1, 0), "SLURM_STEP_NUM_TASKS"),  # srun -n2 hydratune
        ("4", "3", (2, 1), "SLURM_STEP_NUM_TASKS"),  # two tasks on each of two machines
        ("2", "1", (2, 0), "hardware.launch.node_rank"),  # $SLURM_PROCID was replaced in the batch script
        ("2", "1", (2, 1), None),
        ("1", "0", (1, 0), None),
        ("1", "0", (2, 1), None),  # one job step for each machine
    ],
)
def test_check_tasks_refuses_copies_of_a_run(job, tasks, task, machines, key):
    """Each task of a step must be one machine of the run, with its own number."""
    job(SLURM_STEP_NUM_TASKS=tasks, SLURM_PROCID=task)
    assert [problem.key for problem in slurm.check_tasks(*machines)] == ([key] if key else [])


def test_check_tasks_accepts_a_batch_script_of_several_tasks(job):
    """Without `srun`, the command starts once, whatever the job has asked for."""
    job(SLURM_NTASKS="2", SLURM_PROCID="0")
    assert not [*slurm.check_tasks(1, 0)]


def test_train_refuses_tasks_that_train_copies(toy, job):
    """`srun -n2 hydratune` is an error; nothing begins."""
    job(SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="0")
    with pytest.raises(ConfigError) as caught:
        dispatch([*toy, "--dry-run"])
    assert [problem.key for problem in caught.value.problems] == ["SLURM_STEP_NUM_TASKS"]


def test_train_resumes_the_run_of_a_requeued_job(started, job):
    """Without `resume=auto`, a job that Slurm starts again resumes its own run."""
    job()
    first = started()
    job(SLURM_RESTART_COUNT="1")
    assert started() == first


def test_train_resumes_the_run_of_a_requeued_job_in_a_named_directory(started, job, own_directory):
    """It is the directory that the job got when it began, not the one of the same name that was there before."""
    (own_directory / "run").mkdir()
    job()
    first = started("hydra.run.dir=run")
    assert first.name == "run-2"
    job(SLURM_RESTART_COUNT="1")
    assert started("hydra.run.dir=run") == first


def test_train_resumes_no_run_of_another_job(started, job, capsys):
    """The run of another job of the same command is left alone, and the new run is announced."""
    job(SLURM_JOB_ID="6")
    other = started()
    job(SLURM_RESTART_COUNT="1")
    assert started() != other
    assert "7" in capsys.readouterr().err


def test_train_starts_over_in_a_job_that_was_not_requeued(started, job):
    """The same command twice in one job is two runs."""
    job()
    assert started() != started()
