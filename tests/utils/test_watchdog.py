"""The thread that ends a process whose main thread cannot handle a request to end."""

import subprocess
import sys

import pytest

# The main thread waits in C code, which the handler of a signal cannot end.
WAITING = """
import contextlib, os, signal, sys, threading
from hydratune.utils import watchdog

number = getattr(signal, sys.argv[1])
signal.signal(number, lambda *_: None)
watchdog.start(lambda: False, lambda: False, 9, grace=0.2)
with watchdog.paused() if "paused" in sys.argv else contextlib.nullcontext():
    os.kill(os.getpid(), number)
    threading.Event().wait(float(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("name", "seconds", "code"), [("SIGTERM", 60, 9), ("SIGUSR1", 60, 9), ("SIGINT", 60, 130), ("SIGCHLD", 1.5, 0)]
)
def test_watchdog_ends_a_process_that_was_asked(name, seconds, code):
    """A request ends a process that waits; the end of a child process, e.g. of a data worker, does not."""
    done = subprocess.run([sys.executable, "-c", WAITING, name, str(seconds)], check=False)
    assert done.returncode == code


def test_watchdog_waits_while_it_is_paused():
    """Child processes may save for as long as they need."""
    done = subprocess.run([sys.executable, "-c", WAITING, "SIGTERM", "1.5", "paused"], check=False)
    assert done.returncode == 0
