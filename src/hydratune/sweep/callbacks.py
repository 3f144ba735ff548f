"""What a running trial tells its study, and how it ends early."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.sweep.storage import retry
from hydratune.utils.errors import PrunedError

if TYPE_CHECKING:
    from optuna.trial import Trial

_EVERY = 3  # seconds between two notes of how far a training is


class PruningCallback(TrainerCallback):
    """Reports each evaluation to the study, and ends the training where the study's pruner, if it has one, says so.

    The first process asks, all get its answer, and all end: one that stopped alone would leave the others waiting.

    Args:
        trial: Of the study; None in the other processes of a run.
        objective: The metric that is reported.
    """

    def __init__(self, trial: Trial | None, objective: str) -> None:
        self._trial, self._objective = trial, objective
        self.pruned = False

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002 (upstream's signature, here and below)
        state: TrainerState,
        control: TrainerControl,
        metrics: Any = None,
        **_: Any,
    ) -> None:
        """Reports the value under the number of evaluations until now."""
        number = sum(self._objective in entry for entry in state.log_history)
        if self._objective not in metrics:  # such as the time that the training took
            return
        self.pruned = _from_first(self._asks(state, float(metrics[self._objective]), number))
        if self.pruned:
            control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Raises, so that nothing comes after the training."""
        if self.pruned:
            raise PrunedError(f"pruned at step {state.global_step}")

    def _asks(self, state: TrainerState, value: float, number: int) -> bool:
        if self._trial is None or not state.is_world_process_zero:
            return False
        trial = self._trial
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a trial that begins again has reported it before
            retry(lambda: trial.report(value, number))
        if state.global_step >= state.max_steps:  # nothing is saved by it, and a value would be lost
            return False
        return retry(trial.should_prune)


def _from_first(decision: bool) -> bool:
    """What the first of the processes of a run decided."""
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return decision
    box = [decision]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


class ReportProgress(TrainerCallback):
    """Notes now and then how far a training is, for the sweep's table."""

    def __init__(self, note: Callable[[float], None]) -> None:
        self._note, self._last = note, 0.0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Writes the share of steps that are done."""
        if state.is_world_process_zero and time.monotonic() - self._last > _EVERY:
            self._last = time.monotonic()
            self._note(state.global_step / max(state.max_steps, 1))
