"""Sweeps on a running Ray cluster with token authentication; docs/ray.md shows the same commands."""

import signal
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from hydratune.utils.errors import SAVED
from hydratune.utils.process import PROCESS
from processes import LONG, hydratune
from real_sweeps import GRID, SIX, completed, ended, signed, signs, start, studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("hydra_plugins.hydra_ray_launcher"), reason="hydra-ray-launcher is not installed"),
]
if find_spec("ray"):
    from engines.ray_nodes import AUTHENTICATION, PATIENT_CLIENT, TOKEN, cluster

ADDRESS = "hydra.launcher.ray.init.address"
STORAGE = "sweep.storage=${oc.env:SWEEP_STORAGE}"
TWO = ["trainer.args.weight_decay=0,0.1", "trainer.args.max_steps=1", "sweep.name=two"]


@pytest.fixture(scope="module")
def head():
    """A cluster of one node."""
    with cluster() as running:
        yield running


@pytest.fixture
def storage(own_directory):
    """The address of a study that only the environment of the sweep's parent knows."""
    (own_directory / "canary-41c7").mkdir()
    return f"sqlite:///{own_directory}/canary-41c7/study.db"


def test_sweep_survives_a_killed_node(toy, own_directory, head, storage):
    """Two nodes train six configurations; one is killed during a trial, which the other one completes."""
    people = own_directory / "people"
    more = ["trainer.args.num_train_epochs=20", "sweep.workers=2", "sweep.name=six", signs(people, people=2), STORAGE]
    ray = ["hydra/launcher=ray", f"{ADDRESS}={head.address}", "tracking=none"]
    with head.second_node() as node:
        sweep = start(*toy, *GRID, *more, *ray, SWEEP_STORAGE=storage, **AUTHENTICATION)
        while len(signed(people)) < 2:
            assert sweep.poll() is None, sweep.said()
            time.sleep(0.05)
        on_node = {process.pid for process in node.processes()}
        (lost,) = (trial for trial in running(storage) if owner(trial) in on_node)
        node.kill()
        ended(sweep)
    (study,) = studies(storage)
    assert completed(study) == SIX
    assert owner(study.get_trials()[lost.number]) not in on_node
    assert not files_with(b"canary-41c7", head.folder, own_directory / "multirun")


def test_sigterm_ends_the_sweep_and_its_workers(toy, own_directory, head):
    """The exit code is the same as without Ray, whose own handler would exit with 1 or 15."""
    people = own_directory / "people"
    endless = ["trainer.args.num_train_epochs=100000", "sweep.name=endless", signs(people), "tracking=none"]
    ray = ["hydra/launcher=ray", f"{ADDRESS}={head.address}"]
    sweep = start(*toy, *GRID, *endless, *ray, **AUTHENTICATION)
    while not signed(people):
        assert sweep.poll() is None, sweep.said()
        time.sleep(0.05)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait(LONG) == SAVED
    _, alive = psutil.wait_procs(
        [psutil.Process(pid) for pid in signed(people) if psutil.pid_exists(pid)], timeout=LONG
    )
    assert not alive


def running(storage):
    """The trials of the only study that have a worker."""
    (study,) = studies(storage)
    return [trial for trial in study.get_trials() if trial.state.name == "RUNNING" and trial.user_attrs.get("owner")]


def owner(trial):
    """The number of the process that trains or trained it."""
    return int(trial.user_attrs["owner"][PROCESS].split()[0])


def files_with(text, *folders):
    """The files below the folders that hold a text."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if text in path.read_bytes()]


@pytest.mark.parametrize("way", ["variable", "client"])
def test_sweep_connects_to_a_running_cluster(toy, own_directory, head, storage, way):
    """By RAY_ADDRESS and a token file, and by a `ray://` address from a machine that is not part of the cluster."""
    token = own_directory / "token"
    token.write_text(TOKEN)
    by_file = {"RAY_ADDRESS": head.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    by_client = {**AUTHENTICATION, **PATIENT_CLIENT}
    typed, environment = {"variable": ([], by_file), "client": ([f"{ADDRESS}={head.client}"], by_client)}[way]
    sweep = ["hydra/launcher=ray", *typed, "tracking=none"]
    with head.logs_of_client_server():
        ended(start(*toy, *TWO, STORAGE, *sweep, SWEEP_STORAGE=storage, **environment))
    (study,) = studies(storage)
    assert len(completed(study)) == 2


@pytest.mark.parametrize("token", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 32}], ids=["none", "wrong"])
def test_wrong_token_is_one_error(toy, head, token):
    """The message names the variable, and no directory is left."""
    done = hydratune("-m", *toy, *TWO, "hydra/launcher=ray", f"{ADDRESS}={head.address}", "tracking=none", **token)
    assert done.returncode == 2
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("multirun").exists()
