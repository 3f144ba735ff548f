"""Settings of our Trainer for the optimization, and the checks of their values that need no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from hydratune.utils.errors import KEY, Problem, display_value, invalid_value, similar

# Setting under `trainer` -> the value without effect, which is its default. Other Trainers do not get these.
NEUTRAL: Mapping[str, Any] = {
    "layer_decay": 1.0,
    "head_lr_multiplier": 1.0,
    "groups": {},
    "unfreeze": {},
    "averaging": None,
    "ema_decay": 0.999,
    "swa_start": 0.75,
}
_HIGHEST_RATE, _HIGHEST_RATE_OF_SGD, _LOWEST_RATE = 1.0, 100.0, 1e-9  # beyond these, a learning rate is a typo
LR_MULTIPLIER, WEIGHT_DECAY = "lr_multiplier", "weight_decay"  # settings of a group


def is_neutral(key: str, value: Any) -> bool:
    """Return whether a full key is one of our Trainer's settings with a value that has no effect."""
    node, _, name = key.rpartition(".")
    return node == "trainer" and name in NEUTRAL and bool(value == NEUTRAL[name])


def rate_warning(rate: float, optimizer: str) -> str:
    """Return a warning about a learning rate that is probably a typo; empty for others.

    >>> rate_warning(1e5, "adamw_torch")
    'trainer.args.learning_rate=100000 is too high for adamw_torch; rates such as 1e-5 to 1e-3 are common'

    Args:
        rate: The learning rate.
        optimizer: Name of the optimizer, as in `trainer.args.optim`. Steps of SGD have the size of the gradient, and
            those of other optimizers have about that of the learning rate.
    """
    highest, common = _HIGHEST_RATE, "1e-5 to 1e-3"
    if "sgd" in optimizer:
        highest, common = _HIGHEST_RATE_OF_SGD, "1e-3 to 1"
    fault = "high" if rate > highest else "low" if 0 < rate < _LOWEST_RATE else ""
    return (
        f"trainer.args.learning_rate={rate:g} is too {fault} for {optimizer}; rates such as {common} are common"
        if fault
        else ""
    )


def check_optimization(trainer: Mapping[str, Any], hardware: Any, blamed: set[str]) -> Iterator[Problem]:
    """Yield the errors of the optimization settings, except for keys that already have an error.

    Args:
        trainer: Node `trainer` as plain data.
        hardware: Node `hardware` as plain data.
        blamed: Full keys that have an error.
    """
    values = {name: trainer.get(name) for name in NEUTRAL if f"trainer.{name}" not in blamed}
    decay, multiplier = values.get("layer_decay"), values.get("head_lr_multiplier")
    if is_number(decay) and not 0 < decay <= 1:
        hint = "0.9 is common for pretrained encoders; 1.0 disables it"
        yield invalid_value("trainer.layer_decay", "greater than 0 and at most 1", decay, hint)
    if is_number(multiplier) and multiplier <= 0:
        yield invalid_value("trainer.head_lr_multiplier", "greater than 0", multiplier)
    groups = values.get("groups")
    for pattern, group in groups.items() if isinstance(groups, Mapping) else ():
        yield from _group(f"trainer.groups.{pattern}", group)
    unfreeze = values.get("unfreeze")
    for pattern, epoch in unfreeze.items() if isinstance(unfreeze, Mapping) else ():
        yield from _unfrozen(f"trainer.unfreeze.{pattern}", epoch, trainer.get("args") or {})
    if is_number(decay := values.get("ema_decay")) and not 0 < decay < 1:
        yield invalid_value("trainer.ema_decay", "greater than 0 and less than 1", decay)
    if is_number(start := values.get("swa_start")) and not 0 <= start < 1:
        yield invalid_value("trainer.swa_start", "a fraction of the steps, at least 0 and less than 1", start)
    if averaging := values.get("averaging"):
        yield from _averaging(averaging, trainer.get("args") or {}, hardware)


def _unfrozen(key: str, epoch: Any, args: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the error of an epoch at which parameters cannot begin to train."""
    epochs, steps = args.get("num_train_epochs"), args.get("max_steps")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 1:
        requirement = "an integer of at least 1: the number of complete epochs after which the parameters are trained"
        yield invalid_value(key, requirement, display_value(epoch))
    elif is_number(epochs) and epoch >= epochs and not (is_number(steps) and steps > 0):
        text = f"{KEY}={epoch} is too late: the last of {epochs:g} epochs begins earlier (num_train_epochs)"
        yield Problem(key, text, "to freeze parameters for the whole training, use model.freeze")


def _averaging(averaging: str, args: Mapping[str, Any], hardware: Any) -> Iterator[Problem]:
    """Yield the errors of settings that averaged parameters do not work with."""
    key, choice = "trainer.averaging", f"{KEY}={averaging}"
    if isinstance(hardware, Mapping) and hardware.get("fsdp_config"):
        yield Problem(key, f"{choice} does not work with hardware.fsdp_config", f"set {KEY}=null, or use hardware=ddp")
    if averaging == "soup" and not args.get("load_best_model_at_end"):
        text = f"{choice} requires load_best_model_at_end=true, since it begins with the best checkpoint"
        yield Problem(key, text, "set trainer.args.load_best_model_at_end=true")
    if averaging == "soup" and args.get("save_total_limit") == 1:
        text = f"{choice} needs several checkpoints, but save_total_limit=1 keeps only the best and the last"
        yield Problem(key, text, "set trainer.args.save_total_limit=5")


def _group(key: str, group: Any) -> Iterator[Problem]:
    """Yield the errors of one group: a multiplier, or a mapping with a multiplier, a weight decay, or both."""
    settings = group if isinstance(group, Mapping) else {LR_MULTIPLIER: group}
    names = (LR_MULTIPLIER, WEIGHT_DECAY)
    for name in settings.keys() - {*names}:
        text = f"unknown setting {name!r} of {key}"
        yield Problem(f"{key}.{name}", text, similar("setting", name, names))
    if not settings:
        requirement = f"a multiplier of the learning rate, or a mapping with {LR_MULTIPLIER}, {WEIGHT_DECAY}, or both"
        yield invalid_value(key, requirement, display_value(group))
    for name in (name for name in names if name in settings):
        value, strict = settings[name], name == LR_MULTIPLIER
        full_key = f"{key}.{name}" if isinstance(group, Mapping) else key
        if not is_number(value) or value < 0 or (strict and value == 0):
            requirement = f"a number {'greater than 0' if strict else 'of at least 0'}"
            hint = "to freeze parameters, use model.freeze" if strict and value == 0 else ""
            yield invalid_value(full_key, requirement, display_value(value), hint)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a number; infinite values and NaN have been reported by their type."""
    return isinstance(value, int | float) and not isinstance(value, bool)
