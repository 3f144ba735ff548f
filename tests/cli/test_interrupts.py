"""Exit codes after Ctrl-C."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from hydratune.cli.interrupts import resumable
from hydratune.utils import signals
from hydratune.utils.errors import SAVED


@pytest.fixture
def handlers():
    """Handlers of a command, without which Python raises KeyboardInterrupt itself."""
    previous = {number: signal.getsignal(number) for number in signals.NUMBERS}
    signals.install()
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)
    signals.reset()


def press_ctrl_c(times):
    """Sends SIGINT to this process."""
    for _ in range(times - 1):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("saved", ["checkpoints/checkpoint-5", "0/checkpoints/checkpoint-5", "0/metrics.json", ""])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_exits_with_75_exactly_if_work_is_saved(tmp_path, saved, times):
    """One Ctrl-C leaves what the same command resumes; a second one, or a run without results, does not."""
    if saved:
        Path(tmp_path, saved).mkdir(parents=True)
    is_resumable = bool(saved) and times == 1
    with pytest.raises(SystemExit if is_resumable else KeyboardInterrupt) as end, resumable(tmp_path):
        press_ctrl_c(times)
    if is_resumable:
        assert end.value.code == SAVED


@pytest.mark.parametrize("code", [0, SAVED, 143])
def test_other_exits_stay_as_they_are(tmp_path, code):
    """Only Ctrl-C is translated."""
    (tmp_path / "metrics.json").touch()
    with pytest.raises(SystemExit) as end, resumable(tmp_path):
        raise SystemExit(code)
    assert end.value.code == code
