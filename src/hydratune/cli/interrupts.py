"""Exit code after Ctrl-C: 75 if work is saved that the same command resumes, otherwise 130."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydratune.utils import signals
from hydratune.utils.errors import SAVED
from hydratune.utils.files import CHECKPOINTS, METRICS
from hydratune.utils.messages import print_line


@contextmanager
def resumable(directory: Path | None) -> Iterator[None]:
    """End with exit code 75 after a first Ctrl-C inside if a run or sweep has saved work.

    A second Ctrl-C gives up what was not saved yet, so it stays a KeyboardInterrupt, with exit code 130.

    Args:
        directory: Directory of the run or sweep; None if the command has not created one.
    """
    try:
        yield
    except KeyboardInterrupt as request:
        if directory is None or not is_saved(directory) or signals.is_repeated():
            raise
        print_line("\ninterrupted")  # below the progress bar
        raise SystemExit(SAVED) from request


def is_saved(directory: Path) -> bool:
    """Return whether a directory contains a checkpoint or the metrics of a finished run."""
    return any(next(directory.rglob(name), None) for name in (f"{CHECKPOINTS}/*", METRICS))
