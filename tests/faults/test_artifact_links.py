"""Links among the artifacts of a shipped store: an upload writes through none of them."""

import os
import sqlite3
from pathlib import Path

import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from hydratune.sweep import storage
from hydratune.tracking import logged_models
from hydratune.tracking.client import artifact_repository, connect, experiment_id, local_folder
from hydratune.tracking.entries import ModelEntry
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PathEscapeError
from hydratune.utils.sqlite_files import schema_problem

LINKS = {"requirements.txt": "victim.txt", "components": "victims", "new.txt": "missing.txt"}


@pytest.fixture
def victim(own_directory):
    """Return a directory of the user, outside the artifacts, and create a payload for each of its files."""
    folder = own_directory.parent / "home"
    (folder / "victims").mkdir(parents=True)
    (folder / "victim.txt").write_text("precious")
    payload = own_directory / "outputs" / "x" / "payload"
    (payload / "components").mkdir(parents=True)
    for name in ("requirements.txt", "new.txt", "components/evil.sh"):
        (payload / name).write_text("evil")
    return folder


def files_of(folder):
    """Return the names of files and their content."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("is_relative", [False, True])
def test_model_is_not_uploaded_through_a_link(store, own_directory, victim, name, is_relative):
    """The store lists the model as pending, so that its files would be uploaded into its location again."""
    client = connect(store)
    experiment, run_directory = experiment_id(client, store, "e"), own_directory / "outputs" / "x"
    run_id = client.create_run(experiment).info.run_id
    model = client.create_logged_model(experiment, "m", run_id, {logged_models.MODEL_KEY: f"{run_id}/m"}, {})
    location = local_folder(model.artifact_location)
    location.mkdir(parents=True)
    target = victim / LINKS[name]
    (location / name).symlink_to(os.path.relpath(target, location) if is_relative else target)
    entry = ModelEntry(folder="payload", name="m", step=1, metrics=(), params={})
    with pytest.raises(PathEscapeError):
        logged_models.record(client, store, experiment, run_id, run_directory, entry)
    assert files_of(victim) == {"victim.txt": "precious"}
    (location / name).unlink()
    logged_models.record(client, store, experiment, run_id, run_directory, entry)  # positive controls
    assert files_of(location) == files_of(run_directory / "payload")
    assert files_of(victim) == {"victim.txt": "precious"}


@pytest.mark.parametrize("name", LINKS)
def test_mlflow_follows_links(own_directory, victim, name):
    """Positive control: MLflow itself copies a folder through the link."""
    location = own_directory / "artifacts"
    location.mkdir()
    (location / name).symlink_to(victim / LINKS[name])
    LocalArtifactRepository(str(location)).log_artifacts("outputs/x/payload")
    assert "evil" in files_of(victim).values()


def test_links_among_the_artifacts_are_allowed(store, own_directory):
    """They lead nowhere else."""
    location = own_directory / "outputs" / "mlartifacts" / "e" / "x"
    location.mkdir(parents=True)
    (location / "link").symlink_to("file")
    assert artifact_repository(store, location.as_uri())
    (location / "link2").symlink_to(Path("../../../mlflow.db"))
    with pytest.raises(PathEscapeError):
        artifact_repository(store, location.as_uri())


TRIGGER = """create trigger t after insert on runs begin
    update runs set artifact_uri = 'file:///elsewhere' where run_uuid = NEW.run_uuid; end"""


@pytest.mark.parametrize(
    "sql", [TRIGGER, TRIGGER.upper().replace("NEW.RUN_UUID", "new.run_uuid"), "create view v as select 1"]
)
def test_store_that_changes_what_it_stores_is_refused(store, sql):
    """It could choose a directory that it shipped, or another one, as the location of a new run."""
    client = connect(store)  # positive control: MLflow's own trigger is allowed
    experiment = experiment_id(client, store, "e")
    with sqlite3.connect(store.removeprefix("sqlite:///")) as connection:
        connection.execute(sql)
    connection.close()
    if "trigger" in sql:  # positive control
        run = client.create_run(experiment)
        assert client.get_run(run.info.run_id).info.artifact_uri == "file:///elsewhere"
    for open_store in (connect, storage.connect):
        with pytest.raises(ConfigError):
            open_store(store)


SCHEMAS = {
    "type of a trigger": [TRIGGER, "update sqlite_master set type = 'TRIGGER' where name = 't'"],
    "type of a table": [TRIGGER, "update sqlite_master set type = 'table' where name = 't'"],
    "comment": [TRIGGER, "update sqlite_master set sql = replace(sql, 'CREATE ', 'CREATE /**/ ') where name = 't'"],
    "type of a view": ["create view v as select 1", "update sqlite_master set type = 'VIEW' where name = 'v'"],
    "virtual table": ["create virtual table v using fts5(x)"],
}


@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_schema_that_sqlite_does_not_write_is_refused(store, statements):
    """SQLite executes the text of an entry, whatever its type is."""
    path = Path(store.removeprefix("sqlite:///"))
    connect(store)
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("pragma writable_schema = on")
        for statement in statements:
            connection.execute(statement)
    connection.close()
    assert schema_problem(path, "tracking.uri").key == "tracking.uri"


def test_trigger_of_mlflow_changes_nothing(store):
    """Positive control: it has one, which only rejects values."""
    with sqlite3.connect(store.removeprefix("sqlite:///")) as connection:
        assert connection.execute("select name from sqlite_master where type = 'trigger'").fetchall()
    connection.close()
    assert schema_problem(Path(store.removeprefix("sqlite:///")), "tracking.uri") is None
