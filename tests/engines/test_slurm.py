"""Real jobs on a Slurm cluster: the scripts of docs/slurm.md, preemption, and the time limit."""

import functools

import pytest
import safetensors.torch

from engines.pages import command, scripts
from engines.slurm_cluster import missing, temporary, wait_until
from engines.slurm_user import PAGE, STEP, User
from processes import hydratune

REASON = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
ONE_NODE, SEVERAL_NODES, _ = scripts(PAGE).values()
TWO_PROCESSES = ("hardware=ddp", "hardware.nproc_per_node=2")


@pytest.fixture(scope="module")
def user(tiny_model, tmp_path_factory):
    """Return a function that makes a user of the cluster."""
    with temporary() as cluster:
        yield lambda: User(cluster, tmp_path_factory.mktemp("user"), tiny_model)


def weights(run):
    """Return the weights of a finished run as plain values."""
    tensors = safetensors.torch.load_file(run / "model" / "model.safetensors")
    return {name: tensor.tolist() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def reference(tiny_model, tmp_path_factory):
    """Return a function that returns the weights of the same run that nobody interrupts."""

    @functools.cache
    def train(*overrides):
        one = User(None, tmp_path_factory.mktemp("reference"), tiny_model)
        done = hydratune(*one.overrides, *overrides, "hydra.run.dir=run", cwd=one.directory)
        assert done.returncode == 0, done.stderr
        return weights(one.directory / "run")

    return train


def test_time_limit(user, reference):
    """A run resumes exactly from the step in which it is asked to end: by `--signal`, and by SIGTERM at the limit.

    Slurm looks at its limits every 30 seconds, and `--signal=USR1@20` arrives up to 50 seconds before the limit. At the
    limit, SIGTERM arrives twice and the script ends, so that the job is requeued by hand. Its command does not ask to
    be resumed.
    """
    signaled, two_processes, limited = user(), user(), user()
    scripts = {
        signaled: ONE_NODE,
        two_processes: ONE_NODE.replace("USR1@120", "USR1@20"),
        limited: "#!/bin/bash\nsrun hydratune\n",
    }
    hardware = {one: TWO_PROCESSES if one is two_processes else [] for one in scripts}
    for one in scripts:
        one.installs(*hardware[one])
    jobs = {one: one.submits(script) for one, script in scripts.items()}
    references = {one: reference(*hardware[one]) for one in scripts}  # while the jobs start
    for one, seconds in {signaled: 100, two_processes: 45, limited: 1}.items():
        wait_until(one.waiting.exists)
        one.cluster.run("scontrol", "update", f"JobId={jobs[one]}", f"EndTime=now+{seconds}")
    waiting = dict(jobs)
    wait_until(lambda: all_have_time(waiting) or limited.cluster.field(jobs[limited], "JobState") == "TIMEOUT")
    assert [*limited.directory.glob(f"outputs/*/*/checkpoints/checkpoint-{STEP}")]
    limited.cluster.run(*command(PAGE, "scontrol requeue JOBID", JOBID=jobs[limited]))
    wait_until(lambda: all_have_time(waiting))
    for one, job in jobs.items():
        assert one.cluster.wait(job) == ("0:0", "COMPLETED"), one.log()
        assert one.cluster.field(job, "Restarts") == "1"
        (run,) = one.directory.glob("outputs/*/*")
        assert weights(run) == references[one]


def all_have_time(waiting):
    """Give each requeued job more time before it starts, and leave it out: its old limit would end it again."""
    for user in [*waiting]:
        if user.cluster.field(waiting[user], "Restarts") != "0":
            user.cluster.run("scontrol", "update", f"JobId={waiting.pop(user)}", "TimeLimit=60")
    return not waiting


def test_canceled_job_is_not_requeued(user):
    """A job that is canceled saves a checkpoint and ends."""
    one = user()
    one.installs()
    job = one.submits(ONE_NODE)
    wait_until(one.waiting.exists)
    one.cluster.run(*command(PAGE, "scancel JOBID", JOBID=job))
    wait_until(lambda: not one.cluster.run("squeue", "--noheader", f"--jobs={job}"))
    assert one.cluster.field(job, "JobState") == "CANCELLED"
    assert one.cluster.field(job, "Restarts") == "0"
    assert [*one.directory.glob(f"outputs/*/*/checkpoints/checkpoint-{STEP}")]


def test_several_nodes(user, reference):
    """SIGUSR1 ends the processes of both nodes after a step; the requeued job ends with the weights of one machine."""
    one = user()
    one.installs("hardware.nproc_per_node=1")
    job = one.submits(SEVERAL_NODES)
    wait_until(one.waiting.exists)
    one.cluster.run(*command(PAGE, "scancel --signal=USR1 JOBID", JOBID=job))
    assert one.cluster.wait(job) == ("0:0", "COMPLETED"), one.log()
    assert one.cluster.field(job, "Restarts") == "1"
    assert weights(one.directory / "outputs" / "my_run") == reference(*TWO_PROCESSES)


def test_tasks_that_would_train_copies(user):
    """Each of two tasks of one step ends with the exit code of an error by the user."""
    one = user()
    one.installs(waits=False)
    words = command(PAGE, "srun --ntasks=2 hydratune")
    job = one.submits(f"#!/bin/bash\n{' '.join(words)}\n", "--ntasks=2")
    assert one.cluster.wait(job) == ("2:0", "FAILED")
    assert not (one.directory / "outputs").exists()
