"""Only servers and databases that the user has named are sent anything."""

import contextlib
import netrc
import os
from urllib.parse import quote

import pytest
import requests as http
from aiohttp.helpers import basicauth_from_netrc

from hydratune.cli.main import dispatch
from hydratune.cli.train import checked
from hydratune.config import servers
from hydratune.config.composition import Request, composer
from hydratune.tracking.client import check_artifacts
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PathEscapeError

SECRET = "canary-9d1f"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """A token, a secret, and no servers of the process that runs the tests."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("MY_SECRET", SECRET)
    for name in (servers.VARIABLE, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def requests(monkeypatch):
    """The requests of this process: address and headers of each."""
    sent = []

    def send(_self, request, **_):
        sent.append(f"{request.url} {dict(request.headers)} {request.body}")
        raise OSError("no network in tests")

    monkeypatch.setattr("requests.Session.send", send)
    return sent


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
def test_stored_address_receives_no_secret(foreign_run, requests, verb, uri):
    """Neither the token nor a variable, by another host, port or protocol than those that the user named."""
    servers.confirm_typed(["--uri", "https://good.example"])
    folder = foreign_run(uri)
    with contextlib.suppress(ConfigError, SystemExit):
        dispatch([verb, *([folder, folder] if verb == "compare" else [folder])])
    assert not [request for request in requests if SECRET in request]


def test_typed_address_receives_the_token(foreign_run, requests):
    """Positive control: the same commands send it to a server that was typed, now and later."""
    folder = foreign_run("https://good.example")
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
        ("https://listed.example/path", False),
        ("https://variable.example", False),
        ("https://typed.example:443", False),
        ("sqlite:///x.db", False),
    ],
)
def test_error_depends_on_who_named_the_server(monkeypatch, uri, is_refused):
    """The command line, also by a variable, and the environment; a file of the user remembers the first."""
    monkeypatch.setenv("TYPED", "https://typed.example")
    servers.confirm_typed(["seed=1", "++tracking.uri='${oc.env:TYPED}'"])
    monkeypatch.delenv("TYPED")
    monkeypatch.setenv(servers.VARIABLE, "https://listed.example,https://me:pass@variable.example/mlflow")
    assert (servers.problem(uri, "uri") is not None) == is_refused


def test_config_file_cannot_send_a_variable(own_directory, monkeypatch):
    """An address of a file that puts a value of the environment into a request is refused, before anything starts."""
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    file = own_directory / "conf" / "experiment" / "evil.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\ntracking: {uri: 'https://evil.example/${oc.env:MY_SECRET}'}\n")
    with pytest.raises(ConfigError) as caught:
        dispatch(["--config-dir", "conf", "experiment=evil", "--dry-run"])
    assert [problem.key for problem in caught.value.problems] == ["tracking.uri"]
    assert SECRET not in str(caught.value)


def test_servers_are_passed_to_processes(own_directory):
    """A worker on another machine knows what was typed here."""
    servers.confirm_typed(["--uri=https://good.example"])
    assert os.environ[servers.VARIABLE] == "https://good.example:443"
    assert not list(own_directory.iterdir())


PASSWORDS = ["one@CANARY", "CANARY@two", "one/CANARY", "one?CANARY", "one#CANARY", "12/CANARY", "one:CANARY#@x/CANARY"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["https", "postgresql", "mysql+pymysql", "https:/", "other"])
def test_password_that_is_not_encoded_is_an_error(monkeypatch, own_directory, password, scheme):
    """Clients would take a part of it for the host, and ask a name server; no part is printed or recorded."""
    uri = f"{scheme}://me:{password}@good.example/db"
    monkeypatch.setenv("STORE", uri)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_directory))
    servers.confirm_typed(["--uri", "${oc.env:STORE}"])
    problem = servers.problem(uri, "tracking.uri")
    assert "%40" in problem.hint
    assert "CANARY" not in f"{problem} {os.environ.get(servers.VARIABLE)} {_files(own_directory)}"
    assert not servers.is_confirmed(uri)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["https", "postgresql", "mysql+pymysql"])
def test_encoded_password_is_accepted(monkeypatch, own_directory, password, scheme):
    """Positive control: the same password, as the hint demands; the record names the host alone."""
    uri = f"{scheme}://me:{quote(password, safe='')}@good.example/db"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_directory))
    servers.confirm_typed(["--uri", uri])
    assert servers.problem(uri, "tracking.uri") is None
    assert "good.example" in _files(own_directory)
    assert "CANARY" not in _files(own_directory)


def _files(directory):
    return " ".join(path.read_text() for path in directory.rglob("*") if path.is_file())


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
    from hydratune.config.validate import check_config

    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    servers.confirm_typed(["sweep.storage=postgresql://good.example:5432/db", "--uri=https://good.example"])
    text = uri.format("${oc.env:MY_SECRET}")
    with pytest.raises(ConfigError) as caught:
        check_config(compose(f"{key}='{text}'"))
    assert {problem.key for problem in caught.value.problems} == {key}


def test_confirmed_database_receives_its_password(compose):
    """A password from the environment goes to the host that was typed, and is not recorded with it."""
    from hydratune.config.validate import check_config

    typed = "sweep.storage='postgresql+psycopg://me:${oc.env:MY_SECRET}@good.example:5432/db?host=/run/pg'"
    servers.confirm_typed([typed])
    check_config(compose(typed))
    assert SECRET not in os.environ[servers.VARIABLE]


CHANGED = [
    "host=evil.example",
    "hostaddr=10.0.0.1",
    "service=evil",
    "read_default_file=/tmp/evil.cnf",
    "option_files=/tmp/evil.cnf",
    "Server=evil.example",
    "failover_partner=evil.example",
    "passfile=/home/me/.secrets",
    "sslkey=/home/me/.ssh/id_rsa",
    "sslmode=disable",
]


@pytest.mark.parametrize("parameter", CHANGED)
@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql", "mssql+pyodbc"])
def test_parameter_of_a_database_needs_to_be_typed(scheme, parameter):
    """A parameter can lead to another server, or to a file with a password; passwords themselves do not matter."""
    address = f"{scheme}://good.example:5432/db"
    servers.confirm_typed([f"sweep.storage={address}"])
    assert servers.problem(f"{address}?{parameter}", "uri") is not None
    assert servers.problem(f"{address}?password={SECRET}", "uri") is None
    servers.confirm_typed([f"sweep.storage={address}?{parameter}"])
    assert servers.problem(f"{address}?{parameter}&password={SECRET}", "uri") is None
    assert SECRET not in os.environ[servers.VARIABLE]


HIDDEN = [
    "host=sk-0123456789abcdef0123.evil.example",  # looks like a token
    "host=hf_0123456789abcdef0123.evil.example",
    "service=npm_0123456789abcdef0123456789abcdef0123",
    "host={}.evil.example",  # would be asked of a name server
    "hostaddr={}",
    "application_name={}",
    "options={}",
    "token={}",
    "credentials=/home/me/.secrets",
    "require_auth=password",
]


@pytest.mark.parametrize("parameter", HIDDEN)
@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
def test_parameter_that_looks_like_a_secret_is_compared(scheme, parameter):
    """Only passwords are left out of an address; the control is a password with the same value."""
    address = f"{scheme}://good.example:5432/db"
    servers.confirm_typed([f"sweep.storage={address}"])
    assert servers.problem(f"{address}?{parameter.format(SECRET)}", "uri") is not None
    assert servers.problem(f"{address}?password={parameter.format(SECRET).partition('=')[2]}", "uri") is None
    assert SECRET not in os.environ[servers.VARIABLE]


PIECES = ["hunter2horse=paddock", "hunter2horse", "&hunter2horse=x", "hunter2horse==", "%68unter2horse=x"]


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql", "mssql+pyodbc"])
def test_piece_of_a_password_is_not_recorded(monkeypatch, own_directory, scheme, piece):
    """After an `&` that is not encoded, a piece of the password is a parameter, which would be part of the address."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_directory))
    uri = f"{scheme}://good.example:5432/db?password=one&{piece}"
    servers.confirm_typed(["--uri", uri])
    texts = f"{servers.problem(uri, 'uri')} {os.environ.get(servers.VARIABLE)} {_files(own_directory)}"
    assert "unter2horse" not in texts
    servers.confirm_typed(["--uri", f"{scheme}://good.example:5432/db?application_name=hunter2horse"])
    assert "hunter2horse" in _files(own_directory)  # positive control: a parameter of the drivers is recorded


UNREADABLE = [
    "http:/evil.example",
    "http:evil.example",
    "http:\\\\evil.example",
    "http+x://evil.example",
    "https+unix://evil",
]
NAMES = [
    "databricks",
    "databricks://profile",
    "databricks://scope:prefix",
    "DATABRICKS://profile",
    "databricks+x://host",
]


@pytest.mark.parametrize(
    "uri", [*UNREADABLE, *NAMES, "sftp://evil.example/x", "redis://evil.example/0", "mariadb://evil/x"]
)
def test_address_that_is_not_sqlite_needs_to_be_typed(uri):
    """A client may read an address that this module cannot read."""
    servers.confirm_typed(["--uri", "https://good.example"])
    assert servers.problem(uri, "uri") is not None
    assert servers.problem("https://good.example", "uri") is None
    assert servers.problem("sqlite:///outputs/mlflow.db", "uri") is None


@pytest.mark.parametrize("uri", NAMES[:3])
def test_typed_workspace_is_confirmed(monkeypatch, uri):
    """By the command line or a variable, as for other servers; another profile is not."""
    servers.confirm_typed([f"tracking.uri={uri}"])
    assert servers.problem(uri, "uri") is None
    assert servers.problem("databricks://other", "uri") is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "databricks://other")
    assert servers.problem("databricks://other", "uri") is None


@pytest.mark.parametrize(
    "name", ["CI_COMMIT_MESSAGE", "CI_MERGE_REQUEST_SOURCE_PROJECT_URL", "GIT_URL", "STORE", "SSH_ORIGINAL_COMMAND"]
)
@pytest.mark.parametrize(
    "uri", ["https://evil.example", "postgresql://evil.example/db", "databricks://evil", "sqlite:////elsewhere/x.db"]
)
def test_variable_that_others_can_write_names_no_store(own_directory, monkeypatch, name, uri):
    """CI puts the text of a commit or the address of a fork into variables; a config that reads them needs consent."""
    monkeypatch.setenv(name, uri)
    assert not servers.is_confirmed(uri)
    assert servers.problem(uri, "uri") or servers.stored_problem(uri, own_directory, "uri")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # positive control: a variable of MLflow's clients
    assert servers.is_confirmed(uri)


UNTYPED = [
    ("tracking.uri", "https://evil.example"),
    ("tracking.uri", "http://127.0.0.1:5000"),
    ("tracking.uri", "databricks"),
    ("tracking.uri", "databricks://profile"),
    ("tracking.uri", "postgresql://evil.example/db"),
    ("sweep.storage", "mysql://evil.example/db"),
    ("sweep.storage", "postgresql://evil.example/db?passfile=/home/me/.pgpass"),
    ("sweep.storage", "postgresql://good.example:5432/db?service=evil"),
]


@pytest.mark.parametrize(("key", "uri"), UNTYPED)
def test_server_of_a_config_file_needs_to_be_typed_once(own_directory, monkeypatch, key, uri):
    """It receives the rows in a record, and clients send passwords of `~/.netrc` and `~/.pgpass` to any host."""
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    servers.confirm_typed(["sweep.storage=postgresql://good.example:5432/db"])
    file = own_directory / "conf" / "experiment" / "theirs.yaml"
    file.parent.mkdir(parents=True)
    group, name = key.split(".")
    file.write_text(f"# @package _global_\n{group}: {{{name}: '{uri}'}}\n")
    request = Request(("dataset=digits", "experiment=theirs"), config_dir=own_directory / "conf")
    with composer(request), pytest.raises(ConfigError) as caught:
        checked(request)
    assert [problem.key for problem in caught.value.problems] == [key]
    servers.confirm_typed([f"{key}={uri}"])
    with composer(request):  # positive control: from now on, the file may name it
        checked(request)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "good.example.evil.example"])
def test_default_login_is_sent_to_nobody(own_directory, monkeypatch, host):
    """An entry of ~/.netrc for a host goes there; without the guard, the default entry goes anywhere."""
    file = own_directory / "netrc"
    file.write_text(f"machine good.example login me password good\ndefault login me password {SECRET}\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert http.utils.get_netrc_auth(f"http://{host}/x") == ("me", SECRET)
    monkeypatch.setattr(netrc.netrc, "authenticators", netrc.netrc.authenticators)  # restored after the test
    servers.ignore_default_login()
    assert http.utils.get_netrc_auth(f"http://{host}/x") is None
    assert http.utils.get_netrc_auth("http://good.example/x") == ("me", "good")
    with pytest.raises(LookupError):  # fsspec downloads data files by aiohttp
        basicauth_from_netrc(netrc.netrc(str(file)), host)


LOCATIONS = [
    "http://evil.example/x",
    "https://evil.example",
    "mlflow-artifacts://evil.example/x",
    "mlflow-artifacts://good.example:81",
    "http:/evil.example/x",
    "ftp://evil.example/x",
    "sftp://me@evil.example/x",
    "hdfs://evil.example:9000/x",
    "r2://bucket@evil.example/x",  # the client makes https://evil.example of it
    "b2://bucket@evil.example/x",
    "abfss://files@account.evil.example/x",  # receives a token of Azure
    "wasbs://files@account.blob.core.windows.net.evil.example/x",
    "abfss://files@evil.example\\@account.dfs.core.windows.net/x",
    "runs:/0123456789abcdef0123456789abcdef/x",  # leads to the location of another run
    "models:/name/1",
    "dbfs://profile@databricks/x",
    "plugin://evil.example/x",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_artifact_location_receives_no_token(location):
    """A store names where artifacts are; MLflow's client sends the token to that host too."""
    servers.confirm_typed(["--uri", "https://good.example"])
    with pytest.raises(PathEscapeError):
        check_artifacts("https://good.example", location)


@pytest.mark.parametrize(
    "location",
    [
        *("mlflow-artifacts:/1/x", "https://good.example/x", "s3://bucket/x", "gs://bucket/x", "file:///data/x"),
        *("dbfs:/databricks/x", "abfss://files@account.dfs.core.windows.net/x", "wasbs://c@a.blob.core.windows.net/x"),
    ],
)
def test_artifact_location_of_a_named_server(location):
    """Positive control: the server itself, other storage, and directories that the user's own server chooses."""
    servers.confirm_typed(["--uri", "https://good.example"])
    check_artifacts("https://good.example", location)


@pytest.mark.parametrize(
    "location",
    [
        *("file:///home/x", "/home/x", "file:///run/store/../x", "http://evil.example", "s3://b/x"),
        *("/run/store/x?/../../../home", "/run/store/x#/../../../home", "FILE:///run/store/x"),
    ],
)
@pytest.mark.parametrize("uri", ["sqlite:////run/store/mlflow.db", "https://other.example"])
def test_artifact_location_of_another_store(uri, location):
    """Neither a directory of this machine, nor, of a SQLite file, any other place than its own directory."""
    if location == "s3://b/x" and uri.startswith("https"):
        pytest.skip("a server may keep its artifacts in other storage")
    with pytest.raises(PathEscapeError):
        check_artifacts(uri, location)
    check_artifacts("sqlite:////run/store/mlflow.db", "file:///run/store/mlartifacts/x")
