"""A thread that ends a process whose main thread waits inside a library and so cannot handle a signal."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hydratune.utils import signals
from hydratune.utils.errors import INTERRUPTED

_POLL = 1.0  # seconds
_paused: list[bool] = []  # an item for each `paused` context


@contextmanager
def paused() -> Iterator[None]:
    """Let the process take as long as it needs after a signal, e.g. while its child processes save."""
    _paused.append(True)
    try:
        yield
    finally:
        _paused.pop()


def start(is_patient: Callable[[], bool], is_orphan: Callable[[], bool], code: int, grace: float = 8.0) -> None:
    """Start the thread.

    Torch's calls that wait for another process return to Python, which runs signal handlers, only after
    `trainer.args.ddp_timeout`. And a library can wait for its threads, which wait for a server.

    Args:
        is_patient: Returns whether a signal may take as long as it needs, as in training, which ends after a step.
        is_orphan: Returns whether the process that started this one is gone.
        code: Exit code if the main thread does not end the process in time; after SIGINT, it is that of Ctrl-C.
        grace: Seconds for the main thread after a signal, or after the end of the process that started this one.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)  # written to by the C handler, whatever Python does
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # DataLoader workers handle signals themselves
    arguments = (read, is_patient, is_orphan, code, grace)
    threading.Thread(target=_watch, args=arguments, daemon=True, name="watchdog").start()


def _watch(read: int, is_patient: Callable[[], bool], is_orphan: Callable[[], bool], code: int, grace: float) -> None:
    begin: float | None = None
    exit_code = code
    while begin is None or time.monotonic() < begin + grace:
        received = os.read(read, 1024) if select.select([read], [], [], _POLL)[0] else b""
        signaled = any(signum in received for signum in signals.NUMBERS)  # any data worker that ends causes SIGCHLD
        if (signaled or is_orphan()) and begin is None:
            begin = time.monotonic()
            exit_code = INTERRUPTED if signal.SIGINT in received else code
        if begin is not None and (_paused or is_patient()) and not is_orphan():
            begin = None
    os._exit(exit_code)
