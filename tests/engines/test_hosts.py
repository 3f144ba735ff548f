"""Runs on two hosts (network namespaces), started by the commands of docs/several_machines.md."""

import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from engines.pages import scripts, typed
from engines.two_hosts import missing, two_hosts
from hydratune.tracking.client import connect
from hydratune.utils.errors import SAVED

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

CPU = ["hardware.nproc_per_node=1", "hardware.device=cpu", "hardware.precision=fp32", "hardware.threads=1"]
START, RESUME, POD = scripts("several_machines.md").values()
ENDLESS = "trainer.args.num_train_epochs=100000"
MARGIN = 5  # steps, more than can end while the link goes down
LONG = 600  # seconds; far less than trainer.args.ddp_timeout


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Both hosts."""
    with two_hosts(tmp_path_factory.mktemp("hosts")) as both:
        yield both


@pytest.fixture
def hosts(pair):
    """Both hosts, with nothing on them and a link that is up."""
    yield pair
    for host in pair:
        host.kill()
        host.set_link("up")


@pytest.fixture
def two(toy):
    """Overrides of the toy run with one CPU process on each machine."""
    return [text for text in toy if not text.startswith("hardware")] + CPU


def start(hosts, script, *overrides):
    """Start the first command of a script on the first host, and the second one on the other."""
    commands = typed(script, "hydratune").calls
    return [host.start(*command, *overrides) for host, command in zip(hosts, commands, strict=True)]


def start_pods(hosts, *overrides):
    """Start the command for a PyTorchJob on both hosts, with the variables that it sets."""
    started = []
    for rank, host in enumerate(hosts):
        variables = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "host0", "MASTER_PORT": "23456"}
        (command,) = typed(POD.replace("/shared", str(Path.cwd())), "hydratune", **variables).calls
        started.append(host.start(*command, *overrides, **variables))
    return started


def awaited(condition, processes):
    """Waits until a condition holds."""
    while not condition():
        for process in processes:
            assert process.poll() is None, process.said()
        time.sleep(0.05)


def last_step():
    """Return the step of the last checkpoint; 0 if there is none."""
    checkpoints = Path("my_run").glob("checkpoints/checkpoint-*/trainer_state.json")
    return max((int(path.parent.name.rpartition("-")[2]) for path in checkpoints), default=0)


def ranks(host):
    """The processes that train on a host."""
    found = []
    for process in host.processes():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "hydratune.cli._rank" in process.cmdline():
                found.append(process)
    return found


def tracked(store):
    """The only run in MLflow."""
    client = connect(store)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return run


def test_run_resumes_after_a_signal_and_after_a_killed_host(two, hosts, store):
    """A signal to one host stops both; a killed one is named in an error; hosts use the link and not their names."""
    both = start(hosts, START, *two, ENDLESS)
    awaited(last_step, both)
    both[1].send_signal(15)
    logs = [process.communicate(LONG) for process in both]
    assert [process.returncode for process in both] == [SAVED] * 2, logs
    saved = last_step()
    both = start(hosts, START, *two, ENDLESS)
    awaited(lambda: last_step() > saved, both)
    assert [ranks(host)[0].environ()["GLOO_SOCKET_IFNAME"] for host in hosts] == ["link0", "link1"]
    hosts[1].kill()
    _, log = both[0].communicate(LONG)
    assert both[0].returncode == 1
    assert "Traceback" not in log
    assert ranks(hosts[0]) == []
    run = tracked(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("MachineLostError: machine 1 (host1)")
    again = start(hosts, RESUME, f"trainer.args.max_steps={last_step() + 2}")
    logs = [process.communicate() for process in again]
    assert [process.returncode for process in again] == [0, 0], logs
    assert (tracked(store).info.status, tracked(store).info.run_id) == ("FINISHED", run.info.run_id)


def test_run_waits_while_the_link_is_down(two, hosts):
    """It continues once the link is up; with a signal both hosts end, although processes wait in a library."""
    both = start_pods(hosts, *two, ENDLESS, "tracking=none")
    awaited(last_step, both)
    hosts[1].set_link("down")
    time.sleep(1)  # until the processes wait
    hosts[1].set_link("up")
    before = last_step()
    awaited(lambda: last_step() > before + MARGIN, both)
    hosts[1].set_link("down")
    time.sleep(1)
    for process in both:
        process.send_signal(15)
    logs = [process.communicate(LONG) for process in both]
    assert [process.returncode for process in both] == [SAVED] * 2, logs
    assert [ranks(host) for host in hosts] == [[], []]


def test_run_ends_if_a_host_is_killed_while_processes_connect(two, hosts):
    """The other host does not wait for it."""
    both = start(hosts, START, *two, "tracking=none")
    awaited(lambda: ranks(hosts[1]), both)
    hosts[1].kill()
    both[0].communicate(LONG)
    assert both[0].returncode == 1
    assert ranks(hosts[0]) == []


def test_signal_to_one_host_before_training_interrupts_both(two, hosts):
    """The other host's processes cannot connect any more, which is not a failure of the run."""
    both = start(hosts, START, *two, "tracking=none")
    awaited(lambda: ranks(hosts[0]) and ranks(hosts[1]), both)
    both[1].send_signal(15)
    logs = [process.communicate(LONG) for process in both]
    assert [process.returncode for process in both] == [SAVED] * 2, logs
    assert [ranks(host) for host in hosts] == [[], []]


def test_run_ends_with_a_signal_if_the_endpoint_is_wrong(two, hosts):
    """Each host logs what it waits for."""
    both = start(hosts, START.replace("=host0", "=host1:29500"), *two, "tracking=none")
    awaited(lambda: all("host1:29500" in process.said()[1] for process in both), both)
    for process in both:
        process.send_signal(15)
    logs = [process.communicate(LONG) for process in both]
    assert [process.returncode for process in both] == [SAVED] * 2, logs
