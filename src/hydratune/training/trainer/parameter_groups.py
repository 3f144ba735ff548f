"""Learning rates and weight decay that differ between groups of parameters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from accelerate.utils import send_to_device
from torch import nn
from transformers import Trainer

from hydratune.config.optimization import LR_MULTIPLIER, WEIGHT_DECAY
from hydratune.models.parameters import (
    matching_parameters,
    pattern_problem,
    trainable_parameters,
    unwrap_adapter,
)
from hydratune.training.trainer.layers import find_stacks, layer_distances
from hydratune.training.trainer.nan_guard import NanGuardMixin
from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.rng import random_state, set_random_state

log = logging.getLogger(__name__)

_OWN_GROUPS = ("params", "model", "optimizer_dict")  # arguments of optimizers that group the parameters themselves
_LISTED = 8  # maximum number of groups in the log


class _Setting(NamedTuple):
    """Settings of one parameter.

    Args:
        group: Name for the log, e.g. `layer -1`.
        lr_multiplier: Its learning rate, divided by `learning_rate`.
        weight_decay: Its weight decay; None for that of the training arguments.
    """

    group: str
    lr_multiplier: float
    weight_decay: float | None


class ParameterGroupsMixin(NanGuardMixin):
    """Mixin for an optimizer with several parameter groups.

    The learning rate of a parameter is `learning_rate`, as the schedule sets it, times the multipliers of its layer,
    of the head, and of its group. `learning_rate` in the log is the rate without multipliers.

    Args:
        layer_decay: Factor of the learning rate from each layer to the layer below it. Parameters after the last layer,
            such as the head, have the full rate (Clark et al., ELECTRA, ICLR 2020).
        head_lr_multiplier: Multiplier for parameters outside of the base model.
        groups: Names of parameters, as in `model.freeze` -> multiplier of their learning rate, or a mapping with
            `lr_multiplier`, `weight_decay`, or both. Biases and norms have no weight decay in any group.
    """

    def __init__(
        self,
        *args: Any,
        layer_decay: float = 1.0,
        head_lr_multiplier: float = 1.0,
        groups: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._layer_decay, self._head_lr_multiplier, self._groups = layer_decay, head_lr_multiplier, groups or {}
        self._parameter_settings: dict[str, _Setting] = {}  # by name; empty without groups

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as upstream does, after the parameters are assigned to groups."""
        self.assign_parameter_groups()
        return super().train(*args, **kwargs)

    def assign_parameter_groups(self) -> None:
        """Assign the parameters to groups, unless that is done, and log the learning rates.

        Raises:
            ConfigError: If the layers of the model cannot be identified.
        """
        if self._parameter_settings or (self._layer_decay == 1 and self._head_lr_multiplier == 1 and not self._groups):
            return
        self._parameter_settings = self._assign()
        rates = self._describe()
        shown = rates if len(rates) <= _LISTED else [*rates[: _LISTED - 2], "...", rates[-1]]
        log.info("learning rates: %s", "; ".join(shown))

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return upstream's optimizer, whose two groups, with and without weight decay, are divided further."""
        is_new = self.optimizer is None
        optimizer: Any = super().create_optimizer(model)
        if not is_new or not self._parameter_settings:
            return optimizer
        model = self.model if model is None else model
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        decaying = {*self.get_decay_parameter_names(model)}
        whole_groups = [*optimizer.param_groups]
        optimizer.param_groups.clear()
        for whole_group in whole_groups:
            parts: dict[tuple[float, Any], list[nn.Parameter]] = {}
            for parameter in whole_group["params"]:
                name = names[id(parameter)]
                setting = self._parameter_settings[name]
                is_set = setting.weight_decay is not None and name in decaying
                weight_decay = setting.weight_decay if is_set else whole_group["weight_decay"]
                parts.setdefault((setting.lr_multiplier, weight_decay), []).append(parameter)
            for (multiplier, weight_decay), parameters in parts.items():
                changes = {"params": parameters, "lr": whole_group["lr"] * multiplier, "weight_decay": weight_decay}
                optimizer.add_param_group({**whole_group, **changes, LR_MULTIPLIER: multiplier})
        return optimizer

    def _get_learning_rate(self) -> float:
        """Return the learning rate without multipliers, not that of the first group."""
        rate = super()._get_learning_rate()
        return rate / self.optimizer.param_groups[0].get(LR_MULTIPLIER, 1.0)

    def _assign(self) -> dict[str, _Setting]:
        """Return the settings of each parameter by its name."""
        model: Any = self.model
        distances = layer_distances(model, self._forward) if self._layer_decay != 1 else {}
        last = max(distances.values(), default=0)
        settings: dict[str, _Setting] = {}
        head = _head(model) if self._head_lr_multiplier != 1 else set()
        groups = {name: group for group in self._groups for name in matching_parameters(model, group)}
        for name, _ in model.named_parameters():
            distance = distances.get(name, 0)
            multiplier, labels = self._layer_decay**distance, [_layer(distance, last)] if distances else []
            if name in head:
                multiplier, labels = multiplier * self._head_lr_multiplier, ["head"]
            group = self._groups.get(groups.get(name, ""))
            options = group if isinstance(group, Mapping) else {LR_MULTIPLIER: 1.0 if group is None else group}
            labels += [groups[name]] if name in groups else []
            multiplier *= options.get(LR_MULTIPLIER, 1.0)
            settings[name] = _Setting(", ".join(labels) or "others", multiplier, options.get(WEIGHT_DECAY))
        return settings

    def _forward(self) -> None:
        """Run the model once on one training row, without changing its state or the random numbers."""
        model: Any = self.model
        rows: Any = self.train_dataset
        rows = self._remove_unused_columns(rows, "training") if hasattr(rows, "remove_columns") else rows
        random_numbers, was_training = random_state(), model.training
        model.eval()
        try:
            batch = self.data_collator([next(iter(rows))])
            with torch.no_grad(), self.accelerator.autocast():
                self.compute_loss(model, send_to_device(batch, next(model.parameters()).device))
        finally:
            model.train(was_training)
            set_random_state(random_numbers)

    def _describe(self) -> list[str]:
        """Return the name, the learning rate, and the weight decay, if it is set, of each group."""
        trainable = trainable_parameters(self.model)
        settings = dict.fromkeys(s for name, s in self._parameter_settings.items() if name in trainable)
        return [
            f"{setting.group} {self.args.learning_rate * setting.lr_multiplier:.3g}"
            + ("" if setting.weight_decay is None else f" (weight decay {setting.weight_decay:g})")
            for setting in settings
        ]


def check_parameter_groups(settings: Mapping[str, Any], args: Any, model: nn.Module) -> None:
    """Check that the settings of parameter groups fit the model and the optimizer, before a run starts.

    Args:
        settings: Arguments of `ParameterGroupsMixin`.
        args: Training arguments.
        model: Model with its adapter; its parameters need no values.

    Raises:
        ConfigError: If a pattern selects no parameter that trains, or a parameter belongs to two groups. Also if the
            model has no head, if its layers cannot be identified, or if the optimizer creates its own groups.
    """
    decay, head, groups = settings.get("layer_decay"), settings.get("head_lr_multiplier"), settings.get("groups") or {}
    problems = [*_group_problems(groups, model)]
    if head not in (None, 1) and not (_head(model) & trainable_parameters(model)):
        text = f"{KEY}={head} has no effect: {type(unwrap_adapter(model)).__name__} has no separate head that trains"
        problems.append(Problem("trainer.head_lr_multiplier", text, f"set {KEY}=1.0, or use trainer.groups"))
    if decay not in (None, 1):
        problems += _problems_of(lambda: find_stacks(model))
    if decay not in (None, 1) or head not in (None, 1) or groups:
        problems += _problems_of(lambda: _check_optimizer(args, model))
    if problems:
        raise ConfigError(*problems)


def _group_problems(groups: Mapping[str, Any], model: nn.Module) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for pattern in groups:
        key, matches = f"trainer.groups.{pattern}", matching_parameters(model, pattern)
        if problem := pattern_problem(key, model, pattern):
            yield problem
        elif both := sorted(matches & owners.keys()):
            text = f"{KEY} overlaps with the group {owners[both[0]]!r}: both select {both[0]}"
            yield Problem(key, text, "use patterns without common parameters")
        owners |= dict.fromkeys(matches, pattern)


def _check_optimizer(args: Any, model: nn.Module) -> None:
    cls, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    if not isinstance(cls, type) or not issubclass(cls, torch.optim.Optimizer) or {*_OWN_GROUPS} & {*options}:
        name = getattr(args.optim, "value", args.optim)
        text = f"{KEY}={name} groups the parameters itself, so trainer.layer_decay, head_lr_multiplier, "
        text += "and groups have no effect"
        raise ConfigError(Problem("trainer.args.optim", text, f"set {KEY}=adamw_torch_fused"))


def _problems_of(check: Callable[[], Any]) -> tuple[Problem, ...]:
    try:
        check()
    except ConfigError as error:
        return error.problems
    except (ImportError, RuntimeError, TypeError, ValueError):  # `check_training_arguments` reports the optimizer
        pass
    return ()


def _head(model: nn.Module) -> set[str]:
    """Return the names of the parameters outside of the base model, e.g. of a classifier; empty if there is none."""
    whole = unwrap_adapter(model)
    base = whole.base_model
    if base is whole:
        return set()
    inside = {id(parameter) for parameter in base.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) not in inside}


def _layer(distance: int, last: int) -> str:
    """Return the name of a layer for the log, counted from the last one; `last` is the distance of embeddings."""
    return {0: "after the layers", last: "embeddings"}.get(distance, f"layer -{distance}")
