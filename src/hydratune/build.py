"""From config nodes to objects."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from hydratune.errors import ConfigError, Mistake, one_line


def build(node: DictConfig, **runtime: Any) -> Any:
    """What a checked node describes by its `_target_`, with plain lists and dicts inside.

    Args:
        node: A node of the config.
        runtime: Arguments that only the run knows. Plain values only: a `DatasetDict` would lose its type.

    Raises:
        ConfigError: Where the target refuses its arguments.
    """
    try:
        return instantiate(node, _convert_="all", **runtime)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from error
        if not isinstance(cause, ValueError | TypeError):
            raise
        raise refusal(node, cause) from error


def refusal(node: DictConfig, error: Exception) -> ConfigError:
    """What to raise where the target of `node` does not take the arguments that it was given."""
    key = str(node._get_full_key(""))
    fix = f"Change the arguments below {key}."
    return ConfigError(Mistake(key, f"arguments that {node._target_} takes", one_line(error), fix))
