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


def end_with_parent() -> None:
    """Makes `check` end this process once the one that started it is gone."""
    _parents[:] = [os.getppid()]


def check() -> None:
    """Raises again what was asked for: an exception that a signal raises inside a finalizer is dropped by Python."""
    if _asked:
        raise _asked[-1]
    if _parents and os.getppid() != _parents[0]:
        raise SystemExit(TERMINATED)


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of a handler)
    _asked.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED))
    raise _asked[-1]
