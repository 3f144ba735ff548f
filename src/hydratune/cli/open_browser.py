"""Process that opens the browser once a server answers: `python -m hydratune.cli.open_browser HOST PORT ADDRESS`."""

from __future__ import annotations

import os
import socket
import sys
import time
import webbrowser
from collections.abc import Callable

_PATIENCE = 300  # seconds until a server on a busy machine answers


def has_display() -> bool:
    """Return whether a browser would open in a window; in a terminal, it would hide the server's output."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_when_ready(host: str, port: int, address: str, open_page: Callable[[str], object] = webbrowser.open) -> bool:
    """Open a page as soon as a server listens; return False if that does not happen while our parent is alive."""
    parent, end = os.getppid(), time.monotonic() + _PATIENCE
    while time.monotonic() < end and os.getppid() == parent:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            open_page(address)
            return True
    return False


if __name__ == "__main__":
    open_when_ready(sys.argv[1], int(sys.argv[2]), sys.argv[3])
