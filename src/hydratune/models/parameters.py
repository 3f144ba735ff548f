"""Selection of a model's parameters by patterns of their names."""

from __future__ import annotations

import fnmatch
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from hydratune.utils.errors import KEY, ConfigError, Problem, similar

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def freeze(module: PreTrainedModel, patterns: list[str]) -> int:
    """Freeze the parameters whose name, or a prefix of it, matches one of the patterns, and return their number.

    Patterns may omit the prefix of the base model (`bert.`).

    Raises:
        ConfigError: If a pattern matches no parameter, or no parameter is left to train.
    """
    problems, count = [], 0
    for pattern in patterns:
        if not (matches := matching_parameters(module, pattern)):
            problems.append(no_parameter("model.freeze", module, pattern))
        for name, parameter in module.named_parameters():
            if name in matches and parameter.requires_grad:
                parameter.requires_grad_(False)
                count += parameter.numel()
    if not any(parameter.requires_grad for parameter in module.parameters()):
        prefix = f"{module.base_model_prefix}."
        has_head = len({name.startswith(prefix) for name, _ in module.named_parameters()}) > 1
        hint = f"set {KEY}=[{module.base_model_prefix}] to train only the head" if has_head else ""
        problems.append(Problem("model.freeze", f"{KEY}={patterns} freezes every parameter", hint))
    if problems:
        raise ConfigError(*problems)
    return count


def matching_parameters(module: nn.Module, pattern: str) -> set[str]:
    """Return the names of the parameters that a pattern selects: names, prefixes of names, or shell-style patterns.

    Patterns may omit the prefix of the base model (`bert.`), and that of an adapter.
    """
    short_names = _short_names(module)
    return {name for name, short_name in short_names.items() if any(_fits(n, pattern) for n in (name, *short_name))}


def trainable_parameters(module: nn.Module) -> set[str]:
    """Return the names of the parameters that train."""
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def pattern_problem(key: str, module: nn.Module, pattern: str) -> Problem | None:
    """Return an error if a pattern at `key` selects no parameter, or none that trains, else None."""
    matches = matching_parameters(module, pattern)
    if not matches:
        return no_parameter(key, module, pattern)
    if not matches & trainable_parameters(module):
        text = f"{KEY} has no effect: model.freeze or the adapter freezes all parameters that match {pattern!r}"
        return Problem(key, text, "leave it out")
    return None


def no_parameter(key: str, module: nn.Module, pattern: str) -> Problem:
    """Return the error for a pattern at `key` that selects no parameter."""
    short_names = [shorter[-1] for shorter in _short_names(module).values()]
    modules = {part for name in short_names for part in accumulate(name.split("."), "{}.{}".format)}
    text = f"{KEY}: no parameter of {type(unwrap_adapter(module)).__name__} matches {pattern!r}"
    return Problem(key, text, similar("module", pattern, modules, f"use names such as {short_names[0]}"))


def unwrap_adapter(module: Any) -> Any:
    """Return the model of transformers inside an adapter of peft, or the model itself without one."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def _short_names(module: nn.Module) -> dict[str, tuple[str, str]]:
    """Return the name of each parameter -> its names without the prefix of an adapter, and without both prefixes."""
    base = unwrap_adapter(module)
    inside = next((name for name, part in module.named_modules() if part is base), "")
    outer, inner = f"{inside}." if inside else "", f"{base.base_model_prefix}."
    names = {name: name.removeprefix(outer) for name, _ in module.named_parameters()}
    return {name: (short_name, short_name.removeprefix(inner)) for name, short_name in names.items()}


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
