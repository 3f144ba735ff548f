"""No step with a loss or a gradient that is no number, and words for memory that is not enough."""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any, Literal

import torch
from torch import nn

from hydratune.training.trainer.checkpointing import CheckpointingMixin
from hydratune.training.trainer.dataloader import set_epoch

log = logging.getLogger(__name__)

_SHOWN = 32  # rows of a batch that a message names


class NotFiniteError(RuntimeError):
    """A loss or a gradient that is infinite or no number; the weights are those of the step before."""


class NanGuardMixin(CheckpointingMixin):
    """Looks at the loss and the gradient of each step before the weights are touched.

    Upstream logs a loss of NaN as 0 and goes on, with weights that are NaN from then on.

    Args:
        on_nan: `stop` raises, with the step, the learning rate and the rows; `skip` leaves the weights as they are,
            says so, and goes on with the next step.
        max_skipped: Stops at more skipped steps than that, of those since the run was started or gone on with.
    """

    def __init__(
        self, *args: Any, on_nan: Literal["stop", "skip"] = "stop", max_skipped: int = 10, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._on_nan, self._max_skipped, self._skipped = on_nan, max_skipped, 0
        self._finite = torch.tensor(True, device=self.args.device)

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Notes whether the loss is a number; upstream averages others away."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._finite &= torch.isfinite(loss)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The norm, which is looked at here: after the last part of a step, before the optimizer."""
        norm = super()._get_grad_norm(model, grad_norm)
        finite = self._finite
        if self.accelerator.scaler is None:  # with fp16 it finds the scale by gradients that are infinite
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # FSDP's lies in parts
            finite = finite & torch.isfinite(torch.as_tensor(whole, device=self.args.device))
        self._finite = torch.ones_like(self._finite)
        if not self._all_processes(finite):
            self._not_finite(float(norm))
            model.zero_grad(set_to_none=True)  # the optimizer leaves weights without a gradient alone
        return norm

    def _all_processes(self, finite: torch.Tensor) -> bool:
        """Whether a step is finite in all processes of a run, which step together or not at all."""
        return bool(self.accelerator.gather(finite.reshape(1)).all())

    def _not_finite(self, norm: float) -> None:
        where = (
            f"step {self.state.global_step + 1}, learning rate {self._get_learning_rate():.3g}, gradient norm {norm}"
        )
        words = f"the loss or its gradient is not finite: {where}, rows {self._rows_of_step()}"
        self._skipped += 1
        if self._on_nan == "skip" and self._skipped <= self._max_skipped:
            log.warning("%s; the step is skipped, %d of at most %d", words, self._skipped, self._max_skipped)
            return
        fix = "Lower trainer.args.learning_rate, set hardware.precision=fp32, or look at these rows"
        raise NotFiniteError(f"{words}. Nothing was updated. {fix}; trainer.on_nan=skip leaves such steps out")

    def _rows_of_step(self) -> list[int]:
        """The numbers of the training rows of the step that is under way, from 0; empty where they have none."""
        loader = self.callback_handler.train_dataloader
        batches = getattr(loader, "batch_sampler", None)
        if batches is None:
            return []
        parts = self.args.gradient_accumulation_steps
        steps = -(-len(loader) // parts)
        epoch, step = divmod(self.state.global_step, steps)
        set_epoch(loader, epoch, self.args.seed)
        found = [row for batch in islice(batches, step * parts, (step + 1) * parts) for row in batch]
        return found[:_SHOWN]
