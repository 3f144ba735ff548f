"""Stopwatch callback that times hydratune and the baseline scripts in the same way."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState


class Stopwatch(TrainerCallback):
    """Write the start of training, its evaluations, and for each epoch its seconds, steps, batches, and row lengths.

    An epoch is timed from before its first batch is collated to after its last step, with logging, without evaluation
    and saving. Its CPU seconds are those of all threads of the process. They are more reliable if other processes use
    the cores too.

    Args:
        out: The JSON file.
    """

    def __init__(self, out: str) -> None:
        self._out, self._first_step, self._last, self._cpu = Path(out), 0.0, 0.0, 0.0
        self._epochs: list[dict[str, Any]] = []
        self._evaluations: list[dict[str, float]] = []

    def on_train_begin(self, *_: Any, train_dataloader: Any, **__: Any) -> None:
        """Wrap the collator, to record the shape of each batch and the lengths of its rows."""
        # The DataLoader of accelerate wraps that of torch.
        loader = getattr(train_dataloader, "base_dataloader", train_dataloader)
        collate = loader.collate_fn

        def collate_and_record(rows: Any) -> Any:
            batch = collate(rows)
            self._epochs[-1]["batches"].append(list(batch["input_ids"].shape))
            self._epochs[-1]["lengths"] += batch["attention_mask"].sum(1).tolist()
            return batch

        loader.collate_fn = collate_and_record

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clocks of an epoch."""
        self._last, self._cpu = _now(), time.process_time()
        self._epochs.append({"seconds": 0.0, "cpu_seconds": 0.0, "steps": [], "batches": [], "lengths": []})

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Record the time of the first step."""
        self._first_step = self._first_step or time.time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Record the seconds since the last step; with a GPU, kernels may still run."""
        now = time.perf_counter()
        self._epochs[-1]["steps"].append(now - self._last)
        self._last = now

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stop the clocks of an epoch, after the GPU has finished."""
        epoch = self._epochs[-1]
        epoch["seconds"] = sum(epoch["steps"]) + _now() - self._last
        epoch["cpu_seconds"] = time.process_time() - self._cpu

    def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
        """Record the metrics and the Unix time."""
        self._evaluations.append({"at": time.time(), **metrics})

    def on_train_end(self, _args: Any, state: TrainerState, *_: Any, **__: Any) -> None:
        """Write the file, on the main process only."""
        if state.is_world_process_zero:
            contents = {"first_step": self._first_step, "epochs": self._epochs, "evaluations": self._evaluations}
            self._out.write_text(json.dumps(contents))


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
