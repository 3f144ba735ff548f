"""Ctrl-C and SIGTERM, which must not get lost."""

from __future__ import annotations

import os
import signal
from types import FrameType

from hydratune.errors import TERMINATED

_asked: list[BaseException] = []
_parents: list[int] = []


def install() -> None:
    """Makes both unwind, so that MLflow is told before the process ends."""
    signal.signal(signal.SIGINT, _raise)
    signal.signal(signal.SIGTERM, _raise)


def end_with_parent(number: int) -> None:
    """Makes `check` end this process once the one that started it, and has this number, is gone."""
    _parents[:] = [number]


def check() -> None:
    """Raises again what was asked for: an exception that a signal raises inside a finalizer is dropped by Python."""
    if _asked:
        raise _asked[-1]
    if is_orphan():
        raise SystemExit(TERMINATED)


def is_orphan() -> bool:
    """Whether this process was to end with its parent, which is gone."""
    return bool(_parents) and os.getppid() != _parents[0]


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of a handler)
    _asked.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED))
    raise _asked[-1]
