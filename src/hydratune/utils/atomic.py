"""Replacement of a file in one step, wherever the file is; `files.atomic_write` checks the place first."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` in one step at the end, or is removed after an error.

    Each writer has its own temporary path. Of two simultaneous writers, the last one wins.
    """
    temp_path = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temp_path
        with temp_path.open("rb+") as file:
            os.fsync(file.fileno())
        temp_path.replace(path)
    finally:
        temp_path.unlink(missing_ok=True)
