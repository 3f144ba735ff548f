"""What a user sees of a training, and how it ends early: a bar with the loss, a line an evaluation, Ctrl-C."""

from __future__ import annotations

from itertools import islice
from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune import signals

_SHOWN = ("loss", "learning_rate")
_SCORES = 6  # of an evaluation, on its line; the table at the end has all


class EndWhenAsked(TrainerCallback):
    """Ends the training at the next step where a signal's exception was lost."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002 (upstream's signature, here and below)
        """Raises what the signal raised."""
        signals.check()


class Progress(ProgressCallback):
    """Replaces the stock callback, which prints a dict every `logging_steps`."""

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Shows the loss beside the bar, and evaluation metrics on a line above it."""
        if not state.is_world_process_zero or self.training_bar is None or not logs:
            return
        shown = {name: f"{logs[name]:.4g}" for name in _SHOWN if name in logs}
        if shown:
            self.training_bar.set_postfix(shown)
        scores = {k.removeprefix("eval_"): v for k, v in logs.items() if k.startswith("eval_")}
        scores = {k: v for k, v in scores.items() if not k.endswith(("runtime", "per_second"))}
        if scores:
            line = "  ".join(f"{name} {value:.4f}" for name, value in islice(scores.items(), _SCORES))
            self.training_bar.write(f"step {state.global_step}, epoch {state.epoch:.2f}:  {line}")
