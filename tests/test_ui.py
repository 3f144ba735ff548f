"""`hydratune ui` serves the store of a run on loopback, and to nobody else."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from hydratune.errors import ConfigError
from hydratune.tracking.store import connect
from hydratune.tracking.ui import pointers
from processes import HYDRATUNE


def answer(url, **headers):
    """Status and body of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


@contextmanager
def serving(*arguments):
    """`hydratune ui` on a free port, until the end of the block: its address and the line that it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [HYDRATUNE, "ui", *arguments, "--port", str(port)]
    quiet = {"stderr": subprocess.DEVNULL, "text": True, "start_new_session": True}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, **quiet)
    base = f"http://127.0.0.1:{port}"
    try:
        line = server.stdout.readline()
        for _ in range(1500):
            assert server.poll() is None
            try:
                answer(base)
                break
            except OSError:
                time.sleep(0.2)
        yield base, line
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        server.stdout.close()


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
        result = train(*toy, f"tracking.uri={base}", "tracking.experiment=remote")
        client = connect(base)
        experiment = client.get_experiment_by_name("remote")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/accuracy"] == result.metrics["test_accuracy"]
        assert {"config.yaml", "metrics.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_runs_of_a_sweep(own_directory):
    """The directory of a sweep leads to its runs, in their order."""
    for number in (10, 2):
        folder = own_directory / "sweep" / str(number)
        folder.mkdir(parents=True)
        (folder / "mlflow.json").write_text(json.dumps({"uri": "u", "experiment_id": "7", "run_id": f"r{number}"}))
    assert [one["run_id"] for one in pointers(own_directory / "sweep")] == ["r2", "r10"]
    with pytest.raises(ConfigError, match=r"^RUN: expected a run's directory, got '.*' without mlflow\.json"):
        pointers(own_directory)
