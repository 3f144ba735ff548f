"""A project directory that was moved or copied takes its MLflow store along."""

import shutil
from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.journal import Journal
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import ConfigError


def artifact(run_log, directory):
    """Log a file of the run."""
    path = directory / "metrics.json"
    path.write_text("{}")
    run_log.artifact(path)


@pytest.fixture
def moved(own_directory, empty_store, monkeypatch):
    """A project with one recorded run, renamed from `before` to `after`; the working directory is `after`."""
    before, after = own_directory / "before", own_directory / "after"
    directory = before / "outputs" / "films" / "run"
    directory.mkdir(parents=True)
    shutil.copy(empty_store, before / "outputs" / "mlflow.db")
    uri = f"sqlite:///{before}/outputs/mlflow.db"
    with Mlflow(uri=uri, experiment_name="films").start(RunInfo("run", directory, {}, {})) as run_log:
        artifact(run_log, directory)
    before.rename(after)
    monkeypatch.chdir(after)
    return after


def store_of(project):
    """The address of a project's store."""
    return f"sqlite:///{project}/outputs/mlflow.db"


def test_artifacts_of_a_moved_project_are_found(moved):
    """Those of old runs are read where they are now."""
    client = connect(store_of(moved))
    (run,) = client.search_runs([client.get_experiment_by_name("films").experiment_id])
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["metrics.json"]


def test_new_runs_of_a_moved_project_write_there(moved):
    """The old directory is not created again."""
    directory = moved / "outputs" / "films" / "new"
    directory.mkdir()
    with Mlflow(uri="sqlite:///outputs/mlflow.db", experiment_name="films").start(
        RunInfo("new", directory, {}, {})
    ) as log:
        artifact(log, directory)
    assert Journal(directory).is_delivered()
    assert not (moved.parent / "before").exists()
    assert len([*moved.glob("outputs/mlartifacts/films/*/artifacts/metrics.json")]) == 2


def test_sync_of_a_moved_project_uses_its_store(moved):
    """What waits is uploaded to the store that moved along, into the same run."""
    directory = moved / "outputs" / "films" / "run"
    Journal(directory).write_metrics({"eval/loss": 0.25}, 2)
    assert dispatch(["sync", "outputs/films/run"]) == 0
    client = connect(store_of(moved))
    (run,) = client.search_runs([client.get_experiment_by_name("films").experiment_id])
    assert run.data.metrics["eval/loss"] == 0.25
    assert not (moved.parent / "before").exists()


def test_sync_without_its_store_is_an_error(moved):
    """A store that is gone is not created at the recorded address."""
    Path("outputs/mlflow.db").unlink()
    with pytest.raises(ConfigError) as error:
        dispatch(["sync", "outputs/films/run"])
    assert error.value.problems[0].key == "--uri"
    assert not (moved.parent / "before").exists()
    assert not Path("outputs/mlflow.db").exists()


def test_store_of_a_copied_project_leaves_the_original_alone(moved):
    """Each copy has its own artifacts."""
    copy = moved.parent / "copy"
    connect(store_of(moved))
    shutil.copytree(moved, copy)
    for project in (copy, moved):
        client = connect(store_of(project))
        location = client.get_experiment_by_name("films").artifact_location
        assert location == f"file://{project}/outputs/mlartifacts/films"
