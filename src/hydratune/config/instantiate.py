"""Instantiation of the objects that config nodes describe."""

from __future__ import annotations

import functools
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line

# Keys of a node with a `_target_` that are not arguments.
RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_")


def build(node: DictConfig, **runtime: Any) -> Any:
    """Build the object that a node describes by its `_target_`, with plain lists and dicts inside.

    Hydra's `instantiate` resolves interpolations while it runs, and some of them twice. So it could call something
    other than what was checked. Here, a node is resolved once. Each `_target_` is checked against the allow-list before
    it is imported, no matter who wrote the config and whether it was checked before.

    Args:
        node: A node of the config.
        runtime: Arguments that only the run knows.

    Raises:
        ConfigError: A target is not allowed, or rejects its arguments.
    """
    plain: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    return _built({**plain, **runtime}, str(node._get_full_key("")))


def _built(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_built(item, f"{key}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    arguments = {name: _built(item, f"{key}.{name}") for name, item in value.items() if name not in RESERVED}
    if "_target_" not in value:
        return arguments
    call = functools.partial(allowlist.load(value["_target_"], f"{key}._target_"), **arguments)
    if value.get("_partial_"):
        return call
    try:
        return call()
    except ConfigError:
        raise
    except (ImportError, RuntimeError, TypeError, ValueError) as error:  # ImportError: a package is not installed
        raise refusal(key, value["_target_"], error) from error


def refusal(key: str, target: str, error: Exception) -> ConfigError:
    """Return the error for a target at `key` that rejects its arguments."""
    return ConfigError(Problem(key, f"{target} rejects the arguments in {KEY}: {one_line(error, 300)}"))
