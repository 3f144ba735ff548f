"""Logging: levels of the libraries, and secrets in log records."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from types import TracebackType
from typing import Any

from hydratune.provenance import redact


def quiet_libraries() -> None:
    """Send messages of transformers and datasets to the run's log, and hide their progress bars of loading files."""
    import datasets
    import transformers

    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    transformers.utils.logging.disable_progress_bar()  # of loading and saving weights; the Trainer's bar stays
    datasets.utils.logging.enable_propagation()
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request to the Hub
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # a broken file has an error of ours


def guard_logs() -> None:
    """Mask secrets in every record that this process logs from now on, and in tracebacks of errors that end it."""
    make = logging.getLogRecordFactory()

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        with contextlib.suppress(TypeError, ValueError):  # the message does not fit its arguments
            record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and record.exc_info[0]:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    logging.setLogRecordFactory(masked)
    sys.excepthook = _print_masked


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
