"""Trainer mixin for parameters that begin to train at a later epoch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hydratune.models.parameters import matching_parameters, pattern_problem, trainable_parameters
from hydratune.training.trainer.averaging import AveragingMixin
from hydratune.utils.errors import KEY, ConfigError, Problem

log = logging.getLogger(__name__)

_SMALL = 1e-6  # an epoch is a sum of fractions, and may end slightly below a whole number


class UnfreezingMixin(AveragingMixin):
    """Mixin that freezes parameters until the start of an epoch (gradual unfreezing of ULMFiT, ACL 2018).

    The optimizer has all parameters from the start. Until then, they have no gradient, so that neither the optimizer
    nor weight decay changes them, and the norm of the gradient does not count them.

    Args:
        unfreeze: Names of parameters, as in `model.freeze` -> epoch from 1 at whose start they begin to train, when so
            many epochs are complete.
    """

    def __init__(self, *args: Any, unfreeze: dict[str, int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unfreeze = unfreeze or {}
        self._frozen: list[nn.Parameter] = []  # that begin to train later
        if self._unfreeze:
            self.add_callback(_UnfreezeParameters(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as upstream does; all parameters that were trainable before are so afterwards."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._set_frozen([])

    def start_epoch(self, epoch: int) -> None:
        """Freeze the parameters whose epoch has not come yet, and unfreeze the others."""
        later = [pattern for pattern, start in self._unfreeze.items() if epoch < start]
        names = {name for pattern in later for name in matching_parameters(self.model, pattern)}
        trainable = {id(p) for p in self._frozen} | {id(p) for p in self.model.parameters() if p.requires_grad}
        frozen = [p for name, p in self.model.named_parameters() if name in names and id(p) in trainable]
        if self._unfreeze:
            log.info("epoch %d: parameters frozen: %s", epoch, ", ".join(later) or "none")
        self._set_frozen(frozen)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run a training step; frozen parameters have no gradient after it."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        for parameter in self._frozen:
            parameter.grad = None
        return loss

    def _set_frozen(self, parameters: list[nn.Parameter]) -> None:
        """Freeze these parameters and unfreeze those that were frozen before.

        In a single process, no gradient is computed for them, which saves time. DDP expects the gradients of all
        parameters that were trainable when it was created, so that theirs are computed and removed.
        """
        is_single = self.args.world_size * max(self.args.n_gpu, 1) == 1
        for parameter in self._frozen if is_single else ():
            parameter.requires_grad_(True)
        self._frozen = parameters
        for parameter in parameters if is_single else ():
            parameter.requires_grad_(False)


class _UnfreezeParameters(TrainerCallback):
    """Callback that freezes and unfreezes parameters at the start of each epoch, also of one that is resumed."""

    def __init__(self, trainer: UnfreezingMixin) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        self._trainer.start_epoch(int((state.epoch or 0) + _SMALL))


def check_unfreezing(unfreeze: Mapping[str, int], model: nn.Module) -> None:
    """Check that the patterns of `trainer.unfreeze` fit the model, before a run starts.

    Args:
        unfreeze: Argument of `UnfreezingMixin`.
        model: Model with its adapter; its parameters need no values.

    Raises:
        ConfigError: If a pattern selects no parameter that trains, or if nothing trains in the first epoch.
    """
    if problems := [*_problems(unfreeze, model)]:
        raise ConfigError(*problems)


def _problems(unfreeze: Mapping[str, int], model: nn.Module) -> Iterator[Problem]:
    trainable = trainable_parameters(model)
    later: set[str] = set()
    for pattern in unfreeze:
        if problem := pattern_problem(f"trainer.unfreeze.{pattern}", model, pattern):
            yield problem
        later |= matching_parameters(model, pattern)
    if unfreeze and trainable and trainable <= later:
        text = f"{KEY} freezes every parameter, so nothing is trained in the first epoch"
        yield Problem("trainer.unfreeze", text, "leave out one of the patterns")
