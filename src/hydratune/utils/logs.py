"""Logs and terminal output: levels of the libraries, masked secrets, escaped control characters."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable
from functools import partialmethod
from types import TracebackType
from typing import Any, TextIO, cast

from hydratune.utils.escaping import escape_control
from hydratune.utils.provenance import redact

_CURSOR = re.compile(r"\r|\n*(?:\x1b\[A)+\Z")  # cursor movements that a progress bar writes before its text, or alone

_STYLE = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal

_STDERR = 2  # the highest number of a standard stream
_BAR_DELAY = 1.0  # seconds before a progress bar of datasets appears
QUIET, VERBOSE = "quiet", "verbose"
VERBOSITY = "HYDRATUNE_VERBOSITY"  # variable of the environment, which the processes of a run inherit
_DETAILED = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _TerminalFormatter(logging.Formatter):
    """Formatter for the terminal: messages alone, and the level of warnings and errors before them."""

    def format(self, record: logging.LogRecord) -> str:
        level = "error: " if record.levelno >= logging.ERROR else "warning: "
        return level * (record.levelno >= logging.WARNING) + super().format(record)


def set_verbosity(verbosity: str | None) -> None:
    """Set how much this command and its processes log to the terminal: `QUIET`, `VERBOSE`, or None for the default."""
    os.environ.pop(VERBOSITY, None)
    if verbosity:
        os.environ[VERBOSITY] = verbosity


def apply_verbosity() -> None:
    """Change the handlers of the terminal after logging was configured; a log file has at least as much as before.

    A quiet command logs warnings and errors. A verbose one adds debug messages of hydratune, messages of libraries, and
    time, level, and logger of each line.
    """
    verbosity = os.environ.get(VERBOSITY)
    if verbosity == VERBOSE:
        logging.getLogger("hydratune").setLevel(logging.DEBUG)
    for handler in logging.getLogger().handlers:
        if not isinstance(handler, logging.StreamHandler) or isinstance(handler, logging.FileHandler):
            continue
        if is_quiet():
            handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter(_DETAILED) if verbosity == VERBOSE else _TerminalFormatter())


def log_to_terminal() -> None:
    """Print warnings and errors of all loggers to stderr, until Hydra configures logging."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    apply_verbosity()


def show_progress() -> None:
    """Print the INFO messages of hydratune too."""
    if os.environ.get(VERBOSITY) != VERBOSE:  # which shows more
        logging.getLogger("hydratune").setLevel(logging.INFO)


def is_quiet() -> bool:
    """Return whether the terminal shows only warnings, errors, and results."""
    return os.environ.get(VERBOSITY) == QUIET


def shows_bars() -> bool:
    """Return whether progress bars are shown: on a terminal, unless the command is quiet."""
    return sys.stderr.isatty() and not is_quiet()


def quiet_libraries() -> None:
    """Send messages of transformers and datasets to the run's log, and hide progress bars that nobody needs."""
    import datasets
    import transformers

    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    transformers.utils.logging.disable_progress_bar()  # for loading and saving weights; the Trainer's bar stays
    datasets.utils.logging.enable_propagation()
    if not shows_bars():
        datasets.disable_progress_bars()  # in a file, each update of a bar would be a line
    # A bar appears if the work takes a while, and disappears at its end. Keywords of a call have priority.
    bar: Any = datasets.utils.tqdm
    bar.__init__ = partialmethod(bar.__init__, leave=False, delay=_BAR_DELAY)
    if os.environ.get(VERBOSITY) == VERBOSE:
        transformers.utils.logging.set_verbosity_info()
        datasets.utils.logging.set_verbosity_info()
        return
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)  # logs that it creates tables
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # logs a line for each request to the Hub
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # our own error reports a broken file


def open_streams() -> None:
    """Open the standard streams that this process was started without, e.g. by `hydratune ... >&-`, on the null device.

    Otherwise, the next file that is opened would get the number of such a stream, and libraries would print into it.
    """
    descriptor = 0
    while descriptor <= _STDERR:  # `open` returns the lowest number that is free
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor <= _STDERR:
            os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def guard_output() -> None:
    """Mask secrets and escape control characters in everything that this process logs and prints from now on.

    This includes what libraries, warnings, threads, and finalizers print. Further lines of a log message are indented,
    so that no message looks like two records.
    """
    logging.raiseExceptions = False  # a log file on a full disk must not print a traceback for each of its lines
    if sys.excepthook is not _print_guarded:  # once per process
        _guard_records()
    sys.excepthook = _print_guarded
    sys.stdout = _guarded_stream(sys.stdout)
    sys.stderr = _guarded_stream(sys.stderr, has_bars=True)


def _guard_records() -> None:
    make_record = logging.getLogRecordFactory()

    def guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        with contextlib.suppress(TypeError, ValueError):  # the message does not fit its arguments
            record.msg, record.args = _indented(record.getMessage()), None
        if record.exc_info and record.exc_info[0]:
            record.exc_text = _indented("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    logging.setLogRecordFactory(guarded)


class GuardedStream:
    """A text stream that masks secrets and escapes control characters, also in the output of libraries and `print`.

    It drops colors, except for those of rich.

    Args:
        stream: Stream to write to.
        has_bars: Whether progress bars are drawn on it, which move the cursor before they write.
        masks: Whether secrets are masked.
    """

    def __init__(self, stream: TextIO, has_bars: bool = False, *, masks: bool = True) -> None:
        self.unguarded = stream
        # A console of rich writes to this stream, since its styles are control characters.
        self.rich_proxied_file = _StyledStream(stream) if masks else stream
        self._has_bars, self._masks = has_bars, masks

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        moves = _CURSOR.match(text) if self._has_bars else None
        begin = moves.end() if moves else 0
        rest = _masked(text[begin:]) if self._masks else text[begin:]
        self.unguarded.write(text[:begin] + escape_control(rest))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


class _StyledStream:
    """A text stream that masks secrets in styled text; a text with a secret loses its styles."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        plain = _STYLE.sub("", text)  # a style may begin in the middle of a secret
        masked = str(redact(plain))
        self._stream.write(text if masked == plain else masked)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def data_output() -> TextIO:
    """Return standard output for rows of data, which are printed exactly, except for control characters."""
    stream = sys.stdout
    if not isinstance(stream, GuardedStream):
        return stream
    return cast(TextIO, GuardedStream(stream.unguarded, masks=False))


def _guarded_stream(stream: TextIO, has_bars: bool = False) -> TextIO:
    return stream if isinstance(stream, GuardedStream) else cast(TextIO, GuardedStream(stream, has_bars))


def _indented(text: str) -> str:
    return _guarded(text).replace("\n", "\n  ")


def _guarded(text: str) -> str:
    return escape_control(_masked(text))


def _masked(text: str) -> str:
    """Mask secrets, and drop the colors of libraries such as Ray, which would be escaped otherwise."""
    return str(redact(_STYLE.sub("", text)))  # before the masks, since a style may begin in the middle of a secret


def _print_guarded(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(_guarded("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
