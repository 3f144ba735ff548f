"""Ctrl-C and SIGTERM, which must not get lost."""

from __future__ import annotations

import os
import signal
from types import FrameType

from hydratune.errors import TERMINATED

_asked: list[BaseException] = []
_started_by: list[tuple[int, bool]] = []  # a process, and whether it is the parent


def install() -> None:
    """Makes both unwind, so that MLflow is told before the process ends."""
    signal.signal(signal.SIGINT, _raise)
    signal.signal(signal.SIGTERM, _raise)


def end_with(number: int) -> None:
    """Makes `check` end this process once the one of this number, which started it, is gone."""
    _started_by[:] = [(number, os.getppid() == number)]


def check() -> None:
    """Raises again what was asked for: an exception that a signal raises inside a finalizer is dropped by Python."""
    if _asked:
        raise _asked[-1]
    if is_orphan():
        raise SystemExit(TERMINATED)


def is_orphan() -> bool:
    """Whether this process was to end with another, which is gone."""
    return any((is_parent and os.getppid() != number) or not _exists(number) for number, is_parent in _started_by)


def _exists(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of somebody else
        return True
    return True


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of a handler)
    _asked.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED))
    raise _asked[-1]
