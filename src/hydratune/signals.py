"""Ctrl-C, SIGTERM and Slurm's SIGUSR1 and SIGUSR2, which must not get lost, nor lose work."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hydratune.errors import TERMINATED

_asked: list[BaseException] = []
_finishing: list[bool] = []  # whether the first signal waits for the end of a step
_started_by: list[tuple[int, bool]] = []  # a process, and whether it is the parent


def install() -> None:
    """Makes them unwind, so that MLflow is told before the process ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _raise)


@contextmanager
def finishing() -> Iterator[None]:
    """Inside, the first signal raises nothing, and whoever works there asks `is_asked`; the second raises as ever."""
    _finishing.append(True)
    try:
        yield
    finally:
        _finishing.clear()
    check()


def is_asked() -> bool:
    """Whether this process was asked to end."""
    return bool(_asked)


def end(instead: BaseException | None = None) -> None:
    """Raises what the signal stands for, or something else; another process of the run may have had the signal."""
    raise instead or (_asked[-1] if _asked else SystemExit(TERMINATED))


def install_below(number: int) -> None:
    """For a process that the one of this number has started and ends: Ctrl-C is for that one, SIGTERM counts once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise_once)
    end_with(number)


def end_with(number: int) -> None:
    """Makes `check` end this process once the one of this number, which started it, is gone."""
    _started_by[:] = [(number, os.getppid() == number)]


def check() -> None:
    """Raises again what was asked for: an exception that a signal raises inside a finalizer is dropped by Python."""
    if len(_asked) > len(_finishing):
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


def _raise_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # else a second one would disturb the work of ending
    _raise(number, frame)


def _raise(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of a handler)
    _asked.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED))
    if len(_asked) > len(_finishing):
        raise _asked[-1]
    os.write(2, b"\nhydratune: the step is finished and saved first; once more to end at once\n")
