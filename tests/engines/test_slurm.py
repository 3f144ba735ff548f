"""Real jobs on a Slurm cluster: the scripts of docs/slurm.md, preemption, the time limit, and sweeps."""

import re
import shutil
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
from slurm_cluster import missing, running, wait_until

from conftest import toy_rows, write_rows
from processes import HYDRATUNE, hydratune, start
from real_sweeps import studies

REASON = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "slurm.md"
ONE_NODE, SEVERAL_NODES = re.findall(r"^```bash\n(#!/bin/bash\n.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
STEP = 3  # at whose end a run waits for a signal


@pytest.fixture(scope="module")
def cluster():
    """Run a cluster for the tests of this file."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    folder.chmod(0o755)  # for munge's socket
    try:
        with running(folder) as started:
            yield started
    finally:
        shutil.rmtree(folder)


class User:
    """A user with a project directory, whose `hydratune` trains a tiny model on a few rows.

    Attributes:
        directory: Where the user works.
        waiting: Has a file as soon as a run waits for a signal.
    """

    def __init__(self, cluster, directory, model):
        self.cluster, self.directory = cluster, directory
        self.waiting = directory / "waiting"
        self.overrides = [
            *("dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test"))),
            *("model=pretrained", f"model.pretrained_model_name_or_path={model}", "tracking=none"),
            *("hardware.device=cpu", "hardware.threads=1", "hardware.precision=fp32"),
            *("trainer.args.max_steps=8", "trainer.args.learning_rate=0.02", "trainer.args.save_total_limit=3"),
        ]
        for split, rows in toy_rows().items():
            write_rows(directory / f"{split}.jsonl", rows)

    def installs(self, *overrides, waits=True):
        """Put a `hydratune` on the PATH that adds overrides to the command, and return its folder."""
        more = [*self.overrides, *overrides, *([self.waits()] if waits else [])]
        program = self.directory / "bin" / "hydratune"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/bash\nexec {HYDRATUNE} "$@" {" ".join(f"{word!r}" for word in more)}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program.parent

    def waits(self, step=STEP, most=1):
        """Return the override that makes runs wait for a signal."""
        return f"+trainer.callbacks.wait={{_target_: waiting.WaitForSignal, folder: '{self.waiting}', step: {step}, most: {most}}}"

    def submits(self, script, *options):
        """Submit a script and return the ID of its job."""
        path = self.directory / "job.sh"
        path.write_text(script)
        own = {
            "PATH": f"{self.directory}/bin:{self.cluster.environment['PATH']}",
            "PYTHONPATH": str(HERE),
            "HYDRATUNE_ALLOW": "waiting.WaitForSignal",
        }
        return self.cluster.submit(path, f"--chdir={self.directory}", f"--output={self.directory}/log", *options, **own)

    def log(self):
        """Return what the job has printed."""
        return (self.directory / "log").read_text()


@pytest.fixture(scope="module")
def user(cluster, tiny_model, tmp_path_factory):
    """Return a function that makes a user of the cluster."""
    return lambda: User(cluster, tmp_path_factory.mktemp("user"), tiny_model)


def weights(run):
    """Return the weights of a finished run as plain values."""
    tensors = safetensors.torch.load_file(run / "model" / "model.safetensors")
    return {name: tensor.tolist() for name, tensor in tensors.items()}


def shorten(user, job):
    """Make the time limit of a job 20 seconds from now as soon as its run waits; Slurm looks every 30 seconds."""
    wait_until(lambda: any(user.waiting.glob("*")))
    user.cluster.run("scontrol", "update", f"JobId={job}", "EndTime=now+20")


def preempted(user):
    """Run the script for one node until Slurm's signal before the time limit has ended and requeued it once."""
    user.installs()
    job = user.submits(ONE_NODE)
    shorten(user, job)
    wait_until(lambda: user.cluster.field(job, "Restarts") == "1")
    user.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")  # else the signal arrives again at once
    return job, user.cluster.wait(job)


def timed_out(user):
    """Run a bare command into its time limit, requeue its job by hand, and wait for its end."""
    user.installs()
    job = user.submits("#!/bin/bash\nsrun hydratune\n", "--open-mode=append", "--time=10")
    shorten(user, job)
    user.cluster.wait(job)
    state = user.cluster.field(job, "JobState")
    user.cluster.run("scontrol", "requeue", job)
    user.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    return job, state, user.cluster.wait(job)


@pytest.fixture(scope="module")
def timed(user):
    """Start the runs that wait for Slurm's clock, and return their users and what comes of them."""
    with ThreadPoolExecutor() as pool:
        yield {job: (one, pool.submit(job, one)) for job in (preempted, timed_out) for one in [user()]}


@pytest.fixture
def reference(tiny_model, own_directory):
    """Return the weights of the same run that nobody interrupts."""

    def train(*overrides):
        one = User(None, own_directory, tiny_model)
        done = hydratune(*one.overrides, *overrides, "hydra.run.dir=reference")
        assert done.returncode == 0, done.stderr
        return weights(own_directory / "reference")

    return train


def test_signal_before_the_time_limit(timed, reference):
    """The script for one node saves, exits with 75, requeues its job, and ends with the weights of an undisturbed run."""
    user, future = timed[preempted]
    job, code = future.result()
    assert code == "0:0", user.log()
    assert user.cluster.field(job, "Restarts") == "1"
    (run,) = user.directory.glob("outputs/*/*")
    assert weights(run) == reference()


def test_time_limit(timed, reference):
    """At the limit SIGTERM arrives twice; the requeued job resumes its run although it was not asked to."""
    user, future = timed[timed_out]
    _, state, code = future.result()
    assert state == "TIMEOUT"
    assert code == "0:0", user.log()
    (run,) = user.directory.glob("outputs/*/*")
    assert weights(run) == reference()


def test_several_nodes(user, reference):
    """SIGUSR1 ends the processes of both nodes after a step; the requeued job ends with the weights of one machine."""
    one = user()
    one.installs("hardware.processes=1")
    job = one.submits(SEVERAL_NODES)
    wait_until(lambda: any(one.waiting.glob("*")))
    one.cluster.run("scancel", "--signal=USR1", job)
    assert one.cluster.wait(job) == "0:0", one.log()
    assert one.cluster.field(job, "Restarts") == "1"
    assert weights(one.directory / "outputs" / "my_run") == reference("hardware=ddp", "hardware.processes=2")


def test_tasks_that_would_train_copies(user):
    """Each of two tasks of one step ends with the exit code of an error by the user."""
    one = user()
    one.installs(waits=False)
    job = one.submits("#!/bin/bash\nsrun --ntasks=2 --cpus-per-task=1 hydratune\n", "--ntasks=2")
    assert one.cluster.wait(job) == "2:0"
    assert not (one.directory / "outputs").exists()


# --- sweeps ----------------------------------------------------------------------------------------------

SWEEP = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60", "sweep.workers=2", "sweep.name=s"]
TWO = "trainer.args.weight_decay=0,0.1"


def sweeps(user, *overrides):
    """Start a sweep on the cluster."""
    more = {"PYTHONPATH": str(HERE), "HYDRATUNE_ALLOW": "waiting.WaitForSignal", **user.cluster.environment}
    return start("-m", *user.overrides, *SWEEP, TWO, *overrides, cwd=user.directory, **more)


def test_sweep_of_preempted_and_canceled_workers(user):
    """Neither SIGUSR2, which submitit asks for, nor `scancel` costs a trial a failure or its steps; all trials end."""
    one = user()
    ddp = ["hardware=ddp", "hardware.processes=2"]
    with sweeps(one, *ddp, one.waits(most=2), "sweep.retries=0") as process:
        wait_until(lambda: process.poll() is not None or len(list(one.waiting.glob("*"))) == 2)
        workers = one.cluster.run("squeue", "--array", "--noheader", "--format=%i").split()
        one.cluster.run("scancel", "--signal=USR2", next(job for job in workers if job.endswith("_0")))
        one.cluster.run("scancel", next(job for job in workers if job.endswith("_1")))
        said = process.communicate()
    assert process.returncode == 0, said
    (study,) = studies(f"sqlite:///{one.directory}/multirun/s/study.db")
    trials = study.get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert not any(trial.user_attrs.get("failures") for trial in trials)
    assert sorted(trial.user_attrs.get("interruptions", 0) for trial in trials) == [1, 1]


def test_sweep_that_asks_for_missing_gpus(user):
    """What sbatch says is the one error, and nothing is left."""
    one = user()
    with sweeps(one, "hydra.launcher.gpus_per_node=8") as process:
        said = process.communicate()[1]
    assert process.returncode == 2, said
    assert said.count("sbatch: error") == 1
    assert not (one.directory / "multirun").exists()
