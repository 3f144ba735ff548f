"""Requests to end in one process: which of them count, and what they raise."""

import os
import signal

import pytest

from hydratune.utils import signals
from hydratune.utils.errors import SAVED, TERMINATED

pytestmark = pytest.mark.usefixtures("handled_signals")


def send(*numbers):
    """Sends signals to this process."""
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_request_raises_the_exit_code(number):
    """Outside training, the first request ends the process with the code of a command that can be run again."""
    with pytest.raises(SystemExit) as end:
        send(number)
    assert end.value.code == SAVED


def test_ctrl_c_raises_keyboard_interrupt():
    """Outside training, Ctrl-C is Python's own exception."""
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_repeats_and_other_signals_are_one_request():
    """While a step finishes, SIGTERM twice and what a scheduler sends before or behind it change nothing."""
    with pytest.raises(SystemExit) as end, signals.defer_signals():  # noqa: PT012 (it raises at the end of the block)
        send(signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1)
        signals.raise_pending()
        assert signals.stop_requested()
        signals.end(SystemExit(SAVED))
    assert end.value.code == SAVED


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_ctrl_c_after_a_request_is_urgent(first):
    """Ctrl-C does not wait for the end of a step that another request waits for."""
    with pytest.raises(KeyboardInterrupt), signals.defer_signals():
        send(first, signal.SIGINT)


def test_first_request_is_passed_on_once():
    """A process that waits for others, e.g. for workers of a sweep, passes the first request on to them."""
    passed_on = []
    with pytest.raises(SystemExit), signals.defer_signals(lambda: passed_on.append("asked")):
        send(signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1)
    assert passed_on == ["asked"]


def test_late_repeat_is_urgent(monkeypatch):
    """The same signal again, seconds later, ends the process without saving, with another exit code."""
    monkeypatch.setattr(signals, "REPEAT_SECONDS", 0)
    with pytest.raises(SystemExit) as end, signals.defer_signals():
        send(signal.SIGTERM, signal.SIGTERM)
    assert end.value.code == TERMINATED


def test_repeat_does_not_disturb_unwinding():
    """A repeat while the first request unwinds is ignored, so that records are complete."""
    done = []

    def work():
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGTERM)
            done.append("complete")

    with pytest.raises(SystemExit):
        work()
    assert done == ["complete"]


def test_rank_ignores_ctrl_c_and_late_repeats(monkeypatch):
    """A rank leaves Ctrl-C and all repeats to the process that started it."""
    monkeypatch.setattr(signals, "REPEAT_SECONDS", 0)
    signals.install_in_child(os.getppid())
    with pytest.raises(SystemExit) as end, signals.defer_signals():  # noqa: PT012
        send(signal.SIGINT)
        assert not signals.stop_requested()
        send(signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR2)
        signals.end(SystemExit(SAVED))
    assert end.value.code == SAVED


def test_data_worker_outlives_the_signals_of_a_job(monkeypatch):
    """A DataLoader worker ignores what all processes of a job receive, and obeys SIGTERM once training has ended."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with signals.defer_signals():
        signals.install_in_data_worker(signals.training_flag())
        send(*signals.NUMBERS)
    assert not ended
    send(signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
    assert ended == [0]


def test_launcher_handler_is_called_on_demand():
    """A launcher's own handler runs once the work of ending is done, for the signals that came."""
    called = []
    signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))  # noqa: ARG005
    signals.install(SAVED)
    with pytest.raises(SystemExit):
        send(signal.SIGUSR2)
    assert not called
    signals.call_launcher_handlers()
    assert called == [signal.SIGUSR2]


def test_fork_forgets_requests():
    """A forked process is not asked what its parent was asked."""
    with pytest.raises(SystemExit):
        send(signal.SIGTERM)
    child = os.fork()
    if not child:
        os._exit(int(signals.stop_requested()))
    assert os.waitpid(child, 0)[1] == 0


def test_idle_process_ignores_requests():
    """A worker without work stays, since its launcher would take its end for a failure."""
    signals.ignore()
    send(*signals.NUMBERS)
    assert not signals.stop_requested()
