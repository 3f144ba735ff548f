"""Rendezvous: machine 0 of a run listens at an endpoint, and the other machines connect to it."""

from __future__ import annotations

import errno
import json
import logging
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import psutil

from hydratune.utils.errors import ConfigError, Problem, one_line

log = logging.getLogger(__name__)

KEY = "hardware.launch.rdzv_endpoint"
POLL = 0.5  # seconds between two checks while waiting, so that a signal is handled
_FIRST_NOTICE, _LAST_INTERVAL = 3, 300  # seconds
_CONNECT, _REPLY = 3, 10  # seconds for one attempt
_SHORTEST_WAIT = 0.001  # seconds; a timeout of 0 would mean not to wait at all
_LONGEST_MESSAGE = 2**20  # bytes
_MOST_CALLERS = 100  # connections whose first message is not complete; more have to wait
_PORTS = range(20000, 30000)  # below the ports that the kernel gives to clients


class Waiting:
    """Timeout that logs what a run is waiting for: after 3, 6, 12, ... seconds.

    Args:
        timeout: Timeout in seconds.
        error: Function that returns the exception to raise after the timeout, for what was awaited.
    """

    def __init__(self, timeout: float, error: Callable[[str], Exception]) -> None:
        self.timeout = timeout
        self._error = error
        self._begin = time.monotonic()
        self._next: float = _FIRST_NOTICE

    def check(self, awaited: str) -> None:
        """Log `awaited` if it is time to; raise an error after the timeout."""
        waited = time.monotonic() - self._begin
        if waited >= self.timeout:
            raise self._error(awaited)
        if waited >= self._next:
            self._next += min(self._next, _LAST_INTERVAL)
            log.warning("waiting for %s (%.0f s of %.0f s)", awaited, waited, self.timeout)


def endpoint(text: str, run: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT, or of HOST with a port that is derived from the name of the run."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(_PORTS[zlib.crc32(run.encode()) % len(_PORTS)])
    return host.strip("[]"), int(port)


def is_endpoint(text: str) -> bool:
    """Return whether a text is HOST or HOST:PORT."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return bool(text)
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def listen(host: str, port: int) -> socket.socket:
    """Open the port of the endpoint on all interfaces; raise ConfigError if it is not free."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = f"set {KEY}={host}:{_free_port()} on all machines"
            raise ConfigError(Problem(KEY, f"another process uses port {port} of {KEY}", hint)) from error
        hint = f"set {KEY}={host}:PORT with another port on all machines"
        raise ConfigError(Problem(KEY, f"cannot open port {port} of {KEY}: {_reason(error)}", hint)) from error


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


class Listener:
    """Open port of the endpoint. It reads from all connections, so that a silent one does not delay any machine.

    Args:
        host: Name of this machine in the endpoint, for messages.
        port: Port to open.

    Raises:
        ConfigError: If the port cannot be opened.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = listen(host, port)
        self._callers: dict[socket.socket, _Caller] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self._server, *self._callers):
            connection.close()

    def accept(self, expected: Mapping[str, Any]) -> tuple[socket.socket, dict[str, Any]] | None:
        """Return a connection and the fields of its machine.

        Args:
            expected: Fields whose value must be the same on all machines.

        Returns:
            None if no machine of this run has introduced itself within `POLL` seconds.
        """
        servers = [self._server] * (len(self._callers) < _MOST_CALLERS)
        for connection in select.select([*servers, *self._callers], [], [], POLL)[0]:
            if connection is self._server:
                accepted, address = connection.accept()
                accepted.setblocking(False)
                self._callers[accepted] = _Caller(address[0], time.monotonic() + _REPLY)
            elif (hello := self._read(connection)) is not None:
                host = hello.get("host", self._callers.pop(connection).address)
                differing = {name: value for name, value in expected.items() if hello.get(name) != value}
                if not differing:
                    connection.settimeout(_REPLY)
                    return connection, hello
                refuse(connection, host, *next(iter(differing.items())))
        for connection, caller in [*self._callers.items()]:
            if time.monotonic() > caller.deadline:
                self._drop(connection, "no message")
        return None

    def _read(self, connection: socket.socket) -> dict[str, Any] | None:
        """Return the first message of a connection; None if it is not complete."""
        caller = self._callers[connection]
        try:
            if not (data := connection.recv(2**16)):
                raise _closed()
            caller.received += data
            return _message(caller.received)
        except (OSError, ValueError, RecursionError) as error:
            self._drop(connection, one_line(error))
            return None

    def _drop(self, connection: socket.socket, reason: str) -> None:
        address = self._callers.pop(connection).address
        log.warning("closed a connection from %s, which is not a machine of this run (%s)", address, reason)
        connection.close()


@dataclass
class _Caller:
    """Connection whose first message is not complete."""

    address: str
    deadline: float  # in seconds of time.monotonic
    received: bytes = b""


def refuse(connection: socket.socket, host: str, name: str, expected: object = None) -> None:
    """Tell a machine which of its fields is wrong, and close the connection."""
    log.warning("rejected %s: wrong %s", host, name)
    send(connection, {"refused": name, "expected": expected})
    connection.close()


def foreign(host: str) -> str:
    """Return a hint if none of the addresses of a name belongs to this machine, which listens."""
    try:
        addresses = {str(entry[4][0]) for entry in _resolve(host, 0)}
    except OSError as error:
        return f" ({_reason(error)})"
    own_addresses = {entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries}
    is_own = any(address in own_addresses or address.startswith("127.") for address in addresses)
    return "" if is_own else f" (this machine does not have its address {min(addresses)})"


def connect(host: str, port: int, hello: Mapping[str, Any], waiting: Waiting) -> tuple[socket.socket, dict[str, Any]]:
    """Connect to machine 0, repeatedly until it answers, and exchange the fields of the two machines.

    Raises:
        ConfigError: If machine 0 refuses this one, or does not answer in time.
    """
    while True:
        begin = time.monotonic()
        try:
            connection = _attempt(host, port)
            reply = _exchange(connection, hello)
        except (OSError, ValueError) as error:
            waiting.check(f"machine 0 at {host}:{port}: {_reason(error)}")
            time.sleep(max(0, begin + POLL - time.monotonic()))
            continue
        if "refused" in reply:
            connection.close()
            raise ConfigError(_refusal(reply, hello))
        return connection, reply


def _exchange(connection: socket.socket, hello: Mapping[str, Any]) -> dict[str, Any]:
    """Send a message and return the reply; close the connection if there is none."""
    try:
        send(connection, hello)
        return receive(connection)
    except BaseException:
        connection.close()
        raise


def _attempt(host: str, port: int) -> socket.socket:
    error: OSError = OSError("no address")
    for family, kind, protocol, _, address in _resolve(host, port):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_CONNECT)
            connection.connect(address)
            connection.settimeout(_REPLY)
        except OSError as failed:
            connection.close()
            error = failed
        else:
            return connection
    raise error


def _resolve(host: str, port: int) -> Any:
    """Look up a name in a thread: the C library may wait for a server for minutes without handling signals."""
    results: list[Any] = []

    def look_up() -> None:
        try:
            results.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_REPLY)
    if not results:
        raise TimeoutError("the name server does not answer")
    if isinstance(results[0], OSError):
        raise results[0]
    return results[0]


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError):
        return "another service answers there"
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)


def _refusal(reply: Mapping[str, Any], hello: Mapping[str, Any]) -> Problem:
    name, own_value = reply["refused"], hello.get(reply["refused"])
    if name == "node_rank":
        key = "hardware.launch.node_rank"
        return Problem(key, f"another machine has {key}={own_value}", "number the machines from 0")
    key = {"run": "hydra.run.dir", "version": "version"}.get(name, f"hardware.launch.{name}")
    label = "the version of hydratune" if name == "version" else key
    text = f"{label} is {own_value!r} here, but {reply.get('expected')!r} on machine 0"
    return Problem(key, text, f"use the same {'version' if name == 'version' else 'value'} on all machines")


def send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    """Send one message; if the other machine is gone, the next read from it shows that."""
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError as error:
        log.debug("not sent: %s", error)


def receive(connection: socket.socket) -> dict[str, Any]:
    """Read one message, byte by byte so that nothing after it is lost.

    Raises:
        OSError: If the connection ends, or the message is not complete in time.
        ValueError: If it is not a message of another machine.
    """
    end, line = time.monotonic() + _REPLY, b""
    while (message := _message(line)) is None:
        connection.settimeout(max(end - time.monotonic(), _SHORTEST_WAIT))
        if not (byte := connection.recv(1)):
            raise _closed()
        line += byte
    return message


def _message(received: bytes) -> dict[str, Any] | None:
    """Return a message from what was received of it; None if it is not complete."""
    if not b"{".startswith(received[:1]) or len(received) > _LONGEST_MESSAGE:
        raise ValueError("not a message of a hydratune machine")
    if not received.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(received)  # an object, since it starts with a brace
    return message


def _closed() -> OSError:
    return ConnectionResetError(errno.ECONNRESET, "the connection was closed")
