"""A callback that holds trainings until a signal arrives."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.utils import signals

_LONGEST = 300  # seconds


class WaitForSignal(TrainerCallback):
    """Waits at the end of a step until this process was asked to end; so do the other processes of the run.

    Args:
        folder: Where each training that waits leaves an empty file, numbered from 0.
        step: At its end.
        most: Number of trainings that wait; later ones do not.
    """

    def __init__(self, folder: str, step: int, most: int = 1) -> None:
        self._folder, self._step, self._most = Path(folder), step, most

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Waits; fails if no signal arrives."""
        if state.global_step != self._step or not state.is_world_process_zero or not self._is_free():
            return
        end = time.monotonic() + _LONGEST
        while not signals.stop_requested():
            assert time.monotonic() < end, "no signal arrived"
            time.sleep(0.05)

    def _is_free(self) -> bool:
        """Whether fewer trainings wait or have waited; this one is counted then."""
        self._folder.mkdir(exist_ok=True)
        for number in range(self._most):
            try:
                os.close(os.open(self._folder / str(number), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False
