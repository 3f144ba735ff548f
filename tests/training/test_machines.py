"""Machines of one run find each other, and notice when one is lost; here both are on this one."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from hydratune.training import launch
from hydratune.training.hardware import machines, rendezvous
from hydratune.training.hardware.distributed import Distributed, Launch
from hydratune.training.hardware.machines import Machines, PeerFailedError
from hydratune.training.hardware.peers import Heartbeats, Peer
from hydratune.utils.errors import SAVED, TERMINATED, ConfigError, MachineLostError

STUCK = """
import ctypes, signal, sys, threading
from hydratune.utils import watchdog

signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
watchdog.start(lambda: False, lambda: False, 7, grace=0.1)
threading.Timer(0.5, lambda: print("ready", flush=True)).start()
mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_lock(mutex)  # waits for ever, and no signal interrupts it
"""


@pytest.fixture
def port():
    """A free one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def machine(own_directory, port):
    """Makes a machine of a run of two."""

    def make(rank, timeout=300.0, directory="run", **changed):
        values = {"nnodes": 2, "node_rank": rank, "rdzv_endpoint": f"127.0.0.1:{port}", **changed}
        return Machines(Launch(**values), own_directory / directory, rank + 1, timeout)

    return make


@pytest.fixture
def both(machine):
    """Two machines that have started their processes."""
    with machine(0) as first, machine(1) as second, ThreadPoolExecutor() as pool:
        other = pool.submit(second.start, 0)
        first.start(4321)
        other.result()
        yield first, second


def awaited(condition):
    """Waits until a condition holds."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def failing(check):
    """What `check` raises, once it does."""
    while True:
        try:
            check()
        except Exception as error:
            return error
        time.sleep(0.01)


def test_machines_start_together(machine):
    """All machines get the store of machine 0 and the processes of all, whichever is first."""
    with machine(0) as first, machine(1) as second, ThreadPoolExecutor() as pool:
        started = pool.submit(second.start, 0), pool.submit(first.start, 4321)
        starts = [one.result() for one in started]
    assert [(start["port"], start["processes"]) for start in starts] == [(4321, [1, 2])] * 2


def test_machines_start_again_together(both):
    """A restart waits for the other machine too, and has a store of its own."""
    first, second = both
    with ThreadPoolExecutor() as pool:
        again = pool.submit(first.start, 4322)
        assert second.start(0)["port"] == again.result()["port"] == 4322


def test_machine_that_was_killed_is_lost(both, monkeypatch):
    """A connection that ends without a word names the machine."""
    first, second = both
    monkeypatch.setattr(machines, "FAILING", 0)
    second.heartbeats.peers[0].connection.shutdown(socket.SHUT_RDWR)
    error = failing(first.check)
    assert isinstance(error, MachineLostError)
    assert "machine 1" in str(error)
    assert first.is_unreachable()


def test_machine_that_is_silent_is_lost_after_ddp_timeout(machine):
    """No heartbeat for that long, although the connection is open."""
    with machine(0, timeout=0.3, join_timeout=300) as first, machine(1) as second, ThreadPoolExecutor() as pool:
        pool.submit(second.start, 0)
        first.start(1)
        second.heartbeats.add(first.heartbeats.peers[1])  # the thread no longer writes to machine 0
        error = failing(first.check)
        assert isinstance(error, MachineLostError)


def test_machine_that_reads_nothing_is_not_lost():
    """A full buffer is no end of the connection, which had a timeout while the machines connected."""
    connection, other = socket.socketpair()
    connection.settimeout(0.1)
    peer, heartbeats = Peer(1, "host1", 1, connection), Heartbeats()
    heartbeats.add(peer)
    for _ in range(2):
        peer.send({"start": "x" * 2**22})
    assert peer.is_open
    heartbeats.close()
    other.close()


def test_failure_of_another_machine_is_reported(both, monkeypatch):
    """Its failed processes end those of this machine, and both know all exit codes."""
    first, second = both
    monkeypatch.setattr(machines, "FAILING", 0)
    with ThreadPoolExecutor() as pool:
        other = pool.submit(second.finish, {1: -9})
        assert isinstance(failing(first.check), PeerFailedError)
        assert first.finish({}) == {1: -9}
        assert other.result() == {1: -9}


@pytest.mark.parametrize("code", [SAVED, TERMINATED])
def test_interrupted_machine_has_not_failed(both, code):
    """Machine 0 may save a checkpoint for longer than the processes of the others."""
    first, second = both
    assert second.finish({1: code}) == {1: code}
    awaited(lambda: first.heartbeats.peers[1].end)
    first.check()
    assert not first.is_unreachable()


@pytest.mark.parametrize(("code", "period"), [(SAVED, "_INTERRUPTED"), (TERMINATED, "_ABORTED")])
def test_machine_ends_with_an_interrupted_one(both, monkeypatch, code, period):
    """Its exit code also tells a scheduler to start the command again.

    It ends soon if the processes of the other machine have not saved, since its own processes wait for them in vain.
    """
    first, second = both
    monkeypatch.setattr(machines, period, 0)
    second.finish({1: code})
    awaited(lambda: first.heartbeats.peers[1].end)
    with pytest.raises(SystemExit) as end:
        first.check()
    assert end.value.code == SAVED


def test_machine_whose_processes_fail_after_an_interrupted_one_is_interrupted(both):
    """Before training, processes have nothing to save: those of the other machines fail as the first ones are gone."""
    first, second = both
    second.is_aborted = True
    second.announce_request()
    awaited(lambda: first.heartbeats.peers[1].is_asked)
    with ThreadPoolExecutor() as pool:
        end = pool.submit(first.finish, {0: 1})
        second.__exit__(SystemExit, SystemExit(SAVED), None)
        error = end.exception()
    assert isinstance(error, SystemExit)
    assert error.code == SAVED


def test_machine_that_fails_while_another_one_saves_has_failed(both):
    """An interrupted machine that has saved is no reason for a failure."""
    first, second = both
    second.__exit__(SystemExit, SystemExit(SAVED), None)
    assert first.finish({0: 1}) == {0: 1}


def test_machine_ends_without_a_failure(both):
    """Machine 0 waits for the others, and a run that succeeded everywhere has no exit codes."""
    first, second = both
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(first.await_ends)
        assert second.finish({}) == {}
        waiting.result()
    first.check()
    assert not first.is_unreachable()


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"directory": "other"}, "hydra.run.dir"),
        ({"rdzv_id": "other"}, "hardware.launch.rdzv_id"),
        ({"nnodes": 3}, "hardware.launch.nnodes"),
    ],
)
def test_machine_of_another_run_is_refused(machine, changed, key):
    """It gets an error that names what differs, and machine 0 waits on."""
    with machine(0) as first, machine(1, **changed) as stranger, machine(1) as second, ThreadPoolExecutor() as pool:
        start = pool.submit(first.start, 1)
        with pytest.raises(ConfigError) as error:
            stranger.start(0)
        assert [problem.key for problem in error.value.problems] == [key]
        second.start(0)
        start.result()


def test_second_machine_of_the_same_number_is_refused(machine):
    """Two machines of one number would write to the same files."""
    three = {"nnodes": 3}
    with machine(0, **three) as first, machine(1, **three) as second, ThreadPoolExecutor() as pool:
        pool.submit(first.start, 1)
        pool.submit(second.start, 0)
        awaited(lambda: first.heartbeats.peers)
        with machine(1, **three) as double, pytest.raises(ConfigError) as error:
            double.start(0)
        assert [problem.key for problem in error.value.problems] == ["hardware.launch.node_rank"]
        with machine(2, **three) as third:
            third.start(0)


def test_machine_joins_again_after_its_connection_was_lost(machine):
    """Until all machines start, nothing is lost but the connection."""
    three = {"nnodes": 3}
    with machine(0, **three) as first, machine(1, **three) as second, ThreadPoolExecutor() as pool:
        starts = [pool.submit(first.start, 1), pool.submit(second.start, 0)]
        awaited(lambda: 0 in second.heartbeats.peers and 1 in first.heartbeats.peers)
        lost = first.heartbeats.peers[1]
        lost.connection.shutdown(socket.SHUT_RDWR)
        awaited(lambda: not lost.is_open)
        with machine(2, **three) as last:
            last.start(0)
        assert [start.result()["processes"] for start in starts] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_absent_machine_is_an_error_after_join_timeout(machine, rank):
    """The error names the endpoint."""
    with machine(rank, join_timeout=0.2) as alone, pytest.raises(ConfigError) as error:
        alone.start(0)
    assert [problem.key for problem in error.value.problems] == ["hardware.launch.rdzv_endpoint"]


@pytest.mark.parametrize("rank", [0, 1])
def test_waiting_machine_ends_with_a_signal(machine, rank):
    """Ctrl-C is handled while it waits."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
    with machine(rank) as alone, pytest.raises(KeyboardInterrupt):
        alone.start(0)


def test_waiting_is_logged(caplog, monkeypatch):
    """After a few seconds, then less and less often."""
    now = [0.0]
    monkeypatch.setattr(rendezvous.time, "monotonic", lambda: now[0])
    waiting = rendezvous.Waiting(100, ValueError)
    for second in range(30):
        now[0] = float(second)
        waiting.check("machine 1")
    assert [record.args[1] for record in caplog.records] == [3, 6, 12, 24]
    now[0] = 100.0
    with pytest.raises(ValueError, match="machine 1"):
        waiting.check("machine 1")


def test_port_in_use_is_an_error(machine, port):
    """The hint offers a port that is free."""
    with socket.create_server(("", port)), machine(0) as first, pytest.raises(ConfigError) as error:
        first.start(1)
    (problem,) = error.value.problems
    assert problem.key == "hardware.launch.rdzv_endpoint"
    assert str(port) in problem.message
    (free,) = map(int, re.findall(r"\d{4,}", problem.hint))
    with socket.create_server(("", port)):
        socket.create_server(("", free)).close()


def test_another_service_at_the_endpoint_is_no_machine(machine, port):
    """What it answers is not taken for a start."""
    server = socket.create_server(("127.0.0.1", port))
    with server, machine(1, join_timeout=1e-6) as second, ThreadPoolExecutor() as pool:
        start = pool.submit(second.start, 0)
        with server.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            assert isinstance(start.exception(), ConfigError)


def test_stranger_at_the_port_is_ignored(machine, port):
    """Machine 0 waits on for its machines."""
    with machine(0) as first, machine(1) as second, ThreadPoolExecutor() as pool:
        start = pool.submit(first.start, 1)
        awaited(lambda: _sends(port, b"GET / HTTP/1.1\r\n\r\n"))
        second.start(0)
        assert start.result()["processes"] == [1, 2]


def test_stranger_that_sends_slowly_delays_no_machine(machine, port):
    """A connection without a complete message does not keep machine 0 from reading others."""
    begun, ended = threading.Event(), threading.Event()

    def drip():
        with socket.create_connection(("127.0.0.1", port)) as connection, suppress(OSError):
            connection.sendall(b"{")
            begun.set()
            while not ended.wait(0.05):
                connection.sendall(b" ")

    with machine(0) as first, machine(1, join_timeout=20) as second, ThreadPoolExecutor() as pool:
        start = pool.submit(first.start, 1)
        awaited(lambda: _sends(port, b"GET"))
        pool.submit(drip)
        begun.wait()
        try:
            assert second.start(0)["processes"] == [1, 2]
        finally:
            ended.set()
        start.result()


def _sends(port, data):
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(data)
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "place"),
    [("host0:29500", ("host0", 29500)), ("[fd00::1]:80", ("fd00::1", 80)), ("10.0.0.1:1", ("10.0.0.1", 1))],
)
def test_endpoint_is_read(text, place):
    """HOST:PORT, also of IPv6."""
    assert rendezvous.is_endpoint(text)
    assert rendezvous.endpoint(text, "run") == place


@pytest.mark.parametrize("text", ["", ":1", "host0:", "host0:0", "host0:65536", "host0:http"])
def test_endpoint_is_checked(text):
    """What has no host, or no port that there is."""
    assert not rendezvous.is_endpoint(text)


def test_endpoint_has_a_port_of_its_run():
    """Without a port, all machines of a run have the same, and another run has another."""
    ports = [rendezvous.endpoint("host0", run)[1] for run in ("a", "a", "b")]
    assert ports[0] == ports[1] != ports[2]
    assert all(1024 < port < 32768 for port in ports)


def test_interface_reaches_the_endpoint(both, monkeypatch):
    """Gloo and NCCL use it while processes start."""
    for name in machines.INTERFACES:
        monkeypatch.delenv(name, raising=False)
    for machine in both:
        with machine.interfaces():
            assert (os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]) == ("lo", "=lo")
        assert not machines.INTERFACES.keys() & os.environ.keys()


@pytest.mark.parametrize("name", machines.INTERFACES)
def test_interface_of_the_user_counts(both, monkeypatch, name):
    """It is not replaced."""
    monkeypatch.setenv(name, "ib0")
    with both[0].interfaces():
        assert os.environ[name] == "ib0"


def test_one_machine_has_no_interface(own_directory, monkeypatch):
    """Its processes find each other by themselves."""
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with Machines(Launch(), own_directory, 2, 60) as alone:
        assert alone.start(5)["processes"] == [2]
        with alone.interfaces():
            assert "GLOO_SOCKET_IFNAME" not in os.environ


def test_watchdog_ends_a_process_that_is_stuck():
    """A main thread that waits inside a library runs no handler."""
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.terminate()
        assert process.wait() == 7


@pytest.mark.parametrize("rank", [0, 1])
def test_resume_command_names_the_run(compose, own_directory, rank):
    """Not the part of it that another machine writes to."""
    several = ["hardware=ddp", "hardware.launch.nnodes=2", "hardware.launch.rdzv_endpoint=a:1"]
    cfg = compose(*several, f"hardware.launch.node_rank={rank}")
    run = own_directory / "run"
    command = launch.resume_command(cfg, launch.other_machine(run, rank) if rank else run)
    assert command.split()[1:4] == ["resume", "run", f"hardware.launch.node_rank={rank}"]


def test_process_group_on_a_cpu_has_ddp_timeout(monkeypatch):
    """Upstream passes it on for GPUs alone."""
    groups = []
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **named: groups.append(named))
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setenv("HYDRATUNE_RANK_PID", str(os.getpid()))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Distributed(device="cpu").prepare({"ddp_timeout": 77})
    assert [named["timeout"].total_seconds() for named in groups] == [77]


@pytest.mark.usefixtures("handled_signals")
def test_signal_while_processes_start_is_raised_once_all_are_known(monkeypatch):
    """The agent can then end them; an exception in the middle of the start would leave orphans."""
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

    from hydratune.training.hardware.agent import run_processes

    started, ended = [], []

    def start(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        started.extend("ab")
        return {}

    monkeypatch.setattr(LocalElasticAgent, "_start_workers", start)
    monkeypatch.setattr(LocalElasticAgent, "_shutdown", lambda *_: ended.append(list(started)))
    with Machines(Launch(), Path(), 2, 30.0) as machines, pytest.raises(SystemExit):
        run_processes(Launch(), machines, [sys.executable, "-c", ""])
    assert ended
    assert ended[0] == ["a", "b"]
