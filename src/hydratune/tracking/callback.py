"""From Trainer to a run's log."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.tracking.base import RunLog


class ForwardLogs(TrainerCallback):
    """Hands everything that Trainer logs to a run's log, with its step."""

    def __init__(self, run_log: RunLog) -> None:
        self._run_log = run_log

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 (upstream's signature)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Training loss, learning rate, gradient norm, evaluation metrics."""
        if state.is_world_process_zero and logs:
            self._run_log.metrics(logs, state.global_step)
