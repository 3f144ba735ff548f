"""Requests to end: Ctrl-C, SIGTERM, and Slurm's SIGUSR1 and SIGUSR2.

Slurm sends a signal to every process of a job step, and `srun` sends SIGTERM twice within a few milliseconds. So every
process of a run handles all of these signals, and a repeat within `REPEAT_SECONDS` is the same request. Only Ctrl-C
comes from the keyboard, where a repeat asks to end immediately.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hydratune.utils.errors import SAVED, TERMINATED

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
REPEAT_SECONDS = 5.0  # period in which a repeat of a signal other than SIGINT is ignored

_exit_codes: list[int] = [TERMINATED]  # exit code of a process that is asked to end, other than by Ctrl-C
_asked: list[BaseException] = []  # accepted requests, as the exceptions that they raise
_received: dict[int, float] = {}  # signal -> time of its first arrival, in seconds of time.monotonic
_launcher_handlers: dict[int, Callable[..., Any]] = {}  # signal -> the handler that `install` replaced
_finishing: list[bool] = []  # whether the first request waits for the end of a step
_notify: list[Callable[[], None]] = []  # the argument of `defer_signals`
_training: list[Any] = []  # the flag that `training_flag` returns
parents: list[tuple[int, bool]] = []  # ID of the process that started this one, and whether it is the parent


def install(exit_code: int = TERMINATED) -> None:
    """Handle all requests to end: the process unwinds, so that checkpoints and records are complete.

    Args:
        exit_code: Exit code of a process that is asked to end by a signal other than SIGINT.
    """
    _exit_codes[:] = [exit_code]
    for signum in NUMBERS:
        previous_handler = signal.signal(signum, _handle)
        if callable(previous_handler) and previous_handler not in (_handle, signal.default_int_handler):
            _launcher_handlers[signum] = previous_handler


def install_in_child(parent: int, exit_code: int = TERMINATED) -> None:
    """Handle requests in a process that another one starts and ends; ignore Ctrl-C and repeated signals.

    Ctrl-C is for the process that started this one.

    Args:
        parent: ID of the process that started this one.
        exit_code: Exit code of this process if it is asked to end.
    """
    install(exit_code)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for signum in NUMBERS[1:]:
        signal.signal(signum, _handle_first)
    exit_with_parent(parent)


def training_flag() -> Any:
    """Return a flag, shared with child processes, that is true inside `defer_signals`."""
    if not _training:
        from multiprocessing.sharedctypes import RawValue  # takes 15 ms, and only training needs it

        _training.append(RawValue(ctypes.c_bool, bool(_finishing)))
    return _training[0]


def install_in_data_worker(training: Any) -> None:
    """Leave requests to the training process, which ends its DataLoader workers itself after it has saved.

    A worker obeys SIGTERM, with exit code 0, once that process is not training. PyTorch sends SIGTERM to end workers,
    and raises an error in the training process if a worker ends with another code.

    Args:
        training: The `training_flag` of the training process.
    """
    ignore()
    signal.signal(signal.SIGTERM, lambda *_: None if training.value else os._exit(0))


def ignore() -> None:
    """Ignore all requests from now on: the process that started this one ends it."""
    for signum in NUMBERS:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def defer_signals(notify: Callable[[], None] | None = None) -> Iterator[None]:
    """Store the first request inside, for which the caller checks `stop_requested`; an urgent one raises as elsewhere.

    Args:
        notify: Called on the first request, to pass it on to processes that the caller waits for.
    """
    _set_finishing(True)
    _notify[:] = [notify] if notify else []
    try:
        yield
    finally:
        _set_finishing(False)
        _notify.clear()
    raise_pending()


def is_finishing() -> bool:
    """Return whether the first request waits for the end of a step."""
    return bool(_finishing)


def stop_requested() -> bool:
    """Return whether this process was asked to end."""
    return bool(_asked)


def is_repeated() -> bool:
    """Return whether Ctrl-C was pressed more than once."""
    return sum(isinstance(request, KeyboardInterrupt) for request in _asked) > 1


def ended_by_request(exit_code: int) -> bool:
    """Return whether a process with this exit code was asked to end, perhaps before it could handle signals."""
    return exit_code in (SAVED, TERMINATED, *(-signum for signum in NUMBERS))


def end(instead: BaseException | None = None) -> None:
    """Raise the exception of the request, or `instead`; another process of the run may have received the signal."""
    if not _asked:
        _asked.append(SystemExit(_exit_codes[0]))
    raise instead or _asked[-1]


def exit_with_parent(number: int) -> None:
    """Make `raise_pending` end this process once the process `number`, which started it, is gone."""
    parents[:] = [(number, os.getppid() == number)]


def raise_pending() -> None:
    """Raise a pending request again, because Python drops an exception that a handler raises inside a finalizer.

    An orphan, whose starting process is gone, ends too.
    """
    if len(_asked) > len(_finishing):
        raise _asked[-1]
    if is_orphan():
        raise SystemExit(TERMINATED)


def is_orphan() -> bool:
    """Return whether this process should end because the one of `exit_with_parent` is gone."""
    return any((is_parent and os.getppid() != pid) or not _exists(pid) for pid, is_parent in parents)


def call_launcher_handlers() -> None:
    """Call the launcher's own handlers of the received signals, e.g. submitit's, which requeues the job."""
    for signum in list(_received):
        if handler := _launcher_handlers.get(signum):
            handler(signum, None)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    return True


def _is_urgent(signum: int) -> bool:
    """Return whether a signal asks to end without saving; a scheduler or a launcher may only repeat the first one."""
    if signum == signal.SIGINT:
        return True
    return signum in _received and time.monotonic() - _received[signum] >= REPEAT_SECONDS


def _handle(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signature of a handler)
    if _asked and not _is_urgent(signum):
        _received.setdefault(signum, time.monotonic())
        return
    code = TERMINATED if _asked else _exit_codes[0]
    _received.setdefault(signum, time.monotonic())
    _asked.append(KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(code))
    if len(_asked) > len(_finishing):
        raise _asked[-1]
    hint = b"; press Ctrl-C to stop immediately" if os.isatty(2) else b""  # not in the log of a batch job
    os.write(2, b"\nhydratune: stopping after this step and a checkpoint" + hint + b"\n")
    for notify in _notify:
        notify()


def _handle_first(signum: int, frame: FrameType | None) -> None:
    if not _asked:
        _handle(signum, frame)


def _set_finishing(value: bool) -> None:
    _finishing[:] = [True] * value
    for flag in _training:
        flag.value = value


def reset() -> None:
    """Forget all requests: those of the parent of a fork, or of an earlier test."""
    _asked.clear()
    _received.clear()
    _finishing.clear()


os.register_at_fork(after_in_child=reset)
