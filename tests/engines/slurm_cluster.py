"""A Slurm cluster of two nodes on this machine, with private ports, keys, and directories.

Each node has its own host name and its own `/etc/hosts`, in namespaces of its daemon. Accounting is off.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

NODES = ("n0", "n1")
KILL_WAIT = 30  # seconds between SIGTERM and SIGKILL at the time limit; also Slurm's own default
_CPUS = 8  # of each node, as far as Slurm knows
_LONGEST = 300  # seconds
_FINAL = ("CANCELLED", "COMPLETED", "FAILED", "TIMEOUT")
_PROGRAMS = ("munged", "sbatch", "scancel", "scontrol", "slurmctld", "slurmd", "squeue", "srun", "unshare")
_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
FirstJobId={first_job}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait={kill_wait}
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName=n0 NodeHostname=n0 NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory=1000
NodeName=n1 NodeHostname=n1 NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why this machine cannot run the cluster, or None."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if os.geteuid():
        return "Slurm's daemons need root"
    if absent := [name for name in _PROGRAMS if not shutil.which(name, path=path)]:
        return f"not installed: {', '.join(absent)} (slurmctld, slurmd, slurm-client, munge)"
    namespaces = ["unshare", "--mount", "--uts", "true"]
    return None if subprocess.run(namespaces, check=False).returncode == 0 else "no namespaces in this container"


class Cluster:
    """Commands on a cluster that runs."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of this process, with those that make Slurm's commands find the cluster."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {**own, "SLURM_CONF": str(self._config), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

    def run(self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None) -> str:
        """Run a command of Slurm's and return its output."""
        variables = environment or self.environment
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def field(self, job: str, name: str) -> str:
        """Return a field of a job from `scontrol show job`, e.g. `JobState`."""
        words = self.run("scontrol", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def wait(self, job: str) -> tuple[str, str]:
        """Wait until a job has ended and return its exit code, `CODE:SIGNAL`, and its state."""
        wait_until(lambda: self.field(job, "JobState") in _FINAL)
        return self.field(job, "ExitCode"), self.field(job, "JobState")


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a function returns something true."""
    end = time.monotonic() + _LONGEST
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start the daemons; end the jobs and the daemons afterwards.

    Args:
        folder: For its files; an empty directory with a short name, since sockets are in it.
    """
    cluster = Cluster(folder)
    _write_files(folder)
    with ExitStack() as stack:
        munge = {name: f"--{name}={folder}/munge.{name}" for name in ("socket", "key-file", "pid-file", "log-file")}
        seed = f"--seed-file={folder}/munge.seed"
        stack.enter_context(_daemon(cluster, "munged", "--foreground", "--force", *munge.values(), seed))
        wait_until((folder / "munge.socket").exists)
        stack.enter_context(_daemon(cluster, "slurmctld", "-D"))
        for node in NODES:
            start = f"mount --bind {folder}/hosts /etc/hosts && hostname {node} && exec slurmd -D -N {node}"
            stack.enter_context(_daemon(cluster, "unshare", "--mount", "--uts", "sh", "-c", start))
        stack.callback(_end_jobs, cluster)  # before the daemons
        wait_until(lambda: cluster.run("sinfo", "-h", "-o", "%T %D", check=False) == f"idle {len(NODES)}")
        yield cluster


@contextmanager
def temporary() -> Iterator[Cluster]:
    """Run a cluster in a new directory, and remove that."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    folder.chmod(0o755)  # for munge's socket
    try:
        with running(folder) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder)


def _write_files(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key-file"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(NODES)}\n")
    config = _CONFIG.format(
        folder=folder,
        host=socket.gethostname().partition(".")[0],
        ports=_free_ports(3),
        first_job=10 * (os.getpid() % 4_000) + 1,
        kill_wait=KILL_WAIT,
        cpus=_CPUS,
    )
    (folder / "slurm.conf").write_text(config)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _daemon(cluster: Cluster, *command: str) -> Iterator[None]:
    with subprocess.Popen(
        command, env=cluster.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def _end_jobs(cluster: Cluster) -> None:
    """Kill all jobs, whose processes would outlive the daemons."""
    jobs = cluster.run("squeue", "--noheader", "--format=%A", check=False).split()
    if jobs:
        cluster.run("scancel", "--signal=KILL", "--full", *jobs, check=False)
        cluster.run("scancel", *jobs, check=False)
        wait_until(lambda: not cluster.run("squeue", "--noheader", check=False))
