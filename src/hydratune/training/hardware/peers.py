"""Connections to the other machines of a run, with heartbeats that show whether they still answer."""

from __future__ import annotations

import json
import logging
import select
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)

_HEARTBEAT, _POLL = 1.0, 0.1  # seconds
_NOTICE = 10.0  # seconds without a heartbeat, after which a warning is logged
UNREACHABLE = 8.0  # seconds without a heartbeat, after which processes that were asked to end get no more time


@dataclass
class Peer:
    """Another machine of the run.

    Args:
        rank: Node rank of the machine.
        host: Host name of the machine.
        processes: Number of processes that it starts.
        connection: Connection to it.
        round: Start of processes that it has joined; 0 is the first, and each restart adds 1.
        start: Last `start` message of machine 0.
        end: Its `end` message; None while it runs. `exits`: rank -> exit code of its failed processes. `lost`: the
            machine that it lost. `interrupted`: whether a signal ended it. `aborted`: whether a signal ended some of
            its processes before they could save.
        is_asked: Whether a signal asked it to end.
        is_open: Whether the connection is open.
    """

    rank: int
    host: str
    processes: int
    connection: socket.socket
    round: int = 0
    start: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None
    is_asked: bool = False
    is_open: bool = True
    _heard: float = field(default_factory=time.monotonic)
    _is_missed: bool = False
    _received: bytes = b""
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def __str__(self) -> str:
        return f"machine {self.rank} ({self.host})"

    @property
    def silence(self) -> float:
        """Seconds since anything was received from it."""
        return time.monotonic() - self._heard

    @property
    def is_running(self) -> bool:
        """Return whether it is connected and has not sent an `end` message yet."""
        return self.end is None and self.is_open

    @property
    def is_lost(self) -> bool:
        """Return whether its connection is closed without an `end` message."""
        return self.end is None and not self.is_open

    @property
    def has_failed(self) -> bool:
        """Return whether its processes failed, or it lost a machine; an interruption does not count."""
        return bool(self.end and (self.end["exits"] or self.end["lost"]))

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; if the machine is gone, the next read from it shows that."""
        self._send(json.dumps(message).encode() + b"\n")

    def beat(self) -> None:
        """Send a heartbeat, and log once if the machine no longer sends any."""
        self._send(b"\n")
        if self.end is None and self._is_missed != (self.silence > _NOTICE):
            self._is_missed = not self._is_missed
            if self._is_missed:
                log.warning("%s does not answer; waiting", self)
            else:
                log.warning("%s answers again", self)

    def _send(self, data: bytes) -> None:
        with self._sending:
            try:
                self.connection.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:  # the buffer is full, since the machine does not answer
                pass
            except OSError:
                self.is_open = False

    def read(self) -> None:
        """Read what has been received."""
        try:
            data = self.connection.recv(2**16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_open = False
            return
        self._heard = time.monotonic()
        *lines, self._received = (self._received + data).split(b"\n")
        for message in (json.loads(line) for line in lines if line):
            self.round = message.get("join", self.round)
            self.start = message.get("start", self.start)
            self.end = message.get("end", self.end)
            self.is_asked = message.get("asked", self.is_asked)


class Heartbeats:
    """Thread that sends heartbeats to other machines and reads their messages."""

    def __init__(self) -> None:
        self.peers: dict[int, Peer] = {}  # node rank -> machine
        self._connections: list[socket.socket] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeats")
        self._thread.start()

    def add(self, peer: Peer) -> None:
        """Add a machine, in place of an earlier connection to it."""
        peer.connection.setblocking(False)  # with a timeout, Python would wait in spite of MSG_DONTWAIT
        self._connections.append(peer.connection)
        self.peers = {**self.peers, peer.rank: peer}

    def close(self) -> None:
        """End the thread and close all connections."""
        self._closing.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def _run(self) -> None:
        beat = 0.0
        while not self._closing.is_set():
            peers = [peer for peer in self.peers.values() if peer.is_open]
            if time.monotonic() >= beat + _HEARTBEAT:
                beat = time.monotonic()
                for peer in peers:
                    peer.beat()
            if not peers:
                self._closing.wait(_POLL)
                continue
            ready, _, _ = select.select([peer.connection for peer in peers], [], [], _POLL)
            for peer in peers:
                if peer.connection in ready:
                    peer.read()
