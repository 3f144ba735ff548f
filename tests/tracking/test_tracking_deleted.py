"""An experiment or run that was deleted in MLflow stops the run early or is reported with the way to restore it."""

import shutil
import threading
import time
from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.config import servers
from hydratune.tracking import delivery
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.journal import Journal
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import FAILED, ConfigError
from hydratune.utils.files import write_json
from mlflow_server import Server


@pytest.fixture
def record(store, own_directory):
    """Record a run with one metric in experiment `films`; returns its log and its directory."""

    def start(name="run", during=lambda: None):
        directory = own_directory / "outputs" / name
        directory.mkdir()
        with Mlflow(uri=store, experiment_name="films").start(RunInfo(name, directory, {"lr": 0.1}, {})) as run_log:
            run_log.metrics({"eval_loss": 0.5}, 1)
            during()
        return run_log, directory

    return start


def experiment_of(store):
    """The experiment that `record` uses."""
    return connect(store).get_experiment_by_name("films")


def wait_until_sent(directory):
    """Let the uploader send what it has."""
    journal = Journal(directory)
    for _ in range(6000):
        if journal.is_delivered():
            return
        time.sleep(0.05)
    raise TimeoutError(directory)


def test_start_with_deleted_experiment_is_an_error(record, store):
    """A local store is asked before training; the hint has the command that restores the experiment."""
    record()
    number = experiment_of(store).experiment_id
    connect(store).delete_experiment(number)
    with pytest.raises(ConfigError) as error:
        record("again")
    (problem,) = error.value.problems
    assert problem.key == "tracking.experiment_name"
    assert f"mlflow experiments restore --experiment-id {number}" in problem.hint


def test_experiment_deleted_during_a_run_blocks_it_until_restored(record, store, caplog, capsys):
    """No entry is dropped: after the restore, `sync` uploads what is missing."""

    def delete():
        wait_until_sent(Path("outputs/run"))
        connect(store).delete_experiment(experiment_of(store).experiment_id)

    run_log, directory = record(during=lambda: (delete(), run_log_metrics(directory_of_run=Path("outputs/run"))))
    number = experiment_of(store).experiment_id
    assert run_log.is_blocked()
    assert f"mlflow experiments restore --experiment-id {number}" in caplog.text
    assert dispatch(["sync", str(directory)]) == FAILED
    assert f"restore --experiment-id {number}" in capsys.readouterr().out
    connect(store).restore_experiment(number)
    assert dispatch(["sync", str(directory)]) == 0
    (run,) = connect(store).search_runs([number])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["eval/loss"] == 0.25


def run_log_metrics(directory_of_run):
    """Add a second point to a journal, as the run does."""
    Journal(directory_of_run).write_metrics({"eval/loss": 0.25}, 2)


def test_run_deleted_during_a_run_blocks_it(record, store, caplog):
    """The hint restores the run, since its experiment is there."""
    ids = []

    def delete():
        wait_until_sent(Path("outputs/run"))
        (run,) = connect(store).search_runs([experiment_of(store).experiment_id])
        ids.append(run.info.run_id)
        connect(store).delete_run(run.info.run_id)
        run_log_metrics(Path("outputs/run"))

    run_log, _ = record(during=delete)
    assert run_log.is_blocked()
    assert f"mlflow runs restore --run-id {ids[0]}" in caplog.text


def test_run_directory_removed_while_the_run_is_created(store, own_directory, monkeypatch):
    """MLflow does not show it as RUNNING for ever, although no file says which run of the store it is."""
    removed = threading.Event()

    def remove(path, content):
        shutil.rmtree(path.parent)
        removed.set()
        write_json(path, content)

    monkeypatch.setattr(delivery, "write_json", remove)
    directory = own_directory / "outputs" / "run"
    directory.mkdir()
    tracking = Mlflow(uri=store, experiment_name="films")

    def fail():
        removed.wait(60)
        raise FileNotFoundError(directory)

    with pytest.raises(FileNotFoundError), tracking.start(RunInfo("run", directory, {"lr": 0.1}, {})):
        fail()
    (run,) = connect(store).search_runs([experiment_of(store).experiment_id])
    assert run.info.status == "FAILED"


@pytest.fixture(scope="module")
def running(tmp_path_factory, empty_store):
    """The address of a server that is not asked before training."""
    server = Server(tmp_path_factory.mktemp("server"), empty_store)
    try:
        server.start()
        yield server.uri
    finally:
        server.kill()


@pytest.fixture
def server(running, monkeypatch):
    """The address of a server that the user has named, and a client of it."""
    monkeypatch.setenv(servers.VARIABLE, running)
    return running, connect(running)


@pytest.mark.slow
def test_experiment_deleted_on_a_server_blocks_a_run_until_restored(server, own_directory, caplog):
    """`sync` uploads everything once the experiment is restored, as with a local store."""
    uri, client = server
    number = client.create_experiment("films")
    client.delete_experiment(number)
    with Mlflow(uri=uri, experiment_name="films").start(RunInfo("run", own_directory, {"lr": 0.1}, {})) as run_log:
        run_log.metrics({"eval_loss": 0.5}, 1)
    assert run_log.is_blocked()
    assert f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {number}" in caplog.text
    assert dispatch(["sync", str(own_directory)]) == FAILED
    client.restore_experiment(number)
    assert dispatch(["sync", str(own_directory)]) == 0
    (run,) = client.search_runs([number])
    assert (run.info.status, run.data.metrics["eval/loss"], run.data.params["lr"]) == ("FINISHED", 0.5, "0.1")


@pytest.mark.slow
def test_run_deleted_on_a_server_blocks_it_until_restored(server, own_directory, caplog):
    """An entry that was written after the deletion is there once the run is restored."""
    uri, client = server
    with Mlflow(uri=uri, experiment_name="books").start(RunInfo("run", own_directory, {}, {})) as run_log:
        wait_until_sent(own_directory)
        (run,) = client.search_runs([client.get_experiment_by_name("books").experiment_id])
        client.delete_run(run.info.run_id)
        run_log.metrics({"eval_loss": 0.5}, 1)
    assert run_log.is_blocked()
    assert f"MLFLOW_TRACKING_URI={uri} mlflow runs restore --run-id {run.info.run_id}" in caplog.text
    client.restore_run(run.info.run_id)
    assert dispatch(["sync", str(own_directory)]) == 0
    assert client.get_run(run.info.run_id).data.metrics["eval/loss"] == 0.5
