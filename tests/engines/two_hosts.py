"""Two hosts with names, addresses, and a link of their own, as network namespaces of this machine."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from processes import Started, start

_NEW_MOUNTS, _NEW_NAMES = 0x20000, 0x4000000  # CLONE_NEWNS, CLONE_NEWUTS


def missing() -> str | None:
    """Return why this machine cannot have hosts, or None."""
    if os.geteuid():
        return "network namespaces need root"
    if absent := [name for name in ("ip", "unshare") if not shutil.which(name)]:
        return f"not installed: {', '.join(absent)} (iproute2, util-linux)"
    namespaces = ["unshare", "--net", "--mount", "--uts", "true"]
    return None if subprocess.run(namespaces, check=False).returncode == 0 else "no namespaces in this container"


@dataclass(frozen=True)
class Host:
    """One of them.

    Args:
        name: Its host name.
        address: Of its end of the link.
        namespace: Its network namespace.
        hosts: The file that is its /etc/hosts.
    """

    name: str
    address: str
    namespace: str
    hosts: Path

    @property
    def interface(self) -> str:
        """The name of its end of the link."""
        return f"link{self.name[-1]}"

    def start(self, *arguments: str, **environment: str) -> Started:
        """Starts `hydratune ARGUMENTS` on this host."""
        return start(*arguments, enter=functools.partial(_enter, self), **environment)

    def processes(self) -> list[psutil.Process]:
        """Those that run on it."""
        found = []
        for pid in _run("ip", "netns", "pids", self.namespace).split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found

    def kill(self) -> None:
        """Kills all its processes."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def set_link(self, state: str) -> None:
        """Sets its end of the link `up` or `down`."""
        _run("ip", "-n", self.namespace, "link", "set", self.interface, state)


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Makes host0 and host1; each knows both by name, and itself as 127.0.1.1, as on Debian."""
    key = uuid.uuid4().hex[:6]
    pair = (f"10.{os.getpid() % 200 + 20}.77.1", f"10.{os.getpid() % 200 + 20}.77.2")
    hosts = []
    for number, address in enumerate(pair):
        file = folder / f"hosts{number}"
        file.write_text(
            f"127.0.0.1 localhost\n127.0.1.1 host{number}\n{pair[1 - number]} host{1 - number}\n", encoding="utf-8"
        )
        hosts.append(Host(f"host{number}", address, f"hydratune-{key}-{number}", file))
    first, second = hosts
    try:
        for host in hosts:
            _run("ip", "netns", "add", host.namespace)
            _run("ip", "-n", host.namespace, "link", "set", "lo", "up")
        peer = ["peer", "name", second.interface, "netns", second.namespace]
        _run("ip", "-n", first.namespace, "link", "add", first.interface, "type", "veth", *peer)
        for host in hosts:
            _run("ip", "-n", host.namespace, "address", "add", f"{host.address}/24", "dev", host.interface)
            host.set_link("up")
        yield first, second
    finally:
        for host in hosts:
            with suppress(subprocess.CalledProcessError):  # it was not made
                host.kill()
                _run("ip", "netns", "delete", host.namespace)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _enter(host: Host) -> None:
    """Moves this process to a host, with its name and its /etc/hosts."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", host.namespace).open() as namespace:
        _call(libc.setns(namespace.fileno(), 0))
    _call(libc.unshare(_NEW_MOUNTS | _NEW_NAMES))
    socket.sethostname(host.name)
    _run("mount", "--make-rprivate", "/")
    _run("mount", "--bind", str(host.hosts), "/etc/hosts")


def _call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "no access to the namespace")
