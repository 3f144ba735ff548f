"""MLflow is told the truth: one run a run, its real end, its real numbers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hydratune.errors import ConfigError
from hydratune.tracking.mlflow import MlflowRunLog, readable
from hydratune.tracking.store import absolute_uri, connect, scheme


def runs(store):
    """All MLflow runs of a store."""
    client = connect(store)
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def test_one_run_that_finished(train, toy, store):
    """A run with evaluation and test is exactly one MLflow run, FINISHED, with metrics against their steps."""
    result = train(*toy, "trainer.args.logging_steps=1", "tracking.experiment=films", "seed=3")
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] == result.metrics["test_accuracy"]
    client = connect(store)
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in losses] == [1, 2]
    assert [p.step for p in client.get_metric_history(run.info.run_id, "eval/accuracy")] == [1, 2]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"config.yaml", "metrics.json"}
    assert client.get_experiment(run.info.experiment_id).name == "films"


def test_params_are_few_and_flat(train, toy, store):
    """Params are the choices, what everybody compares, and the other overrides that were typed."""
    train(*toy, "trainer.args.max_steps=1", "trainer.args.weight_decay=0.3")
    (run,) = runs(store)
    params = run.data.params
    assert params["dataset"] == "local"
    assert params["learning_rate"] == "0.02"
    assert params["seed"] == "42"
    assert params["trainer.args.weight_decay"] == "0.3"
    assert params["dataset.files.train"] == "train.jsonl"
    assert len(params) < 25
    assert "weight_decay=0.3" in run.info.run_name


def test_provenance_tags(train, toy, store):
    """The command and the versions that made a result are tags."""
    train(*toy, "trainer.args.max_steps=1", "seed=3")
    (run,) = runs(store)
    assert run.data.tags["mlflow.source.name"].startswith("hydratune ")
    assert "seed=3" in run.data.tags["mlflow.source.name"]
    assert {"version.transformers", "version.torch", "version.python"} <= set(run.data.tags)


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_the_end_is_true(train, toy, store, monkeypatch, error, status):
    """An exception is FAILED and an interruption KILLED, and both go on to the caller."""
    import transformers

    def fail(_):
        raise error

    monkeypatch.setattr(transformers.Trainer, "train", fail)
    with pytest.raises(error):
        train(*toy)
    (run,) = runs(store)
    assert run.info.status == status
    assert run.info.end_time


def test_none_records_nothing(train, toy, own_directory):
    """`tracking=none` makes no store and no pointer."""
    result = train(*toy, "tracking=none", "trainer.args.max_steps=1")
    assert result.link is None
    assert not list(own_directory.rglob("mlflow*"))


def test_the_pointer_leads_to_the_run(train, toy, store):
    """The run's directory says where its MLflow run is, and the result names the command that opens it."""
    result = train(*toy, "trainer.args.max_steps=1")
    pointer = json.loads((result.directory / "mlflow.json").read_text())
    assert pointer["uri"] == store
    assert pointer["run_id"] == runs(store)[0].info.run_id
    assert result.link.endswith("hydratune ui run")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("loss", "train/loss"), ("eval_macro_f1", "eval/macro_f1"), ("test_accuracy", "test/accuracy"),
     ("train_runtime", "train/runtime"), ("grad_norm", "train/grad_norm"), ("train_loss", "train/mean_loss"), ("epoch", "train/epoch")],
)  # fmt: skip
def test_readable_names(name, shown):
    """Trainer's names become sections of MLflow's charts."""
    assert readable(name) == shown


class _Client:
    """A store that can be down."""

    def __init__(self):
        self.down, self.batches, self.ended = False, [], []

    def log_batch(self, run_id, metrics=(), params=()):  # noqa: ARG002
        if self.down:
            raise ConnectionError("down")
        self.batches.append([(m.key, m.step) for m in metrics])

    def set_terminated(self, run_id, status):  # noqa: ARG002
        if self.down:
            raise ConnectionError("down")
        self.ended.append(status)


def test_points_are_sent_in_batches(tmp_path):
    """Points wait for an evaluation, for 200 of them or for the end; the order is kept."""
    client = _Client()
    log = MlflowRunLog(client, "id", tmp_path)
    log.metrics({"loss": 1.0}, 1)
    assert client.batches == []
    log.metrics({"eval_loss": 1.0}, 1)
    assert client.batches == [[("train/loss", 1), ("eval/loss", 1)]]
    for step in range(250):
        log.metrics({"loss": float("inf") if step == 7 else 1.0}, step)
    log.close("FINISHED")
    assert [len(batch) for batch in client.batches] == [2, 200, 49]
    assert client.ended == ["FINISHED"]


def test_a_store_that_goes_down_costs_one_warning(tmp_path, caplog):
    """Training goes on, one warning is said, and what was kept is delivered when the store is back at the end."""
    client = _Client()
    log = MlflowRunLog(client, "id", tmp_path)
    client.down = True
    log.metrics({"eval_loss": 1.0}, 1)
    log.metrics({"eval_loss": 0.5}, 2)
    assert len([m for m in caplog.messages if "store failed" in m]) == 1
    client.down = False
    log.close("FINISHED")
    assert client.batches == [[("eval/loss", 1), ("eval/loss", 2)]]


def test_a_server_that_is_not_there(train, toy):
    """A server that does not answer at the start is a mistake that names the key."""
    with pytest.raises(ConfigError, match=r"^tracking\.uri: expected an MLflow store at 'http://127.0.0.1:9'"):
        train(*toy, "tracking=mlflow", "tracking.uri=http://127.0.0.1:9")


def test_a_server_that_is_no_mlflow(monkeypatch):
    """A server that is something else is told the same way."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ConfigError, match=r"^tracking\.uri: expected an MLflow store"):
            connect(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def test_addresses(own_directory):
    """A relative sqlite path counts from the current directory; drivers do not hide the scheme."""
    assert absolute_uri("sqlite:///outputs/a.db") == f"sqlite:///{own_directory}/outputs/a.db"
    assert absolute_uri("sqlite:////abs/a.db") == "sqlite:////abs/a.db"
    assert absolute_uri("http://x") == "http://x"
    assert scheme("postgresql+psycopg://h/d") == "postgresql"
