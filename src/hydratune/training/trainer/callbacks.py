"""What a user sees of a training, and how it ends early: a bar with the loss, a line an evaluation, Ctrl-C."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.utils import signals

log = logging.getLogger(__name__)

_SHOWN = ("loss", "learning_rate")
_SCORES = 6  # of an evaluation, on its line; the table at the end has all


class EvaluationInterruptedError(Exception):
    """A request to end came during an evaluation between two steps; the resumed run makes this evaluation."""


class PreemptionCallback(TrainerCallback):
    """Ends a training that a signal asks to end: after the step and a checkpoint.

    If a step ends an epoch, what follows the epoch comes first, since a resumed run begins with the next epoch.

    Args:
        end: The exception to raise; None for that of the signal.
        interrupts_evaluation: Whether the Trainer can make an evaluation after a resume, so that it need not end first.
    """

    def __init__(self, end: BaseException | None, interrupts_evaluation: bool = False) -> None:
        self._end, self._interrupts = end, interrupts_evaluation
        self._is_ending = False
        self._is_interruptible = interrupts_evaluation  # first by an evaluation that an earlier request interrupted

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Asks for a checkpoint; raises where a signal's exception was lost."""
        signals.raise_pending()
        self._is_ending = _any_process(signals.stop_requested(), args)
        ends_epoch = control.should_training_stop or (state.epoch is not None and state.epoch.is_integer())
        self._is_interruptible = self._interrupts and not ends_epoch
        if self._is_ending and not ends_epoch:
            control.should_save = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002 (upstream's signature, here and below)
        """Asks for a checkpoint."""
        self._is_interruptible = self._interrupts
        if self._is_ending:
            control.should_save = True

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Raises EvaluationInterruptedError; an evaluation can take longer than a scheduler waits."""
        if self._is_interruptible and control.should_evaluate and _any_process(signals.stop_requested(), args):
            self._is_ending = True
            raise EvaluationInterruptedError

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Raises, now that the checkpoint is saved."""
        if self._is_ending:
            log.info("saved at step %d", state.global_step)
            signals.end(self._end)


def _any_process(asked: bool, args: TrainingArguments) -> bool:
    """Whether one of the processes of a run was asked, for all of them to end at the same step."""
    if args.world_size < 2:
        return asked
    import torch
    from torch import distributed

    said = torch.tensor(int(asked), device=args.device)
    distributed.all_reduce(said, distributed.ReduceOp.MAX)
    return bool(said)


class Progress(ProgressCallback):
    """Replaces the stock callback, which prints a dict every `logging_steps`."""

    training_bar: Any
    prediction_bar: Any

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

    def close(self) -> None:
        """End the lines of bars that are still open, so that what is printed next begins on a line of its own."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()
        self.prediction_bar = self.training_bar = None


@contextmanager
def closing_bars(trainer: Trainer) -> Iterator[None]:
    """Close the trainer's progress bars when the block ends, also if it ends with an error."""
    try:
        yield
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, Progress):
                callback.close()
