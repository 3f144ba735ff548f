"""Each launcher runs the workers of a real sweep; the tools of others open what it leaves."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import closing
from importlib.util import find_spec

import psutil
import pytest

from engines.pages import scripts, typed
from hydratune.cli.interrupts import is_saved
from hydratune.tracking.client import connect
from hydratune.utils.errors import INTERRUPTED, SAVED
from real_sweeps import GRID, SIX, completed, ended, signed, signs, start, studies

pytestmark = pytest.mark.slow


def storage(directory):
    """The default one of a sweep."""
    return f"sqlite:///{directory.absolute()}/study.db"


def swept(toy, own_directory, *overrides, **environment):
    """The study of the six configurations that two processes trained, and its directory."""
    people = own_directory / "people"
    two = ["sweep.workers=2", "sweep.name=six", signs(people, people=2)]
    ended(start(*toy, *GRID, *two, *overrides, **environment))
    assert len(signed(people)) == 2
    directory = own_directory / "multirun" / "six"
    (study,) = studies(storage(directory))
    return study, directory


def test_joblib(toy, own_directory, store):
    """Two processes of this machine train six configurations, each once, nested below their sweep's run in MLflow."""
    study, _ = swept(toy, own_directory, "hydra/launcher=joblib", cold=True)
    assert completed(study) == SIX
    assert len({trial.user_attrs["owner"]["worker"] for trial in study.get_trials()}) == 2
    client = connect(store)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    assert len(children) == 6
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_submitit(toy, own_directory):
    """Two jobs of submitit's local executor do, and leave their papers in the sweep's directory."""
    study, directory = swept(toy, own_directory, "tracking=none", "hydra/launcher=submitit_local")
    assert completed(study) == SIX
    assert list((directory / ".submitit").glob("*/*/*_result.pkl"))


@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_ray_launcher"), reason="hydra-ray-launcher is not installed")
def test_ray(toy, own_directory):
    """The command of docs/ray.md trains in two tasks of a local Ray, which stops after the sweep."""
    folder = tempfile.mkdtemp(prefix="ray")  # short, since it is in the names of sockets
    init = {"num_cpus": 2, "include_dashboard": "false"}
    ray = [f"+hydra.launcher.ray.init.{name}={value}" for name, value in init.items()]
    # Workers that are as nice as Ray's own default, 15, hardly ever run beside other tests.
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",
        "RAY_TMPDIR": folder,
    }
    try:
        ((_, *command),) = typed(scripts("ray.md")["Local cluster"], "hydratune").calls
        more = ["tracking=none", "hydra.sweep.dir=s", signs(own_directory / "people", people=2)]
        ended(start(*toy, *command, *more, *ray, **quiet))
        (study,) = studies(storage(own_directory / "s"))
        assert completed(study) == Counter([(0,), (0.1,)])
        assert not [
            one.pid for one in psutil.process_iter(["cmdline"]) if folder in " ".join(one.info["cmdline"] or [])
        ]
    finally:
        shutil.rmtree(folder)


def test_optuna_dashboard(toy, own_directory):
    """optuna-dashboard opens a sweep's default storage."""
    ended(start(*toy, "trainer.args.weight_decay=0,0.1", "tracking=none", "trainer.args.max_steps=1"))
    (directory,) = (own_directory / "multirun").iterdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"  # as its script does, which may lie elsewhere
    command = [sys.executable, "-c", code, storage(directory), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            studies = answer(server, f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        finally:
            server.terminate()
    assert [study["study_name"] for study in studies] == [directory.name]


def answer(server, url):
    """What a server says as soon as it listens."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the server ended with {server.returncode}")


# --- a process for each trial ----------------------------------------------------------------------------


def test_isolated_trials(toy, own_directory):
    """With `sweep.process_per_trial=true` each trial has a process of its own, and comes to what a warm worker's comes to."""
    values = {}
    for isolate, processes in (("true", 2), ("false", 1)):
        people, name = own_directory / isolate, f"isolate-{isolate}"
        typed = [
            "trainer.args.learning_rate=0.02,0.05",
            f"sweep.process_per_trial={isolate}",
            f"sweep.name={name}",
            signs(people),
        ]
        more = ["trainer.args.per_device_train_batch_size=4", "objective=eval_loss", "tracking=none"]
        ended(start(*toy, *typed, *more))
        assert len(signed(people)) == processes
        (study,) = studies(storage(own_directory / "multirun" / name))
        values[isolate] = {trial.params["trainer.args.learning_rate"]: trial.value for trial in study.get_trials()}
    assert values["true"] == values["false"]
    assert len(set(values["true"].values())) == 2


def test_ctrl_c_ends_an_isolated_trial(toy, own_directory):
    """Ctrl-C ends the process of the trial before the sweep itself ends, and says how to go on."""
    people = own_directory / "people"
    endless = ["trainer.args.num_train_epochs=100000", "trainer.args.weight_decay=0,0.1", signs(people)]
    process = start(*toy, *endless, "sweep.process_per_trial=true", "tracking=none")
    while not signed(people):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate())
    assert not [number for number in signed(people) if psutil.pid_exists(number)]
    assert process.returncode == (SAVED if is_saved(own_directory / "multirun") else INTERRUPTED)
    assert "resume with: " in said
