"""A Ray cluster on this machine, started by the commands of docs/ray.md: a head and a second node with one CPU each.

The ports and the directory are its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from engines.pages import scripts, typed

TESTS = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
TOKEN = "0123456789abcdef0123456789abcdef"
PAGE = "ray.md"
_START = typed(scripts(PAGE)["Running cluster"].replace("...", TOKEN), "ray")
_HEAD, _OTHER = _START.calls
AUTHENTICATION = _START.exported
_READY = 300  # seconds
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray's default, 15, starves workers beside other tests
}
# Ray's own limits of 30 to 100 seconds are too short for a machine that is busy with other tests.
_PATIENT = {
    "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "300",  # for the process that the head starts for each Ray Client
    # That process ends if the head has not connected to it. If it starts late, the head connects late: gRPC tries again
    # after 1, 2, 3, 4, 7, 11, 17, 27, 43, 69, ... seconds, and a limit of 30 is shorter than the last intervals.
    "TIMEOUT_FOR_SPECIFIC_SERVER_S": "300",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
}
# gRPC's fork handlers run in the process that the head forks for a Ray Client, and sometimes end it ("epoll_wait error:
# Bad file descriptor"). That process starts another program at once and needs no handlers.
_FORK = {"GRPC_ENABLE_FORK_SUPPORT": "0"}
# The head detects a killed node, which refuses connections, after 3 seconds instead of 20.
_HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
# For the machine that connects through Ray Client.
PATIENT_CLIENT = {"RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "100", "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "100"}
_SHARED = ["--num-cpus=1", "--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0", "--block"]


@dataclass
class Node:
    """What one `ray start --block` has started."""

    process: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        """The command itself and everything below it."""
        if self.process.poll() is not None:
            return []
        command = psutil.Process(self.process.pid)
        return [command, *command.children(recursive=True)]

    def kill(self) -> None:
        """End all processes by SIGKILL, as when a machine loses power."""
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def stop(self) -> None:
        """End the node as Ctrl-C on `ray start --block` does, and kill what is left after 10 seconds."""
        processes = self.processes()
        self.process.terminate()
        for process in psutil.wait_procs(processes, timeout=10)[1]:
            process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Cluster:
    """A running head.

    Attributes:
        address: `HOST:PORT` of its control service.
        client: `ray://HOST:PORT` of its client server.
        folder: Ray's temporary directory, which holds its logs.
    """

    address: str
    client: str
    folder: Path

    @contextmanager
    def logs_of_client_server(self) -> Iterator[None]:
        """Add what the client server has logged to the error of a test that fails."""
        try:
            yield
        except AssertionError as error:
            for path in sorted(self.folder.glob("session_latest/logs/ray_client_server*")):
                error.add_note(f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}")
            raise

    @contextmanager
    def second_node(self) -> Iterator[Node]:
        """Add a node and stop it."""
        words = [word.replace("10.0.0.1:6379", self.address) for word in _OTHER]
        with _node(self.folder, *words, "--include-log-monitor=false") as node:  # the head's reads logs of both nodes
            yield node


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a head with token authentication, and stop it."""
    with ExitStack() as stack:
        parent = Path(tempfile.mkdtemp(prefix="ray"))  # short, since it is part of the names of sockets
        stack.callback(shutil.rmtree, parent, ignore_errors=True)
        folder = parent / "ray"  # as Ray names it below RAY_TMPDIR
        folder.mkdir()
        port, client = _free_port(), _free_port()
        words = [word.replace("6379", str(port)) for word in _HEAD]
        more = [
            f"--ray-client-server-port={client}",
            "--include-dashboard=false",
            "--no-monitor",
            f"--temp-dir={folder}",
        ]
        stack.enter_context(_node(folder, *words, "--node-ip-address=127.0.0.1", *more))
        yield Cluster(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}", folder)


@contextmanager
def _node(folder: Path, *arguments: str) -> Iterator[Node]:
    """Start a node without the variables of the tests' sweeps, wait until it is ready, and stop it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HYDRATUNE_", "SWEEP_"))}
    environment |= {**AUTHENTICATION, **_QUIET, **_PATIENT, **_FORK, **_HEALTH, "PYTHONPATH": str(TESTS)}
    output = Path(tempfile.mkstemp(dir=folder)[1])
    with output.open("w") as file:
        command = [str(RAY), *arguments, *_SHARED]
        node = Node(subprocess.Popen(command, env=environment, cwd=folder, stdout=file, stderr=file))
    try:
        end = time.monotonic() + _READY
        while "Ray runtime started" not in (said := output.read_text()):
            assert node.process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.1)
        yield node
    finally:
        node.stop()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])
