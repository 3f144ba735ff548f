"""`hydratune` in processes of their own that are forks of one that has imported everything: a start costs no seconds.

The console script itself is started by `test_installed.py`, `test_hub.py`, and those of attacks and secrets in faults/.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import preloaded

LONG = 1000  # seconds; what takes longer hangs, and is not merely slow beside the other tests
HYDRATUNE = str(Path(sys.executable).with_name("hydratune"))


class Started:
    """A command that runs, as `subprocess.Popen` has it; all that it says waits in files.

    Attributes:
        pid: Of the process.
    """

    def __init__(
        self,
        arguments: list[str],
        cwd: Path,
        environment: dict[str, str],
        session: bool,
        enter: Callable[[], None] | None = None,
        cold: bool = False,
    ) -> None:
        folder = tempfile.mkdtemp(dir=Path.cwd().parent)  # of a test, which works in a directory below its own
        self._said = [Path(folder, name) for name in ("out", "err")]
        given = (arguments, cwd, environment, self._said, session, enter, cold)
        self._process = preloaded.fork(_main, *given)
        self.pid = int(self._process.pid or 0)
        while self.poll() is None and not self._said[-1].exists():  # it is not on its own yet
            time.sleep(0.01)

    @property
    def returncode(self) -> int | None:
        """None as long as it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, if there is one."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("hydratune", timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float = LONG) -> tuple[str, str]:
        """What it printed and what it told, once it has ended."""
        self.wait(timeout)
        return self.said()

    def said(self) -> tuple[str, str]:
        """What it has printed and told until now."""
        out, err = (file.read_text(errors="replace") if file.exists() else "" for file in self._said)
        return out, err

    def send_signal(self, number: int) -> None:
        """Of any kind."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """By SIGKILL, if it still runs."""
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind:
            self.kill()
        self._process.join()


def start(
    *arguments: str,
    cwd: Path | None = None,
    session: bool = False,
    enter: Callable[[], None] | None = None,
    cold: bool = False,
    **environment: str,
) -> Started:
    """Starts `hydratune ARGUMENTS` in the background.

    Args:
        arguments: Of the command.
        cwd: Its working directory.
        session: Whether it has a session of its own.
        enter: Called first in its process, e.g. to enter a network namespace; a function of a module, for pickle.
        cold: Whether the processes that it starts are started as a user's are, and not forked.
        environment: More variables of its environment.
    """
    variables = {**os.environ, **environment}
    return Started([str(one) for one in arguments], cwd or Path.cwd(), variables, session, enter, cold)


def hydratune(
    *arguments: str, cwd: Path | None = None, enter: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`hydratune ARGUMENTS`, once it has ended."""
    with start(*arguments, cwd=cwd, enter=enter, **environment) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(["hydratune", *arguments], process.wait(), out, err)


def python(code: str, *arguments: str, **environment: str) -> str:
    """What a program prints in a process that has imported libraries, and shares nothing else with this one."""
    output = Path(tempfile.mkdtemp(dir=Path.cwd().parent), "out")
    process = preloaded.fork(_program, code, arguments, Path.cwd(), {**os.environ, **environment}, output)
    process.join()
    printed = output.read_text() if output.exists() else ""
    assert process.exitcode == 0, printed
    return printed


def _program(code: str, arguments: Sequence[str], cwd: Path, environment: dict[str, str], output: Path) -> None:
    """What the fork of `python` does."""
    gc.freeze()  # what it was forked with is no garbage
    preloaded.enter(cwd, environment)
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
    sys.argv = ["-c", *arguments]
    preloaded.end(lambda: exec(code, {"__name__": "__main__"}))  # noqa: S102 (the test's own)


def blank_plot(_: object, target: Path | str, **__: object) -> None:
    """Stand in for `matplotlib.figure.Figure.savefig`: an empty file with the first bytes of a PNG."""
    Path(target).write_bytes(b"\x89PNG")


def without_plots() -> None:
    """Draw nothing in this process: plots take half of a tiny run's time, and have their own tests."""
    from matplotlib.figure import Figure

    from hydratune.sweep.report import page

    Figure.savefig, page.write = blank_plot, lambda *_: []  # type: ignore[assignment,method-assign]


def _main(
    arguments: list[str],
    cwd: Path,
    environment: dict[str, str],
    said: list[Path],
    session: bool,
    enter: Callable[[], None] | None,
    cold: bool,
) -> None:
    """What the fork does."""
    from hydratune.cli.main import main

    gc.freeze()  # what it was forked with is no garbage
    if enter:
        enter()
    without_plots()
    if session:
        os.setsid()
    if not cold:
        preloaded.install()
    preloaded.enter(cwd, environment)
    for number, file in enumerate(said, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [HYDRATUNE, *arguments]
    preloaded.end(main)
