"""Sweeps on a running Ray cluster with token authentication, started by the command of docs/ray.md."""

import signal
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from engines.pages import scripts, typed
from hydratune.utils.errors import SAVED
from hydratune.utils.process import PROCESS
from processes import LONG, hydratune
from real_sweeps import completed, ended, signed, signs, start, studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("hydra_plugins.hydra_ray_launcher"), reason="hydra-ray-launcher is not installed"),
]
if find_spec("ray"):
    from engines.ray_nodes import PAGE, PATIENT_CLIENT, TOKEN, cluster

DECAYS, RATES = (0, 0.1), (0.001, 0.002, 0.02)
ADDRESS = "hydra.launcher.ray.init.address"
SWEEP = Path("my_sweep")


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


@pytest.fixture
def command(head, storage):
    """The overrides and the variables of the sweep on the page, with values for its placeholders."""
    values = {
        "10.0.0.1:6379": head.address,
        "postgresql://USER:PASSWORD@HOST/DATABASE": storage,
        "/shared/my_sweep": str(SWEEP.resolve()),
        "TOKEN=...": f"TOKEN={TOKEN}",
    }
    script = scripts(PAGE)["Running cluster (2)"]
    for placeholder, value in values.items():
        assert placeholder in script
        script = script.replace(placeholder, value)
    ((_, *overrides),), variables = typed(script, "hydratune")
    return [*overrides, "tracking=none"], variables


def test_sweep_survives_a_killed_node(toy, own_directory, head, storage, command):
    """Two nodes train six configurations; one is killed during a trial, which the other one completes."""
    people = own_directory / "people"
    overrides, variables = command
    rates = f"trainer.args.learning_rate={','.join(map(str, RATES))}"
    more = [rates, "trainer.args.num_train_epochs=20", signs(people, people=2)]
    with head.second_node() as node:
        sweep = start(*toy, *overrides, *more, **variables)
        while len(signed(people)) < 2:
            assert sweep.poll() is None, sweep.said()
            time.sleep(0.05)
        on_node = {process.pid for process in node.processes()}
        (lost,) = (trial for trial in running(storage) if owner(trial) in on_node)
        node.kill()
        ended(sweep)
    (study,) = studies(storage)
    assert completed(study) == Counter((decay, rate) for decay in DECAYS for rate in RATES)
    assert owner(study.get_trials()[lost.number]) not in on_node
    assert not files_with(b"canary-41c7", head.folder, SWEEP)


def test_sweep_resumes_after_sigterm(toy, own_directory, head, storage, command):
    """SIGTERM ends the sweep and its workers, and the same command trains the rest.

    The exit code is the same as without Ray, whose own handler would exit with 1 or 15. The first address is `auto`,
    that of a head which was started on this machine. The second one is in RAY_ADDRESS, with a token in a file.
    """
    people = own_directory / "people"
    overrides, variables = command
    words = [one for one in overrides if not one.startswith(ADDRESS)]
    same = [*toy, *words, "trainer.args.max_steps=1", "sweep.workers=1", signs(people, people=2)]
    sweep = start(*same, f"{ADDRESS}=auto", **variables, RAY_TMPDIR=str(head.folder.parent))
    while not signed(people):  # the first process waits for a second one
        assert sweep.poll() is None, sweep.said()
        time.sleep(0.05)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait(LONG) == SAVED
    _, alive = psutil.wait_procs(
        [psutil.Process(pid) for pid in signed(people) if psutil.pid_exists(pid)], timeout=LONG
    )
    assert not alive
    token = own_directory / "token"
    token.write_text(variables.pop("RAY_AUTH_TOKEN"))
    ended(start(*same, **variables, RAY_ADDRESS=head.address, RAY_AUTH_TOKEN_PATH=str(token)))
    (study,) = studies(storage)
    assert len(completed(study)) == 2
    assert len(signed(people)) == 2
    assert not any(trial.user_attrs.get("failures") for trial in study.get_trials())


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


def test_sweep_connects_through_ray_client(toy, head, storage, command):
    """A `ray://` address is for a machine that is not part of the cluster."""
    overrides, variables = command
    words = [f"{ADDRESS}={head.client}" if one.startswith(ADDRESS) else one for one in overrides]
    with head.logs_of_client_server():
        ended(start(*toy, *words, "trainer.args.max_steps=1", "sweep.workers=1", **{**variables, **PATIENT_CLIENT}))
    (study,) = studies(storage)
    assert len(completed(study)) == 2


@pytest.mark.parametrize("token", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 32}], ids=["none", "wrong"])
def test_wrong_token_is_one_error(toy, command, token):
    """The message names the variable, and no directory is left."""
    overrides, variables = command
    storage = {"SWEEP_STORAGE": variables["SWEEP_STORAGE"]}
    done = hydratune("-m", *toy, *overrides, **storage, **token)
    assert done.returncode == 2
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert not SWEEP.exists()
