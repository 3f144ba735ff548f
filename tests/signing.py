"""A callback that lets a test see which processes of a sweep train."""

from __future__ import annotations

import os
import time
from pathlib import Path

from transformers import TrainerCallback

_LONGEST = 600  # seconds to wait for another process


class Sign(TrainerCallback):
    """Leaves the number of its process in a folder, and trains on once so many processes did."""

    def __init__(self, folder: str, people: int = 1) -> None:
        self._folder, self._people = Path(folder), people

    def on_train_begin(self, *_, **__):
        """Waits, so that a fast worker does not train everything before the next one is there."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / str(os.getpid())).touch()
        end = time.monotonic() + _LONGEST
        while len(list(self._folder.iterdir())) < self._people:
            assert time.monotonic() < end, "nobody else trains"
            time.sleep(0.05)
