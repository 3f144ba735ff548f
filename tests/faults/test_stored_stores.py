"""A SQLite file that a stored address names is opened only if it belongs to the project or the run, or was typed."""

import json
import re
import shutil
import sqlite3
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_sweep import SPACE, fake, fake_study
from hydratune.cli import push
from hydratune.cli.main import dispatch
from hydratune.cli.train import checked, train
from hydratune.config import servers
from hydratune.config.composition import Request, composer
from hydratune.tracking.client import check_locations, connect
from hydratune.tracking.delivery import POINTER, Delivery, checked_pointer, pointer
from hydratune.tracking.journal import JOURNAL, Entry, Journal
from hydratune.tracking.relocation import COLUMNS
from hydratune.utils.errors import FAILED, ConfigError


@pytest.fixture
def database(own_directory, monkeypatch):
    """The SQLite file of another program."""
    monkeypatch.delenv(servers.VARIABLE, raising=False)
    path = own_directory.parent / "home" / "theirs.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE notes (text)")
    return path


def tables(path):
    """The names of the tables of a SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


ADDRESSES = [
    "sqlite:///{}",
    "sqlite:///../home/theirs.db",
    "sqlite:///outputs/../../home/theirs.db",
    "sqlite:///outputs/link.db",
    "sqlite+pysqlite:///{}",
    "SQLITE:///{}",
    " sqlite:///{}",
    "sqlite:///{}?mode=rwc",
    "sqlite:///file:{}?uri=true",
    "sqlite:///file:outputs/../../home/theirs.db?uri=true",
]


@pytest.mark.parametrize("uri", ADDRESSES)
@pytest.mark.parametrize("verb", ["sync", "ui", "compare"])
def test_stored_address_opens_no_file_elsewhere(foreign_run, database, verb, uri):
    """No table is created in it, however the address is written."""
    Path("outputs").mkdir()
    Path("outputs/link.db").symlink_to(database)
    folder = foreign_run(uri.format(database))
    with pytest.raises(ConfigError):
        dispatch([verb, *([folder, folder] if verb == "compare" else [folder])])
    assert tables(database) == ["notes"]
    assert not [*Path().rglob("mlartifacts")]


@pytest.mark.parametrize(
    "uri", ["file:///{}", "{}", "./mlruns", "mlruns", "databricks-uc:x", "evil-plugin://x", "uc:x"]
)
def test_stored_address_has_a_scheme_of_the_list(foreign_run, own_directory, uri):
    """File stores and plugins of MLflow are not reached."""
    folder = foreign_run(uri.format(own_directory / "there"))
    for verb in ("sync", "ui"):
        with pytest.raises(ConfigError):
            dispatch([verb, folder])
    assert sorted(path.name for path in own_directory.iterdir()) == ["run"]


def test_push_records_in_no_file_elsewhere(foreign_run, database, capsys):
    """The model is pushed all the same, and the error is printed."""
    push.record_push(Path(foreign_run(f"sqlite:///{database}")), "https://hub")
    assert tables(database) == ["notes"]
    assert str(database) in capsys.readouterr().err


@pytest.mark.usefixtures("database")
def test_typed_address_is_opened_now_and_later(foreign_run, own_directory):
    """Positive control: the user's own directory, typed once; the journal's address is enough later."""
    uri = f"sqlite:///{own_directory}/mine, too.db"
    folder = foreign_run(uri)
    assert dispatch(["sync", folder, "--uri", uri]) == 0
    assert dispatch(["sync", folder]) == 0
    assert checked_pointer(Path(folder))["uri"] == uri


@pytest.mark.usefixtures("database")
def test_store_inside_the_run_is_opened(foreign_run, own_directory, empty_store):
    """A directory that was copied as a whole has its store with it."""
    folder = foreign_run(f"sqlite:///{own_directory}/run/mlflow.db")
    shutil.copy(empty_store, own_directory / "run" / "mlflow.db")
    assert dispatch(["sync", folder]) == 0


@pytest.mark.usefixtures("database")
def test_artifacts_stay_next_to_a_store(foreign_run, own_directory, empty_store, monkeypatch):
    """A store of someone else can have its artifacts in any directory; the entry is refused and reported.

    Naming the file does not name the directory. The control is that the user lists it.
    """
    target = own_directory.parent / "home" / ".config"
    uri = f"sqlite:///{own_directory}/run/mlflow.db"
    folder = foreign_run(uri)
    shutil.copy(empty_store, own_directory / "run" / "mlflow.db")
    connect(uri).create_experiment("e", artifact_location=target.as_uri())
    (Path(folder) / "autostart").write_text("x")
    with (Path(folder) / JOURNAL).open("a") as file:
        file.write(json.dumps({"kind": "artifact", "path": "autostart", "folder": ""}) + "\n")
    for flags in ([], ["--uri", uri]):
        assert dispatch(["sync", folder, *flags]) == FAILED
        assert not target.exists()
        (Path(folder) / "tracking.sent").unlink()
    monkeypatch.setenv(servers.VARIABLE, target.parent.as_uri())
    assert dispatch(["sync", folder, "--uri", uri]) == 0
    assert [*target.rglob("autostart")]


def test_stored_overrides_are_not_typed(own_directory, database):
    """Resuming a run of someone else opens no store elsewhere."""
    folder = own_directory / "run"
    (folder / ".hydra").mkdir(parents=True)
    typed = ["dataset=digits", f"tracking.uri=sqlite:///{database}"]
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(typed))
    hydra = {"runtime": {"cwd": str(own_directory), "config_sources": []}}
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": hydra}))
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", str(folder), "--dry-run"])
    assert [problem.key for problem in caught.value.problems] == ["tracking.uri"]
    assert tables(database) == ["notes"]
    with composer(request := Request(tuple(typed))):  # positive control: the same, typed
        checked(request)


@pytest.mark.parametrize("key", ["tracking.uri", "sweep.storage"])
def test_stored_sweep_opens_no_file_elsewhere(database, own_directory, key):
    """Neither its report nor its retraining creates the tables of a study."""
    fake_study(["dataset=digits", *SPACE], fake(1e-3, 0, 0.5))
    (path,) = own_directory.glob("multirun/*/sweep.json")
    plan = json.loads(path.read_text())
    overrides = [*plan["overrides"], f"++{key}=sqlite:///{database}"]
    path.write_text(json.dumps({**plan, "overrides": overrides}))
    for verb in ("report", "finish"):
        with pytest.raises(ConfigError) as caught:
            dispatch(["sweep", verb, str(path.parent)])
        assert [problem.key for problem in caught.value.problems] == [key]
    assert tables(database) == ["notes"]


def test_swept_address_of_a_config_file(own_directory, database, monkeypatch):
    """A search space of a config file is checked like its values."""
    path = own_directory / "conf" / "experiment" / "theirs.yaml"
    path.parent.mkdir(parents=True)
    params = {"tracking.uri": f"sqlite:///{database},sqlite:///outputs/x.db"}
    path.write_text("# @package _global_\n" + json.dumps({"sweep": {"params": params}}))
    monkeypatch.setattr("hydratune.cli.train.preflight", lambda configs, *_, **__: [*configs])
    with pytest.raises(ConfigError) as caught:
        train(["-m", "--config-dir", "conf", "dataset=digits", "experiment=theirs", "--dry-run"])
    assert [problem.key for problem in caught.value.problems] == ["tracking.uri"]


@pytest.mark.parametrize("text", ["[]", "1", '"x"', "null", "{}", '{"uri": 1, "experiment_id": "1", "run_id": "r"}'])
def test_pointer_that_is_no_object(own_directory, text):
    """A file with other content names no run."""
    (own_directory / POINTER).write_text(text)
    assert pointer(own_directory) is None


class ChangingStore:
    """Client of a store that names another artifact location whenever it is asked again, as a view of SQLite can."""

    def __init__(self, *locations):
        self._locations = [*locations]

    def get_run(self, _):
        location = self._locations.pop(0) if len(self._locations) > 1 else self._locations[0]
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=str(location)))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_artifacts_are_written_where_it_was_checked(own_directory, foreign_run, scheme):
    """The location is read once."""
    uri, elsewhere = f"sqlite:///{own_directory}/outputs/mlflow.db", own_directory.parent / "elsewhere"
    folder = Path(foreign_run(uri))
    (folder / POINTER).write_text(json.dumps({"uri": uri, "experiment_id": "1", "run_id": "2"}))
    (folder / "payload.txt").write_text("x")
    own = own_directory / "outputs" / "mlartifacts"
    client = ChangingStore(f"{scheme}{own}", f"{scheme}{elsewhere}")
    upload = Delivery(client, uri, folder)
    for path in ("payload.txt", "payload.txt"):
        upload(Entry("artifact", {"path": path, "folder": ""}, 0))
    assert (own / "payload.txt").is_file()
    assert not elsewhere.exists()


RUN = {
    "kind": "run",
    "key": "k",
    "experiment": "e",
    "name": "n",
    "tags": {},
    "began": 0,
    "uri": "sqlite:///outputs/x.db",
}
INVALID = [
    *({**RUN, "uri": uri} for uri in (["http://evil.example"], {"a": "http://evil.example"}, None, 1)),
    *({**RUN, name: ["x"]} for name in ("kind", "key", "experiment", "name", "tags", "began")),
    {**RUN, "tags": {"hydratune.directory": ["x"]}},
    {"kind": "continue", "tags": {"a": 1}},
    {"kind": "params", "params": {"a": None}},
    {"kind": "artifact", "path": ["x"], "folder": ""},
    {"kind": "status", "status": "FINISHED", "ended": "x"},
    *(
        {"kind": "metrics", "points": [point]}
        for point in (["a", "x", 0, 0], [["a"], 1.0, 0, 0], ["a", 1.0, 0], "abcd", 1)
    ),
]


@pytest.mark.parametrize("values", INVALID, ids=json.dumps)
def test_entry_with_another_type_is_skipped(own_directory, values):
    """A journal of someone else may be JSON with any values; the rest of it counts."""
    point = {"kind": "metrics", "points": [["loss", 0.5, 1, 2], ["loss", 1, 1, 3]]}
    (own_directory / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in (RUN, values, point)))
    journal = Journal(own_directory)
    assert journal.damaged == 1
    assert [entry.kind for entry in journal.entries(0)] == ["run", "metrics"]  # positive control
    assert journal.uri == RUN["uri"]


@pytest.mark.parametrize("place", ["private", "link", "hidden"])
def test_compare_reads_artifacts_next_to_the_store_only(own_directory, tmp_path, place, monkeypatch):
    """Neither elsewhere, through a link, nor in a hidden directory; the control is a directory that the user lists."""
    from hydratune.evaluation.compare.runs import open_run

    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "config.yaml").write_text("name: CANARY\n")
    uri = f"sqlite:///{own_directory}/theirs/mlflow.db"
    client = connect(uri)
    folder = {
        "private": tmp_path / "private",
        "link": own_directory / "theirs/x",
        "hidden": own_directory / "theirs/.x",
    }
    folder["link"].parent.mkdir(exist_ok=True)
    folder["link"].symlink_to(tmp_path / "private")
    shutil.copytree(tmp_path / "private", folder["hidden"])
    run_id = client.create_run(client.create_experiment("e")).info.run_id
    with closing(sqlite3.connect(own_directory / "theirs/mlflow.db")) as connection, connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (str(folder[place]),))
    servers.confirm_typed(["--uri", uri])
    assert open_run("A", client, run_id, None).config == {}
    monkeypatch.setenv(servers.VARIABLE, f"file://{tmp_path}")
    assert open_run("A", client, run_id, None).config["name"] == "CANARY"


def test_ui_shows_artifacts_of_no_other_directory(own_directory, tmp_path, monkeypatch):
    """MLflow's server would read any file of the directory; it starts if the user lists the directory."""
    (tmp_path / "private").mkdir()
    uri = f"sqlite:///{own_directory}/theirs/mlflow.db"
    connect(uri).create_experiment("e", artifact_location=(tmp_path / "private").as_uri())
    path = own_directory / "theirs" / "mlflow.db"
    with pytest.raises(ConfigError) as caught:
        dispatch(["ui", "--uri", uri, "--no-browser", "--port", "47391"])
    assert "private" in caught.value.problems[0].text
    monkeypatch.setenv(servers.VARIABLE, (tmp_path / "private").as_uri())
    check_locations(path)


PLACES = [
    "UPDATE experiments SET artifact_location = ?",
    "INSERT INTO workspaces (name, default_artifact_root) VALUES ('w', ?)",
    "INSERT INTO workspaces (name, trace_archival_location) VALUES ('w', ?)",
    "INSERT INTO trace_tags (request_id, key, value) VALUES ('t', 'mlflow.artifactLocation', ?)",
    "INSERT INTO trace_tags (request_id, key, value) VALUES ('t', 'mlflow.trace.archiveLocation', ?)",
]


@pytest.mark.parametrize("statement", PLACES)
def test_ui_shows_files_of_no_other_directory_in_any_place(own_directory, tmp_path, statement):
    """Of traces and workspaces too; the control is a directory next to the store."""
    private, own = tmp_path / "private", own_directory / "theirs" / "mlartifacts"
    uri, path = f"sqlite:///{own_directory}/theirs/mlflow.db", own_directory / "theirs" / "mlflow.db"
    connect(uri).create_experiment("e", artifact_location=own.as_uri())
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    for database, folder, is_allowed in ((path, own, True), (copy, private, False)):
        folder.mkdir(exist_ok=True)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(statement, (str(folder),))
        with nullcontext() if is_allowed else pytest.raises(ConfigError):
            check_locations(database)


def make_stale_index(database, index, statement, value):
    """Create an index, and change the table without it."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(index)
        (row,) = connection.execute("SELECT * FROM sqlite_master WHERE sql = ?", (index,))
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE sql = ?", (index,))
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(statement, (value,))
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)


@pytest.mark.parametrize("columns", ["artifact_location", "name, artifact_location", "lower(artifact_location)"])
@pytest.mark.parametrize("shown", ["table", "index"])
def test_index_with_other_locations_is_rejected(own_directory, tmp_path, columns, shown):
    """SQLite and MLflow could read a location from the table or from an index of it that differs."""
    private, own = tmp_path / "private", own_directory / "theirs" / "mlartifacts"
    uri, path = f"sqlite:///{own_directory}/theirs/mlflow.db", own_directory / "theirs" / "mlflow.db"
    for folder in (private, own):
        folder.mkdir(exist_ok=True, parents=True)
    first, last = (own, private) if shown == "table" else (private, own)
    connect(uri).create_experiment("e", artifact_location=first.as_uri())
    if first is own:
        check_locations(path)
    make_stale_index(
        path, f"CREATE INDEX i ON experiments({columns})", "UPDATE experiments SET artifact_location = ?", last.as_uri()
    )
    with pytest.raises(ConfigError):
        check_locations(path)


def change_table(database, table, change):
    """Replace a table by one whose definition is changed, with the same rows."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA legacy_alter_table = ON")
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        connection.execute(f"ALTER TABLE {table} RENAME TO old")
        assert change(sql) != sql
        connection.execute(change(sql))
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        names = ", ".join(columns)
        connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM old")  # noqa: S608 (constants)
        connection.execute("DROP TABLE old")


def computed(column, expression):
    """Return a change of a definition, by which SQLite computes a column."""
    definition = rf"\b{column} VARCHAR\(\d+\)"
    return lambda sql: re.sub(definition, rf"\g<0> GENERATED ALWAYS AS ({expression})", sql, count=1)


def referring(columns, action):
    """Return a change of a definition, by which an action of a foreign key sets columns."""
    reference = f", FOREIGN KEY ({columns}) REFERENCES experiment_tags (key, value) {action})"
    return lambda sql: sql.rstrip()[:-1] + reference


COMPUTED = {
    "expression": ("runs", computed("artifact_uri", "CASE status WHEN 'KILLED' THEN 'file:///elsewhere' END")),
    "expression of a trace": ("trace_tags", computed("value", "request_id")),
    "updated": ("experiments", referring("name, artifact_location", "ON UPDATE SET DEFAULT")),
    "deleted": ("runs", referring("name, artifact_uri", "ON DELETE SET NULL")),
}
PLAIN = {
    "other column": ("runs", computed("source_name", "name")),
    "other action": ("runs", referring("name, artifact_uri", "ON DELETE CASCADE ON UPDATE RESTRICT")),
}


@pytest.mark.parametrize(("table", "change"), [*COMPUTED.values(), *PLAIN.values()], ids=[*COMPUTED, *PLAIN])
def test_ui_shows_no_locations_that_sqlite_computes(own_directory, table, change):
    """They could lead elsewhere after the check, when hydratune or MLflow changes another value."""
    uri, path = f"sqlite:///{own_directory}/theirs/mlflow.db", own_directory / "theirs" / "mlflow.db"
    connect(uri)
    check_locations(path)
    change_table(path, table, change)
    with nullcontext() if (table, change) in PLAIN.values() else pytest.raises(ConfigError):
        check_locations(path)


# Columns whose names are those of places, and that name no directory whose files MLflow's server shows.
OTHER_COLUMNS = {
    "source_type", "source_id", "source_run_id", "source_name", "source_version",
    "dataset_source_type", "dataset_source", "resource_type", "resource_id", "root_causes",
}  # fmt: skip
OTHER_PLACES = {("evaluation_dataset_records", "source"), ("mcp_server_versions", "source")}


def test_each_column_with_a_location_is_checked(own_directory):
    """A new release of MLflow may add columns; one that names a place must be listed, here or in the source."""
    connect(f"sqlite:///{own_directory}/mlflow.db")
    with closing(sqlite3.connect(own_directory / "mlflow.db")) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")}
    places = {place for place in columns if re.search("location|uri|source|root|path|director|artifact", place[1])}
    listed = {(table, column) for table, column, _ in COLUMNS}
    assert listed <= columns
    assert {place for place in places - listed - OTHER_PLACES if place[1] not in OTHER_COLUMNS} == set()


def test_each_tag_with_a_location_is_checked():
    """The names of tags that name a place are constants of MLflow."""
    from mlflow.tracing.constant import TraceTagKey

    names = {value for value in vars(TraceTagKey).values() if str(value).lower().endswith(("location", "uri"))}
    (condition,) = (condition for table, _, condition in COLUMNS if table == "trace_tags")
    assert {name for name in names - {TraceTagKey.SPANS_LOCATION} if name not in condition} == set()
