"""Real MLflow servers: one that tests start, kill, and start again, and `hydratune ui`."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager

import pytest

from hydratune.cli.ui import server_arguments, server_environment
from processes import HYDRATUNE


class Server:
    """An MLflow server on loopback with a store of its own, which can be killed and started again."""

    def __init__(self, folder, empty_store):
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process = None
        (folder / "server.db").write_bytes(empty_store.read_bytes())

    def start(self):
        """Returns when it answers."""
        artifacts = ["--artifacts-destination", str(self._folder / "artifacts")]
        arguments = [*server_arguments("127.0.0.1", self.port), *artifacts]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *arguments],
                env={**os.environ, **server_environment(f"sqlite:///{self._folder}/server.db")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(3000):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=10):
                    return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError((self._folder / "server.log").read_text())

    def kill(self):
        """As `kill -9` of the server and its workers."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path, empty_store):
    """A server that is not started yet."""
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder, empty_store)
    yield server
    server.kill()


def answer(url, **headers):
    """Status and body of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


@contextmanager
def serving(*arguments):
    """`hydratune ui` on a free port, until the end of the block: its address and the line that it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [HYDRATUNE, "ui", *arguments, "--port", str(port), "--no-browser"]
    quiet = {"stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, **quiet)
    base = f"http://127.0.0.1:{port}"
    try:
        line = server.stdout.readline()
        for _ in range(1500):
            assert server.poll() is None
            try:
                answer(base)
                break
            except OSError:
                time.sleep(0.2)
        yield base, line
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        server.stdout.close()
