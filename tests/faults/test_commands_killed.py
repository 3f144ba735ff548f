"""Commands on finished runs that are killed before any of their writes, and run again."""

import functools
import json
import shutil
import signal
from pathlib import Path

import pytest

import fake_hub
from fake_sweep import SPACE, fake, fake_study
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import INTERRUPTED, TERMINATED
from killing import KILLED, kill_before_write, kill_before_write_of_finish, kill_before_write_of_push, reach_hub
from processes import LONG, hydratune, start

pytestmark = pytest.mark.slow


def run_until_done(*command, enter=kill_before_write, **environment):
    """Run a command again and again, killed before one write later each time; return how often it was killed."""
    number = 0
    while True:
        number += 1
        process = start(*command, enter=functools.partial(enter, number, str(Path.cwd())), **environment)
        out, err = process.communicate()
        if process.returncode != KILLED:
            assert process.returncode == 0, out + err
            return number - 1


def recorded(store):
    """What MLflow has of each run: status, params, points, files, and the address on the Hub."""
    client = connect(store)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    found = []
    for run in runs:
        points = {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        found.append((run.info.status, run.data.params, points, files, run.data.tags.get("hub_url")))
    return found


@pytest.fixture
def run(train, toy, store):
    """The directory of a finished run that MLflow has."""
    assert store
    return train(*toy, "trainer.args.max_steps=1").directory


def test_predict_killed(run):
    """The file has the rows of an uninterrupted command."""
    assert start("predict", run, "test.jsonl", "--out", "whole.csv").communicate() is not None
    assert run_until_done("predict", run, "test.jsonl", "--out", "killed.csv") > 1
    assert Path("killed.csv").read_bytes() == Path("whole.csv").read_bytes() != b""


def test_evaluate_killed(run, store):
    """The file and MLflow have each metric, and the run is as finished as before."""
    command = ["evaluate", run, "dataset.files.train=test.jsonl", "--name"]
    start(*command, "whole").communicate()
    assert run_until_done(*command, "killed") > 2
    whole, killed = (json.loads((run / f"evaluations/{name}.json").read_text()) for name in ("whole", "killed"))
    assert killed["metrics"] == whole["metrics"]
    ((status, _, points, *_),) = recorded(store)
    assert status == "FINISHED"
    assert {points[f"eval_on_killed/{name}"][-1][1] for name in whole["metrics"]} == {*whole["metrics"].values()}


def test_sync_killed(store, empty_store, own_directory):
    """Another store, which has nothing yet, has one run with each point once."""
    directory = own_directory / "outputs" / "run"
    directory.mkdir()
    (directory / "notes.txt").write_text("x")
    with Mlflow(uri=store, experiment_name="films").start(RunInfo("run", directory, {"lr": 0.1}, {})) as run_log:
        for step in range(3):
            run_log.metrics({"eval_loss": step / 2}, step)
        run_log.artifact(directory / "notes.txt")
    whole = recorded(store)
    assert whole[0][2:4] == ({"eval/loss": [(0, 0.0), (1, 0.5), (2, 1.0)]}, ["notes.txt"])
    other = own_directory / "outputs" / "other.db"
    shutil.copy(empty_store, other)
    assert run_until_done("sync", directory, "--uri", f"sqlite:///{other}") > 5
    assert recorded(f"sqlite:///{other}") == whole


def test_push_killed(run, store, tmp_path):
    """The Hub has the files of the model, and MLflow has the address."""
    with fake_hub.serve(tmp_path / "hub") as server:
        variables = {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_canary0123456789", "HF_HOME": str(tmp_path / "home")}
        command = ["push", run, "--to", "me/tiny"]
        assert run_until_done(*command, enter=kill_before_write_of_push, **variables) > 1
        assert {*server.pushed} == {path.name for path in (run / "model").iterdir()}
    ((*_, url),) = recorded(store)
    assert url.endswith("/me/tiny")


def test_push_killed_at_each_request(run, store, tmp_path):
    """The same command pushes all files, whatever request the last one ended with."""
    number, processes = 0, []
    while True:
        number += 1
        with fake_hub.serve(tmp_path / f"hub{number}") as server:
            environment = {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_canary0123456789"}
            server.on_request = lambda count, last=number: processes[-1].kill() if count == last else None
            processes.append(start("push", run, "--to", "me/tiny", enter=reach_hub, **environment))
            processes[-1].wait()
            server.on_request = None
            if processes[-1].returncode == 0:
                break
            again = hydratune("push", run, "--to", "me/tiny", enter=reach_hub, **environment)
            assert again.returncode == 0, again.stderr
            assert {*server.pushed} == {path.name for path in (run / "model").iterdir()}
    assert number > 5
    ((*_, url),) = recorded(store)
    assert url.endswith("/me/tiny")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
@pytest.mark.parametrize("request_", ["POST /api/repos/create", "PUT /upload/", "POST .*/commit/main"])
def test_push_ends_on_request(run, tmp_path, request_, number, code):
    """Although the Hub answers nothing, and a library waits for the threads that upload."""
    with fake_hub.serve(tmp_path / "hub") as server:
        server.faults = {request_: ["hang"] * 9}
        environment = {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_canary0123456789"}
        process = start("push", run, "--to", "me/tiny", enter=reach_hub, **environment)
        assert server.hanging.wait(LONG)
        process.send_signal(number)
        _, said = process.communicate()
        assert (process.returncode, "Traceback" in said) == (code, False), said


def test_compare_killed(train, toy, store, run):
    """The plot is there, and the runs in MLflow are as before."""
    other = train(*toy, "trainer.args.max_steps=1", "seed=2", directory="other").directory
    before = recorded(store)
    assert run_until_done("compare", run, other, "--plot", "x.png") > 0
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")
    assert recorded(store) == before


def test_sweep_finish_killed(toy):
    """The experiment and each retraining are there once."""
    name = fake_study([*toy, *SPACE], fake(0.001, 0, 0.7), fake(0.01, 0.1, 0.9)).plan.name
    command = ["sweep", "finish", name, "--seeds", "1,2"]
    assert run_until_done(*command, enter=kill_before_write_of_finish) > 5
    assert len([*Path().rglob("metrics.json")]) == 2
    (experiment,) = Path().rglob("experiment/*.yaml")
    assert "0.01" in experiment.read_text()
