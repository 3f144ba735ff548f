"""`hydratune ui` serves the store of a run on loopback, and to nobody else."""

import json
import socket
import subprocess
import sys

import pytest

from hydratune.cli import ui
from hydratune.cli.open_browser import open_when_ready
from hydratune.cli.study_server import only_for_hosts
from hydratune.cli.ui import pointers
from hydratune.tracking.client import connect
from hydratune.utils.errors import ConfigError
from mlflow_server import answer, serving


@pytest.mark.slow
def test_serves_a_run(train, toy, store):
    """The printed address is that of the run's experiment; artifacts can be read; a foreign Host is refused."""
    assert store
    result = train(*toy, "trainer.args.max_steps=1")
    pointer = json.loads((result.directory / "mlflow.json").read_text())
    with serving(result.directory) as (base, line):
        assert f"{base}/#/experiments/{pointer['experiment_id']}/runs?workflowType=machine_learning" in line
        _, body = answer(f"{base}/api/2.0/mlflow/runs/get?run_id={pointer['run_id']}")
        assert json.loads(body)["run"]["info"]["status"] == "FINISHED"
        _, body = answer(f"{base}/get-artifact?path=metrics.json&run_uuid={pointer['run_id']}")
        assert json.loads(body)["test_accuracy"] == result.metrics["test_accuracy"]
        assert answer(base, Host="evil.com")[0] == 403


@pytest.mark.slow
def test_a_run_is_recorded_by_a_server(train, toy, store):
    """`tracking.uri=http://...` records the same run with a real MLflow server."""
    with serving("--uri", store) as (base, _):
        result = train(*toy, f"tracking.uri={base}", "tracking.experiment_name=remote")
        client = connect(base)
        experiment = client.get_experiment_by_name("remote")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/accuracy"] == result.metrics["test_accuracy"]
        assert {"config.yaml", "metrics.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


@pytest.mark.parametrize(
    ("host", "port", "key"),
    [
        ("127.0.0.1", None, "--port"),  # None is a port of another program
        ("localhost", None, "--port"),
        ("127.0.0.1", 65536, "--port"),
        ("127.0.0.1", -1, "--port"),
        ("192.0.2.1", 5000, "--host"),  # an address of documentation, which no machine has
        ("nowhere.invalid", 5000, "--host"),
    ],
)
def test_ui_reports_an_address_where_it_cannot_listen(monkeypatch, capsys, host, port, key):
    """MLflow's server would log the reason among other messages, and the printed address would be another program's."""
    monkeypatch.setattr(ui, "existing", lambda *_: pytest.fail("the store was opened"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1] if port is None else port
        with pytest.raises(ConfigError) as caught:
            ui.main(["--host", host, "--port", str(number), "--without-authentication"])
    assert [problem.key for problem in caught.value.problems] == [key]
    assert not capsys.readouterr().out


def test_ui_reuses_a_port_right_after_a_server(monkeypatch):
    """Connections of a server that has ended do not count."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # waits in TIME_WAIT
    opened = []
    monkeypatch.setattr(ui, "existing", lambda *_: opened.append(1) or sys.exit())
    with pytest.raises(SystemExit):
        ui.main(["--port", str(port)])
    assert opened


def test_ui_takes_a_run_id(own_directory, monkeypatch):
    """It opens the store of the run, as for the run's directory."""
    folder = own_directory / "outputs" / "a" / "b"
    folder.mkdir(parents=True)
    pointer = {"uri": f"sqlite:///{own_directory}/outputs/mine.db", "run_id": "a" * 32, "experiment_id": "1"}
    (folder / "mlflow.json").write_text(json.dumps(pointer))
    opened = []
    monkeypatch.setattr(ui, "existing", lambda uri, *_: opened.append(uri) or sys.exit())
    monkeypatch.setattr(ui, "check_port", lambda *_: None)
    with pytest.raises(SystemExit):
        ui.main(["a" * 32])
    assert opened == [pointer["uri"]]


def test_browser_opens_once_the_server_answers():
    """Before that, it would show an error of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        pages = []
        assert open_when_ready("127.0.0.1", port, "http://127.0.0.1/x", pages.append)
    assert pages == ["http://127.0.0.1/x"]


@pytest.mark.parametrize(
    ("flags", "display", "opens"), [([], ":0", True), (["--no-browser"], ":0", False), ([], "", False)]
)
def test_ui_opens_the_browser(store, monkeypatch, flags, display, opens):
    """It does on a display, unless the user asks not to."""
    assert store
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(ui, "become_server", lambda *_: None)
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ui.main(["--port", str(port), *flags])
    assert [command[-1].partition("/#")[0] for command in started] == [f"http://127.0.0.1:{port}"] * opens


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:1", "200 OK"), ("evil.com", "403 Forbidden"), (None, "403 Forbidden")]
)
def test_study_is_served_to_its_own_names_only(host, status):
    """A page of someone else cannot read the study under a name of its own."""

    def app(_, start_response):
        start_response("200 OK", [])
        return [b""]

    said = []
    list(only_for_hosts(app, ["127.0.0.1:1"])({"HTTP_HOST": host}, lambda *line: said.append(line[0])))
    assert said == [status]


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:1", "200 OK"), ("http://evil.com", "403 Forbidden"), ("null", "403 Forbidden")],
)
def test_study_is_changed_by_its_own_page_only(origin, status):
    """A page of someone else sends its origin; and a note of the study cannot load a page of someone else."""

    def app(_, start_response):
        start_response("200 OK", [])
        return [b""]

    said = []
    request = {"HTTP_HOST": "127.0.0.1:1", "HTTP_ORIGIN": origin}
    list(only_for_hosts(app, ["127.0.0.1:1"])(request, lambda *line: said.append(line)))
    assert said[0][0] == status
    assert status != "200 OK" or dict(said[0][1])["Content-Security-Policy"].startswith("default-src 'self'")


def test_study_needs_a_sweep():
    """The default store has no study."""
    with pytest.raises(ConfigError) as caught:
        ui.main(["--study"])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


def test_the_runs_of_a_sweep(own_directory):
    """The directory of a sweep leads to its runs, in their order."""
    for number in (10, 2):
        folder = own_directory / "sweep" / str(number)
        folder.mkdir(parents=True)
        (folder / "mlflow.json").write_text(json.dumps({"uri": "u", "experiment_id": "7", "run_id": f"r{number}"}))
    assert [one["run_id"] for one in pointers(own_directory / "sweep")] == ["r2", "r10"]
    with pytest.raises(ConfigError) as caught:
        pointers(own_directory)
    (problem,) = caught.value.problems
    assert (problem.key, repr(str(own_directory)) in problem.text) == ("RUN", True)
