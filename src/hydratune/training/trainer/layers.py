"""Depth of each parameter in a model, for learning rates that decay from layer to layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from hydratune.models.parameters import unwrap_adapter
from hydratune.utils.errors import KEY, ConfigError, Problem

# Fields of configs with the number of layers of a stack; models with an encoder and a decoder have two.
_COUNTS = ("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers", "num_decoder_layers")


class Stack(NamedTuple):
    """Layers of a model that are of the same kind and run one after the other.

    Args:
        name: Name of the `ModuleList`, e.g. `bert.encoder.layer`.
        length: Number of layers.
    """

    name: str
    length: int


def find_stacks(model: nn.Module) -> list[Stack]:
    """Return the stacks of layers of a model, e.g. one for BERT, and two for T5.

    A stack is a `ModuleList` with as many elements as the config of its module has layers.

    Raises:
        ConfigError: If there is none: the model shares parameters among layers (ALBERT), has stages instead (ResNet),
            or names its layers in another way. Guessing an order would silently train with other learning rates.
    """
    modules = dict(model.named_modules())
    stacks: list[Stack] = []
    for name, module in modules.items():
        is_inside = any(name.startswith(f"{stack.name}.") for stack in stacks)
        if isinstance(module, nn.ModuleList) and not is_inside and len(module) in _layer_counts(modules, name):
            stacks.append(Stack(name, len(module)))
    if not stacks:
        raise ConfigError(_unidentified(model, "it has no list with as many modules as its config has layers"))
    return stacks


def layer_distances(model: nn.Module, forward: Callable[[], Any]) -> dict[str, int]:
    """Return how many layers are between each parameter and the output, by the name of the parameter.

    It is 0 for parameters that run after the last layer, such as the head, 1 for the last layer, and the number of
    layers plus 1 for embeddings. Each stack is counted by itself: the last layer of T5's encoder also has 1. The place
    of modules outside of the stacks is where they first run, not where the code defines them. An output layer that is
    tied to the input embeddings counts as embeddings.

    Args:
        model: Model, possibly with an adapter, not yet wrapped for several processes.
        forward: Function that runs the model once.

    Raises:
        ConfigError: If the layers cannot be identified, or do not run one after the other.
    """
    stacks = find_stacks(model)
    calls = _first_calls(model, stacks, forward)
    return {name: _distance(name, stacks, calls) for name, _ in model.named_parameters()}


# --- stacks ----------------------------------------------------------------------------------------------


def _layer_counts(modules: dict[str, nn.Module], name: str) -> set[int]:
    """Return the numbers of layers in the config of the innermost module with a config around `name`."""
    parents = (parent for parent in _prefixes(name) if hasattr(modules.get(parent), "config"))
    config = getattr(modules.get(next(parents, "")), "config", None)
    return {count for field in _COUNTS if isinstance(count := getattr(config, field, None), int)}


def _prefixes(name: str) -> Iterator[str]:
    """Yield the names of the modules around a name, the innermost first; the model itself is the empty name."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _unidentified(model: nn.Module, reason: str) -> Problem:
    name = type(unwrap_adapter(model)).__name__
    text = f"{KEY}: the layers of {name} cannot be identified: {reason}"
    return Problem("trainer.layer_decay", text, f"set {KEY}=1.0, and the multipliers of its modules in trainer.groups")


# --- order of modules ------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """State of the stacks when a module first runs.

    Args:
        entered: Stack -> number of its layers that have begun to run.
        latest: Distance of the latest of these layers; 0 if there is none.
    """

    entered: dict[Stack, int]
    latest: int


def _first_calls(model: nn.Module, stacks: list[Stack], forward: Callable[[], Any]) -> dict[str, _Call]:
    """Run the model and return the first call of each module, by its name."""
    layers = {f"{stack.name}.{i}": (stack, i) for stack in stacks for i in range(stack.length)}
    calls: dict[str, _Call] = {}
    entered, latest = dict.fromkeys(stacks, 0), 0

    def record(name: str, *_: Any) -> None:
        nonlocal latest
        if name in calls:
            return
        if name in layers:
            stack, i = layers[name]
            if i != entered[stack]:
                raise ConfigError(_unidentified(model, f"layer {i} of {stack.name} runs after {entered[stack]} layers"))
            entered[stack], latest = i + 1, stack.length - i
        calls[name] = _Call(dict(entered), latest)

    hooks = [module.register_forward_pre_hook(partial(record, name)) for name, module in model.named_modules()]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    if not any(entered.values()):
        raise ConfigError(_unidentified(model, f"it does not run the modules of {stacks[0].name}"))
    return calls


def _distance(name: str, stacks: list[Stack], calls: dict[str, _Call]) -> int:
    """Return the distance of a parameter from the output; see `layer_distances`."""
    for stack in stacks:
        if name.startswith(f"{stack.name}."):
            return stack.length - int(name.removeprefix(f"{stack.name}.").partition(".")[0])
    # The stacks that matter are those of the smallest module around the parameter, e.g. of the decoder alone.
    around = next(inside for parent in _prefixes(name) if (inside := _inside(parent, stacks)))
    # Some modules hold parameters but do not run, since a module around them uses these directly.
    call = next((calls[parent] for parent in _prefixes(name) if parent in calls), None)
    if call is None or not any(call.entered[stack] for stack in around):
        return max(stack.length for stack in around) + 1
    if all(call.entered[stack] == stack.length for stack in around):
        return 0
    return call.latest  # between two layers, or between encoder and decoder


def _inside(parent: str, stacks: list[Stack]) -> list[Stack]:
    return [stack for stack in stacks if not parent or stack.name.startswith(f"{parent}.")]
