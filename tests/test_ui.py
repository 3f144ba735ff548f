"""`hydratune ui` serves the store of a run on loopback, and to nobody else."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest


def answer(url, **headers):
    """Status and body of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


@pytest.mark.slow
def test_serves_a_run(train, toy, store):
    """The printed address is that of the run; artifacts can be read; a foreign Host is refused."""
    assert store
    result = train(*toy, "trainer.args.max_steps=1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("hydratune"), "ui", result.directory, "--port", str(port)]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        line = server.stdout.readline()
        pointer = json.loads((result.directory / "mlflow.json").read_text())
        assert f"http://127.0.0.1:{port}/#/experiments/{pointer['experiment_id']}/runs/{pointer['run_id']}" in line
        base = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                answer(base)
                break
            except OSError:
                time.sleep(0.2)
        _, body = answer(f"{base}/api/2.0/mlflow/runs/get?run_id={pointer['run_id']}")
        assert json.loads(body)["run"]["info"]["status"] == "FINISHED"
        _, body = answer(f"{base}/get-artifact?path=metrics.json&run_uuid={pointer['run_id']}")
        assert json.loads(body)["test_accuracy"] == result.metrics["test_accuracy"]
        assert answer(base, Host="evil.com")[0] == 403
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        server.stdout.close()
