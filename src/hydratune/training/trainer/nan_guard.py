"""Guard against steps whose loss or gradient is infinite or NaN, and against weights whose validation loss is NaN."""

from __future__ import annotations

import logging
import math
from itertools import islice
from typing import Any, Literal

import torch
from torch import nn

from hydratune.training.trainer.checkpointing import CheckpointingMixin
from hydratune.training.trainer.dataloader import set_epoch
from hydratune.utils.errors import NotFiniteError, Problem

log = logging.getLogger(__name__)

_SHOWN = 32  # maximum number of rows in a message
_REMEDY = "lower trainer.args.learning_rate, set hardware.precision=fp32"


class NanGuardMixin(CheckpointingMixin):
    """Mixin that checks the loss and the gradient of each step before the weights change.

    Upstream logs a NaN loss as 0 and continues, with weights that are NaN from then on. Weights may also be finite but
    so large that the validation loss is NaN; no checkpoint of them is saved.

    Args:
        on_nan: `stop` raises NotFiniteError with the step, the learning rate, and the rows. `skip` leaves the weights
            unchanged, logs a warning, and continues with the next step; of a validation loss it logs nothing more.
        max_skipped: Maximum number of skipped steps since the run was started or resumed; one more raises
            NotFiniteError.
    """

    def __init__(
        self, *args: Any, on_nan: Literal["stop", "skip"] = "stop", max_skipped: int = 10, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._on_nan, self._max_skipped, self._skipped = on_nan, max_skipped, 0
        self._finite = torch.tensor(True, device=self.args.device)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Run a training step and record whether its loss is finite; upstream averages other losses away."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        # The flag stays on the device, so that a micro-batch does not wait for it.
        self._finite &= torch.isfinite(loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Return the gradient norm, and check it after the last micro-batch of a step, before the optimizer."""
        norm = super()._get_grad_norm(model, grad_norm)
        finite = self._finite
        if self.accelerator.scaler is None:  # the fp16 scaler finds its scale by infinite gradients
            full_norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # FSDP shards its norm
            finite = finite & torch.isfinite(torch.as_tensor(full_norm, device=self.args.device))
        self._finite = torch.ones_like(self._finite)
        if not self._all_processes(finite):
            self._not_finite(float(norm))
            model.zero_grad(set_to_none=True)  # the optimizer skips weights without a gradient
        return norm

    def _all_processes(self, finite: torch.Tensor) -> bool:
        """Return whether a step is finite in all processes of a run, which step together or not at all."""
        return bool(self.accelerator.gather(finite.reshape(1)).all())

    def _not_finite(self, norm: float) -> None:
        step_text = (
            f"step {self.state.global_step + 1}, learning rate {self._get_learning_rate():.3g}, gradient norm {norm}"
        )
        text = f"the loss or its gradient is not finite: {step_text}, rows {self._rows_of_step()}"
        self._skipped += 1
        if self._on_nan == "skip" and self._skipped <= self._max_skipped:
            log.warning("%s; skipped this step (%d of at most %d)", text, self._skipped, self._max_skipped)
            return
        hint = f"{_REMEDY}, or inspect these rows"
        hint += "; trainer.on_nan=skip skips such steps" * (self._on_nan != "skip")
        raise NotFiniteError(Problem("", f"{text}; the model was not updated", hint))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Check the losses of an evaluation before it is compared with the best one and a checkpoint is saved."""
        losses = {name: value for name, value in metrics.items() if name.endswith("_loss") and math.isnan(value)}
        if losses and self._on_nan == "stop":
            step_text = f"step {self.state.global_step}, learning rate {self._get_learning_rate():.3g}"
            text = f"{' and '.join(losses)} is NaN: {step_text}; no checkpoint of this step was saved"
            raise NotFiniteError(Problem("", text, _REMEDY))
        return bool(super()._determine_best_metric(metrics, trial))

    def _rows_of_step(self) -> list[int]:
        """Return the training rows of the current step, counted from 0; empty if they have no numbers."""
        loader = self.callback_handler.train_dataloader
        batches = getattr(loader, "batch_sampler", None)
        if batches is None:
            return []
        accumulation = self.args.gradient_accumulation_steps
        # Steps per epoch, rounded up: the last one may have fewer micro-batches.
        steps = -(-len(loader) // accumulation)
        epoch, step = divmod(self.state.global_step, steps)
        set_epoch(loader, epoch, self.args.seed)
        # The batch sampler yields row numbers only, so no rows are read.
        rows = [row for batch in islice(batches, step * accumulation, (step + 1) * accumulation) for row in batch]
        return rows[:_SHOWN]
