"""A real MLflow server that is down at the start, killed in mid-run, slow, or never there cannot hurt a run."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest
from safetensors.torch import load_file

from hydratune.tracking.store import connect
from hydratune.tracking.ui import server_arguments, server_environment

pytestmark = pytest.mark.slow


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
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
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


def history(server):
    """The one run of a server: its status, and its points of the training loss."""
    client = connect(server.uri)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    points = client.get_metric_history(run.info.run_id, "train/loss")
    return run, [(point.step, point.value) for point in points]


STEPS = ["trainer.args.logging_steps=1", "trainer.args.max_steps=8"]


def weights(result):
    """The final weights."""
    return load_file(result.directory / "model" / "model.safetensors")


def equal(one, other):
    """Whether two networks are the same bit for bit."""
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_killed_in_mid_run(train, toy, server, monkeypatch, caplog):
    """Same weights as without tracking, one warning; `sync` delivers what is missing, nothing twice."""
    from hydratune.cli import dispatch
    from hydratune.tracking.callback import ForwardLogs

    plain = train(*toy, *STEPS, "tracking=none", directory="plain")
    server.start()
    forward = ForwardLogs.on_log

    def kill_at_four(self, args, state, *rest, **more):
        forward(self, args, state, *rest, **more)
        if state.global_step == 4:
            time.sleep(3)  # so that the first points are there
            server.kill()

    monkeypatch.setattr(ForwardLogs, "on_log", kill_at_four)
    result = train(*toy, *STEPS, "tracking=mlflow", f"tracking.uri={server.uri}")
    assert equal(weights(plain), weights(result))
    assert len([m for m in caplog.messages if "the MLflow store failed" in m]) == 1
    server.start()
    assert history(server)[0].info.status == "RUNNING"
    for _ in range(2):
        assert dispatch(["sync", str(result.directory)]) == 0
    run, points = history(server)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert run.data.metrics["test/accuracy"] == result.metrics["test_accuracy"]
    (model,) = connect(server.uri).search_logged_models([run.info.experiment_id])
    assert str(model.status) == "READY"


def test_back_before_the_end(train, toy, server, monkeypatch):
    """A server that comes up while a run goes on gets everything by itself."""
    from hydratune.tracking.callback import ForwardLogs

    forward = ForwardLogs.on_log

    def start_at_four(self, args, state, *rest, **more):
        forward(self, args, state, *rest, **more)
        if state.global_step == 4 and "loss" in rest[1]:
            server.start()

    def on_log(self, args, state, control, logs=None, **more):
        start_at_four(self, args, state, control, logs, **more)

    monkeypatch.setattr(ForwardLogs, "on_log", on_log)
    result = train(*toy, *STEPS, "tracking=mlflow", f"tracking.uri={server.uri}")
    run, points = history(server)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (result.directory / "mlflow.json").is_file()


def test_never_there(train, toy, caplog):
    """A run without its server ends well and says which command delivers it later."""
    result = train(*toy, *STEPS, "tracking=mlflow", "tracking.uri=http://127.0.0.1:9")
    assert result.metrics["test_accuracy"] >= 0
    assert len([m for m in caplog.messages if "the MLflow store failed" in m]) == 1
    assert [m for m in caplog.messages if "hydratune sync run" in m]


def test_slow(train, toy, server, monkeypatch):
    """A server that takes a second for each call holds up the end, not the steps."""
    from mlflow.tracking import MlflowClient

    server.start()
    slow, log_batch = [], MlflowClient.log_batch

    def wait(*args, **kwargs):
        slow.append(time.monotonic())
        time.sleep(1)
        return log_batch(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", wait)
    train(*toy, *STEPS, "tracking=mlflow", f"tracking.uri={server.uri}")
    run, points = history(server)
    assert run.info.status == "FINISHED"
    assert len(points) == 8
    assert 0 < len(slow) < 20
