"""Trainer callbacks that report scores and progress of a trial to its study, and stop a pruned trial."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.sweep.storage import retry
from hydratune.utils.errors import PrunedError

if TYPE_CHECKING:
    from optuna.trial import Trial

_EVERY = 3  # seconds between two progress reports of a trial


@dataclass(frozen=True)
class EarlierRuns:
    """Completed runs of a trial, with other seeds or on other folds.

    Args:
        values: Objective of each of them.
        evaluations: Number of evaluations of all of them.
    """

    values: Sequence[float] = ()
    evaluations: int = 0


class PruningCallback(TrainerCallback):
    """Callback that reports each evaluation to the study, and stops training if the study prunes the trial.

    The first process asks the pruner, and all processes get its answer and stop together. A process that stopped
    alone would leave the others waiting.

    With several seeds or folds, the value is the mean over the runs so far: the results of the completed ones, and the
    current value of this one. Its step is the number of evaluations of all of them, so trials are compared after the
    same number of evaluations, in the same run.

    Args:
        trial: Trial of the study; None in a process that reports nothing.
        objective: Name of the metric to report.
        earlier: Completed runs of the trial.
        is_last: Whether the trial has no further run.
    """

    def __init__(
        self, trial: Trial | None, objective: str, earlier: EarlierRuns | None = None, is_last: bool = True
    ) -> None:
        self._trial, self._objective = trial, objective
        self._earlier, self._is_last = earlier or EarlierRuns(), is_last
        self.pruned = False

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002 (upstream's signature, here and below)
        state: TrainerState,
        control: TrainerControl,
        metrics: Any = None,
        **_: Any,
    ) -> None:
        """Report the value under the number of evaluations so far, and stop training if the trial is pruned."""
        number = sum(self._objective in entry for entry in state.log_history)
        if self._objective not in metrics:  # e.g. `train_runtime`, which evaluations do not have
            return
        value = statistics.fmean([*self._earlier.values, float(metrics[self._objective])])
        self.pruned = _from_first(self._asks(state, value, self._earlier.evaluations + number))
        if self.pruned:
            control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Raise PrunedError if the trial was pruned, so that nothing runs after training."""
        if self.pruned:
            raise PrunedError(f"pruned at step {state.global_step}")

    def _asks(self, state: TrainerState, value: float, number: int) -> bool:
        if self._trial is None or not state.is_world_process_zero:
            return False
        trial = self._trial
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a resumed trial may have reported it before
            retry(lambda: trial.report(value, number))
        if self._is_last and state.global_step >= state.max_steps:  # pruning would save no time, and lose a value
            return False
        return retry(trial.should_prune)


def _from_first(decision: bool) -> bool:
    """Broadcast the decision of the first process of a run to all its processes, and return it."""
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return decision
    box = [decision]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


class ReportProgress(TrainerCallback):
    """Callback that reports the progress of a training run, for the table of the sweep."""

    def __init__(self, note: Callable[[float], None]) -> None:
        self._note, self._last = note, 0.0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        """Report the share of completed steps, from 0 to 1, at most once every `_EVERY` seconds."""
        if state.is_world_process_zero and time.monotonic() - self._last > _EVERY:
            self._last = time.monotonic()
            self._note(state.global_step / max(state.max_steps, 1))
