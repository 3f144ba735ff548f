"""Connections between the machines of one run: processes start together, and a lost machine is noticed."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from hydratune.training.hardware import rendezvous
from hydratune.training.hardware.distributed import Launch
from hydratune.training.hardware.peers import UNREACHABLE, Heartbeats, Peer
from hydratune.training.hardware.rendezvous import KEY, Waiting
from hydratune.utils import signals
from hydratune.utils.errors import SAVED, ConfigError, MachineLostError, Problem, one_line

log = logging.getLogger(__name__)

INTERFACES = {"GLOO_SOCKET_IFNAME": "", "NCCL_SOCKET_IFNAME": "="}  # without `=`, NCCL treats a name as a prefix
LOOPBACK = "127.0.0.1"
_POLL = 0.1  # seconds
_REPORTS = 3.0  # seconds to wait for failure reports of other machines
# Seconds that processes of this machine get to end by themselves after those of another one have failed, have been
# interrupted and saved, or have been interrupted before they could save, which leaves this machine's waiting for them.
FAILING, _INTERRUPTED, _ABORTED = 15.0, 30.0, 2.0


class PeerFailedError(Exception):
    """Failure of processes on another machine."""


class Machines:
    """Connections of machine 0 to all other machines of a run, or of another machine to machine 0.

    Args:
        launch: Number of machines, and the number of this one.
        run: Run directory, which is the same on all machines.
        processes: Number of processes that this machine starts.
        timeout: Seconds of silence after which a machine is lost.

    Attributes:
        address: Address of machine 0, as the processes of this machine reach it.
        is_aborted: Whether a signal ended processes of this machine before they could save.
    """

    def __init__(self, launch: Launch, run: Path, processes: int, timeout: float) -> None:
        self.rank, self.count, self.processes = launch.node_rank, launch.nnodes, processes
        self.address, self.is_aborted = LOOPBACK, False
        self._timeout = timeout
        self._join_timeout = timeout if launch.join_timeout is None else launch.join_timeout
        # Fields that must be the same on all machines.
        self._same = {"version": version("hydratune"), "rdzv_id": launch.rdzv_id, "nnodes": self.count, "run": str(run)}
        text = launch.rdzv_endpoint or LOOPBACK
        self._host, self._port = rendezvous.endpoint(text, f"{launch.rdzv_id} {run}")
        self._round = -1
        self._has_reported = False

    def __enter__(self) -> Self:
        self.heartbeats = Heartbeats()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = str(error) if isinstance(error, MachineLostError) else None
        if isinstance(error, Exception) and not lost:
            lost = f"machine {self.rank} ({socket.gethostname()}) has ended: {one_line(error)}"
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        self._report({}, lost, interrupted=interrupted, aborted=interrupted and self.is_aborted)
        self.heartbeats.close()

    @property
    def _peers(self) -> list[Peer]:
        return list(self.heartbeats.peers.values())

    def start(self, port: int) -> Mapping[str, Any]:
        """Wait until all machines are ready to start their processes.

        Args:
            port: Port of the store by which the processes find each other, if this is machine 0.

        Returns:
            `port` as machine 0 gave it, and the number of `processes` of each machine.

        Raises:
            ConfigError: If the machines do not find each other in time.
            MachineLostError: If a machine is lost.
        """
        self._round += 1
        if self.rank:
            return self._join()
        if self.count > 1:
            self._gather()
        processes_by_rank = {0: self.processes, **{peer.rank: peer.processes for peer in self._peers}}
        process_counts = [processes_by_rank[rank] for rank in range(self.count)]
        start = {"round": self._round, "port": port, "processes": process_counts, "interface": self._interface()}
        for peer in self._peers:
            peer.send({"start": start})
        return start

    def _waiting(self) -> Waiting:
        def error(awaited: str) -> ConfigError:
            hint = f"start the same command on every machine, or correct {KEY}"
            text = f"timeout after {self._join_timeout:g} s while waiting for {awaited}"
            return ConfigError(Problem(KEY, text, hint))

        return Waiting(self._join_timeout, error)

    def _gather(self) -> None:
        """Wait on machine 0 until all other machines have joined."""
        waiting = self._waiting()
        with nullcontext() if self._round else rendezvous.Listener(self._host, self._port) as listener:
            hint = rendezvous.foreign(self._host)
            while missing := [rank for rank in range(1, self.count) if not self._has_joined(rank)]:
                names = ", ".join(map(str, missing))
                waiting.check(f"machine {names} of {self.count} at {self._host}:{self._port}{hint}")
                if listener is None:
                    self.check()
                    time.sleep(_POLL)
                elif accepted := listener.accept(self._same):
                    self._admit(*accepted)

    def _has_joined(self, rank: int) -> bool:
        peer = self.heartbeats.peers.get(rank)
        return peer is not None and peer.is_open and peer.end is None and peer.round >= self._round

    def _admit(self, connection: socket.socket, hello: Mapping[str, Any]) -> None:
        rank = hello["node_rank"]
        if rank not in range(1, self.count) or self._has_joined(rank):
            rendezvous.refuse(connection, hello["host"], "node_rank")
            return
        rendezvous.send(connection, {"host": socket.gethostname()})
        self.heartbeats.add(Peer(rank, hello["host"], hello["processes"], connection))

    def _join(self) -> Mapping[str, Any]:
        """Wait on another machine until machine 0 starts the processes of all machines."""
        waiting = self._waiting()
        if self._round:
            self.heartbeats.peers[0].send({"join": self._round})
        else:
            self._connect(waiting)
        while True:
            machine_0 = self.heartbeats.peers[0]
            if machine_0.start and machine_0.start["round"] == self._round:
                self.address = machine_0.connection.getpeername()[0].removeprefix("::ffff:")
                return machine_0.start
            if machine_0.is_lost and not self._round:
                self._connect(waiting)  # machine 0 was started again
                continue
            self.check()
            if machine_0.end and not machine_0.end["interrupted"]:
                raise MachineLostError(f"{machine_0} has ended")
            waiting.check(f"all {self.count} machines, together with {machine_0} at {self._host}:{self._port}")
            time.sleep(_POLL)

    def _connect(self, waiting: Waiting) -> None:
        own_fields = {"node_rank": self.rank, "processes": self.processes, "host": socket.gethostname()}
        connection, reply = rendezvous.connect(self._host, self._port, {**self._same, **own_fields}, waiting)
        self.heartbeats.add(Peer(0, reply["host"], 0, connection))

    def _interface(self) -> str | None:
        """Return the network interface of the connections to other machines; None if there are none."""
        names = [interface_of(peer.connection.getsockname()[0]) for peer in self._peers if peer.is_open]
        loopback = interface_of(LOOPBACK)
        machine_0 = self.heartbeats.peers.get(0)
        # On the host of machine 0, the interface of machine 0 reaches the other machines.
        if machine_0 and machine_0.start and names == [loopback]:
            return machine_0.start["interface"]
        return next((name for name in names if name and name != loopback), loopback if names else None)

    @contextmanager
    def interfaces(self) -> Iterator[None]:
        """Make gloo and NCCL use the interface that reaches the other machines, unless the user chose one.

        Gloo would use the address of the host name, which can be 127.0.1.1, or fall back to 127.0.0.1.
        """
        name = self._interface()
        variables = {key: sign + name for key, sign in INTERFACES.items() if name and key not in os.environ}
        os.environ.update(variables)
        try:
            yield
        finally:
            for variable in variables:
                del os.environ[variable]

    def check(self) -> None:
        """Raise an error if the processes of this machine cannot continue without those of another one.

        Raises:
            MachineLostError: If a machine is lost.
            PeerFailedError: If processes of another machine have failed.
            SystemExit: If another machine was interrupted.
        """
        for peer in self._peers:
            if peer.end and peer.end["interrupted"] and peer.silence > _seconds_to_end(peer.end):
                log.warning("%s was interrupted", peer)
                raise SystemExit(SAVED)  # the same command resumes the run, as on that machine
            if peer.end is None and peer.silence > self._timeout:
                limit = f"trainer.args.ddp_timeout={self._timeout:g}"
                raise MachineLostError(f"{peer} was lost: no answer for {peer.silence:.0f} s ({limit})")
            if peer.silence > FAILING:
                _check_failure(peer)

    def is_unreachable(self) -> bool:
        """Return whether processes of this machine would wait forever for those of another one."""
        return any(peer.has_failed if peer.end else peer.is_lost or peer.silence > UNREACHABLE for peer in self._peers)

    def finish(self, exits: Mapping[int, int]) -> dict[int, int]:
        """Tell the other machines how the processes of this one ended.

        Args:
            exits: Rank -> exit code of failed processes of this machine.

        Returns:
            Rank -> exit code of failed processes of all machines.

        Raises:
            MachineLostError: If processes failed and a machine is lost.
            SystemExit: If processes failed because another machine was asked to end before the training.
        """
        interrupted = bool(exits) and all(map(signals.ended_by_request, exits.values()))
        if interrupted or not exits:
            self._report({}, interrupted=interrupted, aborted=interrupted and SAVED not in exits.values())
        else:
            self._explain_failure(exits)
        peer_exits = [peer.end["exits"].items() for peer in self._peers if peer.end]
        return {**exits, **{int(rank): code for items in peer_exits for rank, code in items}}

    def _explain_failure(self, exits: Mapping[int, int]) -> None:
        """Raise an error if another machine is the reason why processes of this one failed."""
        if self.rank:
            self._report(exits)
        begin = time.monotonic()
        while any(peer.is_running and time.monotonic() < begin + _seconds_to_report(peer) for peer in self._peers):
            time.sleep(_POLL)
        if any(peer.end and peer.end["aborted"] for peer in self._peers):
            self._report({}, interrupted=True, aborted=True)  # machine 0 forwards it to all machines
            raise SystemExit(SAVED)
        self._report(exits)
        for peer in self._peers:
            if peer.end is None and peer.silence > _REPORTS:
                raise MachineLostError(f"{peer} was lost: no answer for {peer.silence:.0f} s")
            with suppress(PeerFailedError):
                _check_failure(peer)

    def announce_request(self) -> None:
        """Tell the other machines that this one was asked to end, since its processes may need some time to do so."""
        for peer in self._peers:
            peer.send({"asked": True})

    def await_ends(self) -> None:
        """Wait on machine 0, which hosts the store, until the other machines have ended or are lost."""
        waiting = Waiting(self._timeout, lambda awaited: MachineLostError(f"timeout while waiting for {awaited}"))
        while running := [str(peer) for peer in self._peers if peer.is_running]:
            if self.rank:
                return
            waiting.check(f"the end of {', '.join(running)}")
            time.sleep(_POLL)

    def _report(
        self, exits: Mapping[int, int], lost: str | None = None, *, interrupted: bool = False, aborted: bool = False
    ) -> None:
        """Send the end of this machine's processes, but only once."""
        if not self._has_reported:
            self._has_reported = True
            for peer in self._peers:
                peer.send({"end": {"exits": exits, "lost": lost, "interrupted": interrupted, "aborted": aborted}})


def _seconds_to_end(end: Mapping[str, Any]) -> float:
    return _ABORTED if end["aborted"] else _INTERRUPTED


def _seconds_to_report(peer: Peer) -> float:
    return _INTERRUPTED if peer.is_asked else _REPORTS


def _check_failure(peer: Peer) -> None:
    if peer.is_lost:
        raise MachineLostError(f"{peer} was lost: its connection is closed")
    if peer.end and peer.end["lost"]:
        raise MachineLostError(peer.end["lost"])
    if peer.has_failed:
        raise PeerFailedError(str(peer))


def interface_of(address: str) -> str | None:
    """Return the name of the network interface with an IP address; None if this machine has none."""
    plain = address.removeprefix("::ffff:").partition("%")[0]
    for name, entries in psutil.net_if_addrs().items():
        if plain in (entry.address.partition("%")[0] for entry in entries):
            return name
    return None
