"""A real MLflow server that is down at the start, killed in mid-run, slow, or never there cannot hurt a run."""

import time

import pytest
from safetensors.torch import load_file

from hydratune.tracking.client import connect
from mlflow_server import server

__all__ = ["server"]  # a fixture

pytestmark = pytest.mark.slow


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
    from hydratune.cli.main import dispatch
    from hydratune.tracking.callbacks import MlflowCallback

    plain = train(*toy, *STEPS, "tracking=none", directory="plain")
    server.start()
    forward = MlflowCallback.on_log

    def kill_at_four(self, args, state, *rest, **more):
        forward(self, args, state, *rest, **more)
        if state.global_step == 4:
            time.sleep(3)  # so that the first points are there
            server.kill()

    monkeypatch.setattr(MlflowCallback, "on_log", kill_at_four)
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
    from hydratune.tracking.callbacks import MlflowCallback

    forward = MlflowCallback.on_log

    def start_at_four(self, args, state, *rest, **more):
        forward(self, args, state, *rest, **more)
        if state.global_step == 4 and "loss" in rest[1]:
            server.start()

    def on_log(self, args, state, control, logs=None, **more):
        start_at_four(self, args, state, control, logs, **more)

    monkeypatch.setattr(MlflowCallback, "on_log", on_log)
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
