"""Real jobs on a Slurm cluster: the scripts of docs/slurm.md, preemption, the time limit, and sweeps."""

import functools
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
import safetensors.torch

from conftest import toy_rows, write_rows
from engines.pages import command, scripts
from engines.slurm_cluster import missing, running, wait_until
from processes import HYDRATUNE, hydratune
from real_sweeps import studies

REASON = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
HERE = Path(__file__).parent
PYTHONPATH = f"{HERE}:{HERE / 'preloading'}:{HERE.parent}"
PAGE = "slurm.md"
ONE_NODE, SEVERAL_NODES, SWEEP = scripts(PAGE).values()
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
        places = [f"--chdir={self.directory}", f"--output={self.directory}/log"]
        return self.cluster.run("sbatch", "--parsable", *places, *options, str(path), environment=self.environment())

    def environment(self):
        """Return the variables of the user's shell."""
        path = f"{self.directory}/bin:{self.cluster.environment['PATH']}"
        own = {"PATH": path, "PYTHONPATH": PYTHONPATH, "HYDRATUNE_ALLOW": "waiting.WaitForSignal"}
        return {**self.cluster.environment, **own}

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


@pytest.fixture
def reference(tiny_model, own_directory):
    """Return the weights of the same run that nobody interrupts."""

    @functools.cache
    def train(*overrides):
        one = User(None, own_directory, tiny_model)
        done = hydratune(*one.overrides, *overrides, "hydra.run.dir=reference")
        assert done.returncode == 0, done.stderr
        return weights(own_directory / "reference")

    return train


def test_time_limit(user, reference):
    """A run resumes exactly from the step in which it is asked to end: by `--signal`, and by SIGTERM at the limit.

    Slurm looks at its limits every 30 seconds, and `--signal=USR1@20` arrives up to 50 seconds before the limit. At the
    limit, SIGTERM arrives twice and the script ends, so that the job is requeued by hand. Its command does not ask to
    be resumed.
    """
    signaled, shortly, limited = user(), user(), user()
    scripts = {
        signaled: ONE_NODE,
        shortly: ONE_NODE.replace("USR1@120", "USR1@20"),
        limited: "#!/bin/bash\nsrun hydratune\n",
    }
    for one in scripts:
        one.installs()
    jobs = {one: one.submits(script) for one, script in scripts.items()}
    for one, seconds in {signaled: 100, shortly: 45, limited: 1}.items():
        wait_until(one.waiting.exists)
        one.cluster.run("scontrol", "update", f"JobId={jobs[one]}", f"EndTime=now+{seconds}")
    assert limited.cluster.wait(jobs[limited])[1] == "TIMEOUT"
    assert [*limited.directory.glob(f"outputs/*/*/checkpoints/checkpoint-{STEP}")]
    limited.cluster.run(*command(PAGE, "scontrol requeue JOBID", JOBID=jobs[limited]))
    for one, job in jobs.items():
        requeues_with_time(one, job)
    for one, job in jobs.items():
        assert one.cluster.wait(job) == ("0:0", "COMPLETED"), one.log()
        (run,) = one.directory.glob("outputs/*/*")
        assert weights(run) == reference()


def requeues_with_time(user, job):
    """Wait until a job is requeued, and give it more time: its limit is over, and the signal would arrive again."""
    wait_until(lambda: user.cluster.field(job, "Restarts") == "1")
    user.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")


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
    assert weights(one.directory / "outputs" / "my_run") == reference("hardware=ddp", "hardware.nproc_per_node=2")


def test_tasks_that_would_train_copies(user):
    """Each of two tasks of one step ends with the exit code of an error by the user."""
    one = user()
    one.installs(waits=False)
    words = command(PAGE, "srun --ntasks=2 hydratune")
    job = one.submits(f"#!/bin/bash\n{' '.join(words)}\n", "--ntasks=2")
    assert one.cluster.wait(job) == ("2:0", "FAILED")
    assert not (one.directory / "outputs").exists()


# --- sweeps ----------------------------------------------------------------------------------------------


@pytest.fixture
def sweeps(user):
    """Return a user, and a function that starts the page's sweep with more overrides."""
    one = user()

    def start(*overrides):
        one.installs(*overrides, waits=False)
        more = {"SWEEP_STORAGE": f"sqlite:///{one.directory}/study.db", **one.environment()}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["/bin/bash", "-c", SWEEP], cwd=one.directory, env=more, stdout=pipe, stderr=pipe, text=True
        )

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
