"""Trainer mixin for averaged parameters: EMA, SWA, and greedy soups of checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, IntervalStrategy

from hydratune.training.trainer import checkpoint_files
from hydratune.training.trainer.averages import Average
from hydratune.training.trainer.checkpointing import restoring
from hydratune.training.trainer.parameter_groups import ParameterGroupsMixin
from hydratune.utils.files import remove_tree

log = logging.getLogger(__name__)

AVERAGE = "average.safetensors"  # file of a checkpoint, next to the weights that training continues with


class Soup(NamedTuple):
    """Mean of checkpoints.

    Args:
        steps: Steps of the checkpoints, the best first.
        metrics: Metrics of the mean on validation.
    """

    steps: Sequence[int]
    metrics: Mapping[str, Any]


class AveragingMixin(ParameterGroupsMixin):
    """Mixin that evaluates and returns averaged parameters; the optimizer continues with its own.

    Checkpoints contain the average, so that a resumed run continues it bit-exactly.

    Args:
        averaging: `ema` is an exponential moving average over the steps. `swa` is the mean over the last steps
            (Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018). `soup` is
            the mean of the checkpoints that improve the objective (Wortsman et al., Model soups, ICML 2022).
        ema_decay: Share of the earlier average in each step of `ema`. It is lower in the first steps, (1 + n)/(10 + n)
            after n steps, so that short runs do not average their start.
        swa_start: Fraction of the steps after which `swa` begins.
    """

    def __init__(
        self,
        *args: Any,
        averaging: Literal["ema", "swa", "soup"] | None = None,
        ema_decay: float = 0.999,
        swa_start: float = 0.75,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.soup: Soup | None = None  # after training with `averaging=soup`
        self._averaging, self._ema_decay, self._swa_start = averaging, ema_decay, swa_start
        self._average: Average | None = None  # None without one, and once the model has its values
        if self.averages_steps:
            self.add_callback(_UpdateAverage(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as upstream does; the model ends with the averaged parameters."""
        self._average, self.soup = None, None
        return super().train(*args, **kwargs)

    @property
    def averages_steps(self) -> bool:
        """Return whether training holds an average of the parameters in memory."""
        return self._averaging in ("ema", "swa")

    def update_average(self) -> None:
        """Add the parameters after a step to the average."""
        if self._averaging == "swa" and self.state.global_step <= self._swa_start * self.state.max_steps:
            return
        self._average = self._average or Average()
        warm_up = (1 + self._average.count) / (10 + self._average.count)
        decay = min(self._ema_decay, warm_up) if self._averaging == "ema" else None
        self._average.update(self.model, decay)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Return upstream's output for the averaged parameters, if there are any."""
        with self._average.applied(self.model) if self._average else nullcontext():
            return super().evaluation_loop(*args, **kwargs)

    # --- checkpoints -------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; in a checkpoint, also the average."""
        super().save_model(output_dir, _internal_call)
        if _internal_call and self._average and self.args.should_save:
            self._average.save(Path(str(output_dir)) / AVERAGE)

    def _checkpoint_bytes(self, folder: Path) -> int:
        return super()._checkpoint_bytes(folder) + (self._average.nbytes if self._average else 0)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_average(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.leaves_weights and self.state.best_global_step != self.state.global_step:
            self._load_average(str(self.state.best_model_checkpoint))

    def _load_average(self, checkpoint: str) -> None:
        """Read the average of a checkpoint; `swa` has none before its start."""
        if self.averages_steps:
            path = Path(checkpoint) / AVERAGE
            with restoring(checkpoint):
                self._average = Average.load(path, self.model, self.args.device) if path.is_file() else None

    def _rotate(self, folder: Path) -> None:
        """Delete old checkpoints as upstream does; for a soup, only those that cannot be part of it.

        A checkpoint that an interruption adds must not replace another, or a resumed run would have another soup.
        """
        if self._averaging != "soup":
            super()._rotate(folder)
            return
        needed = {step for step, _ in self._ingredients()} | {self.state.global_step, self.state.best_global_step}
        for checkpoint in checkpoint_files.list_checkpoints(folder):
            if checkpoint_files.step_of(checkpoint) not in needed:
                remove_tree(checkpoint, ignore_errors=True)

    # --- end of training ---------------------------------------------------------------------------------

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        output = super()._finalize_training(*args, **kwargs)
        if self._averaging == "soup":
            self._make_soup()
        elif self._average:
            self._average.copy_to(self.model)
            self._average = None
        return output

    def _ingredients(self) -> list[tuple[int, float]]:
        """Return the steps and scores of the checkpoints that can be part of a soup, the best first.

        They are the last `save_total_limit` ones that the schedule of the run has saved and evaluated, and the best.
        """
        args, state = self.args, self.state
        metric = f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"
        scores = {entry["step"]: float(entry[metric]) for entry in state.log_history if metric in entry}
        folder = Path(str(args.output_dir))
        existing = [checkpoint_files.step_of(path) for path in checkpoint_files.list_checkpoints(folder)]
        by_steps = args.save_strategy == IntervalStrategy.STEPS
        regular = [step for step in existing if step in scores and not (by_steps and step % state.save_steps)]
        steps = {*regular[: args.save_total_limit], *(s for s in existing if s == state.best_global_step)}
        sign = -1 if args.greater_is_better else 1
        return sorted(((step, scores[step]) for step in steps), key=lambda pair: (sign * pair[1], pair[0]))

    def _intact_ingredients(self) -> Iterator[tuple[int, float]]:
        for step, score in self._ingredients():
            if damage := checkpoint_files.find_damage(self._checkpoint_of(step)):
                log.warning("soup: skipped the checkpoint of step %d: %s", step, damage)
            else:
                yield step, score

    def _make_soup(self) -> None:
        """Add checkpoints to a mean, the best first, as long as the mean is not worse on validation."""
        ingredients = [*self._intact_ingredients()]
        if not ingredients:
            return
        metric, model = f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}", self.model
        (best, score), *others = ingredients
        steps = [best]
        metrics = next(entry for entry in reversed(self.state.log_history) if entry["step"] == best and metric in entry)
        average = self._checkpoint_average(best, Average())
        for step, _ in others:
            candidate = self._checkpoint_average(step, average)
            with candidate.applied(model), self._unrecorded():
                measured = self.evaluate()
            if measured[metric] >= score if self.args.greater_is_better else measured[metric] <= score:
                average, score, metrics = candidate, measured[metric], measured
                steps.append(step)
        self._load_weights(str(self._checkpoint_of(best)))
        average.copy_to(model)
        self.soup = Soup(steps, metrics)
        listed = ", ".join(map(str, steps))
        log.info("soup: mean of %d of %d checkpoints (steps %s)", len(steps), len(ingredients), listed)

    def _checkpoint_average(self, step: int, average: Average) -> Average:
        self._load_weights(str(self._checkpoint_of(step)))
        return average.updated(self.model)

    @contextmanager
    def _unrecorded(self) -> Iterator[None]:
        """Keep an evaluation out of the history, the tracker, and the progress bar."""
        handler, history = self.callback_handler, self.state.log_history
        callbacks, handler.callbacks, self.state.log_history = handler.callbacks, [], [*history]
        try:
            yield
        finally:
            handler.callbacks, self.state.log_history = callbacks, history


class _UpdateAverage(TrainerCallback):
    """Callback that adds each step to the average of its Trainer, before the step is evaluated or saved."""

    def __init__(self, trainer: AveragingMixin) -> None:
        self._trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        self._trainer.update_average()
