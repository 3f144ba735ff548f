"""Callbacks of Trainer that write to a run's log."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.tracking.base import ModelInfo, RunLog
from hydratune.utils.batches import effective_batch_size

# Values since the start of training, which Trainer repeats at each log. Only the last one of each counts.
_OF_THE_WHOLE = ("train_runtime", "train_tokens_per_second", "num_input_tokens_seen")


class MlflowCallback(TrainerCallback):
    """Callback that sends everything that Trainer logs to a run's log, with its step, and adds speed and memory."""

    def __init__(self, run_log: RunLog) -> None:
        self._run_log = run_log
        self._last = (0, 0, 0.0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002 (upstream's signature, here and below)
        """Start the clock."""
        self._last = _now(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Record training loss, learning rate, gradient norm, and evaluation metrics."""
        if not state.is_world_process_zero or not logs:
            return
        if "loss" in logs:
            logs = {name: value for name, value in logs.items() if name not in _OF_THE_WHOLE} | self._speed(args, state)
        self._run_log.metrics(logs, state.global_step)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Exclude the time of an evaluation from the speed of training."""
        steps, tokens, last_time = self._last
        if state.log_history:
            self._last = (steps, tokens, last_time + state.log_history[-1].get("eval_runtime", 0.0))

    def _speed(self, args: TrainingArguments, state: TrainerState) -> dict[str, float]:
        """Return the samples and tokens per second since the last call, and the peak memory until now in GiB."""
        (steps, tokens, last_time), now = self._last, _now(state)
        self._last = now
        seconds = max(now[2] - last_time, 1e-9)
        samples = (now[0] - steps) * effective_batch_size(args)
        metrics = {"samples_per_second": samples / seconds, "peak_memory_gib": peak_memory()}
        return metrics | ({"tokens_per_second": (now[1] - tokens) / seconds} if now[1] else {})


class RecordCheckpoints(TrainerCallback):
    """Callback that records checkpoints as models in a run's log."""

    def __init__(self, record: Callable[[ModelInfo], None], model: ModelInfo, which: Literal["best", "all"]) -> None:
        self._record, self._model, self._which = record, model, which

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Record the checkpoint that was just written; with `best`, only if it is the best one so far."""
        step = state.global_step
        if not state.is_world_process_zero or (self._which == "best" and state.best_global_step != step):
            return
        checkpoint = Path(str(args.output_dir)) / f"checkpoint-{step}"
        evaluated = [entry for entry in state.log_history if entry["step"] == step and "eval_runtime" in entry]
        metrics = {k: v for k, v in (evaluated[-1] if evaluated else {}).items() if k.startswith("eval_")}
        self._record(replace(self._model, folder=checkpoint, name=checkpoint.name, step=step, metrics=metrics))


def peak_memory() -> float:
    """Return the peak memory so far in GiB: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _now(state: TrainerState) -> tuple[int, int, float]:
    """Return the steps and tokens until now, and the time in seconds of time.monotonic."""
    return state.global_step, int(state.num_input_tokens_seen), time.monotonic()
