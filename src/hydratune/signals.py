"""Ctrl-C and SIGTERM, which must not get lost."""

from __future__ import annotations

import signal
from types import FrameType

from hydratune.errors import TERMINATED

_asked: list[BaseException] = []


def install() -> None:
    """Makes both unwind, so that MLflow is told before the process ends."""
    signal.signal(signal.SIGINT, _raise)
    signal.signal(signal.SIGTERM, _raise)


def check() -> None:
    """Raises again what was asked for: an exception that a signal raises inside a finalizer is dropped by Python."""
    if _asked:
        raise _asked[-1]


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of a handler)
    _asked.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED))
    raise _asked[-1]
