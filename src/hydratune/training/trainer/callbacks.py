"""Callbacks for the progress bar, for evaluation lines, and for the early end of a training, e.g. by Ctrl-C."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.utils import signals
from hydratune.utils.logs import shows_bars
from hydratune.utils.short_forms import metric_name, number_text, short_name

log = logging.getLogger(__name__)

_SHOWN = ("loss", "learning_rate")
_SCORES = 6  # metrics per evaluation line; the table at the end has all of them


class EvaluationInterruptedError(Exception):
    """Request to end during an evaluation between two steps; the resumed run repeats the evaluation."""


class PreemptionCallback(TrainerCallback):
    """Callback that ends a training after a signal, once the current step is done and a checkpoint is saved.

    If the step ends an epoch, the evaluation and other events at the end of the epoch run first. A resumed run begins
    with the next epoch and would skip them.

    Args:
        end: Exception to raise; None for the exception of the signal.
        interrupts_evaluation: Whether the Trainer can repeat an evaluation after a resume. If so, an evaluation need
            not finish first.
    """

    def __init__(self, end: BaseException | None, interrupts_evaluation: bool = False) -> None:
        self._end, self._interrupts = end, interrupts_evaluation
        self._is_ending = False
        self._is_interruptible = interrupts_evaluation  # at first, for a pending evaluation of an interrupted run

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Request a checkpoint if a signal asked to end; raise a signal's exception if Python lost it."""
        signals.raise_pending()
        self._is_ending = _any_process(signals.stop_requested(), args)
        ends_epoch = control.should_training_stop or (state.epoch is not None and state.epoch.is_integer())
        self._is_interruptible = self._interrupts and not ends_epoch
        if self._is_ending and not ends_epoch:
            control.should_save = True

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002 (upstream's signature, here and below)
        """Request a checkpoint if the training is ending."""
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
        """Raise EvaluationInterruptedError after a signal, since schedulers may not wait for a whole evaluation."""
        if self._is_interruptible and control.should_evaluate and _any_process(signals.stop_requested(), args):
            self._is_ending = True
            raise EvaluationInterruptedError

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Raise the exception that ends the run, if it is ending, now that the checkpoint is saved."""
        if self._is_ending:
            reason = "" if signals.stop_requested() else ", since another process of this run was asked to stop"
            log.info("saved at step %d%s", state.global_step, reason)
            signals.end(self._end)


def _any_process(stop_requested: bool, args: TrainingArguments) -> bool:
    """Return whether any process of a run was asked to end, so that all of them end at the same step."""
    if args.world_size < 2:
        return stop_requested
    import torch
    from torch import distributed

    flag = torch.tensor(int(stop_requested), device=args.device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag)


class Progress(ProgressCallback):
    """Progress bar that replaces the stock callback, which prints a dict every `logging_steps`."""

    training_bar: Any
    prediction_bar: Any

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Start the bar of the training."""
        super().on_train_begin(args, state, control, **options)
        _name(self.training_bar, "training")

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Start or move the bar of an evaluation, which is the last one if no training is running."""
        is_new = self.prediction_bar is None
        super().on_prediction_step(args, state, control, **options)
        if is_new:
            _name(self.prediction_bar, "evaluation" if self.training_bar is None else "validation")

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Show the loss next to the bar, and evaluation metrics on a line above it."""
        if not state.is_world_process_zero or self.training_bar is None or not logs:
            return
        if values := _training_values(logs):
            self.training_bar.set_postfix(values)
        if scores := _scores(logs):
            self.training_bar.write(f"step {state.global_step}, epoch {state.epoch:.2f}:  {scores}")

    def close(self) -> None:
        """Close bars that are still open, so that the next output begins on its own line."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()
        self.prediction_bar = self.training_bar = None


def _name(bar: Any, name: str) -> None:
    """Give a progress bar a name, and let it disappear at its end."""
    if bar is not None:
        bar.leave = False
        bar.set_description(name)


class ProgressLines(TrainerCallback):
    """One log line per `logging_steps` and per evaluation, for output that is not a terminal."""

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Log the loss and the learning rate, or the metrics of an evaluation."""
        if not state.is_world_process_zero or not logs:
            return
        place = f"step {state.global_step}/{state.max_steps}, epoch {state.epoch or 0:.2f}"
        if values := _training_values(logs):
            log.info("%s:  %s", place, "  ".join(f"{name} {value}" for name, value in values.items()))
        if scores := _scores(logs):
            log.info("%s:  validation  %s", place, scores)


def progress_callback() -> TrainerCallback:
    """Return a progress bar on a terminal, and log lines elsewhere."""
    return Progress() if shows_bars() else ProgressLines()


def _training_values(logs: Mapping[str, Any]) -> dict[str, str]:
    return {short_name(name): number_text(logs[name]) for name in _SHOWN if name in logs}


def _scores(logs: Mapping[str, Any]) -> str:
    """Return the metrics of an evaluation on one line; empty for other logs."""
    scores = {k.removeprefix("eval_"): v for k, v in logs.items() if k.startswith("eval_")}
    scores = {k: v for k, v in scores.items() if not k.endswith(("runtime", "per_second"))}
    return "  ".join(f"{metric_name(name)} {number_text(value)}" for name, value in islice(scores.items(), _SCORES))


@contextmanager
def closing_bars(trainer: Trainer) -> Iterator[None]:
    """Close the trainer's progress bars when the block ends, also after an error."""
    try:
        yield
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, Progress):
                callback.close()
