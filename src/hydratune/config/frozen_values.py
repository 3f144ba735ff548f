"""Values of a checked config that stay as they were checked.

An interpolation such as `${hydra:mode}`, or a variable of the environment that a library sets, may have another value
later. So a config could pass the checks with one value and run with another.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, flag_override

from hydratune.utils.errors import KEY, Problem
from hydratune.utils.provenance import redact

VARIABLE = re.compile(r"\$\{oc\.env:\w+\}")  # a reference to a variable of the environment, without a default
# Interpolations that always have the same value if the nodes that they name have one.
_STABLE = re.compile(r"\$\{(?:oc\.env:\w+(?:,(?:\$\{oc\.env:\w+\}|[^${}]*))?|[A-Za-z_][\w.]*)\}")
_PACKAGE = re.compile(r"\$\{package_path:[^${}]*\}")  # other machines of a run may have the package elsewhere
_Node = DictConfig | ListConfig
_Change = tuple[_Node, Any, Any]  # node, name in it, resolved value


def freeze(cfg: DictConfig, plain: Any, references: Collection[str] = ()) -> Iterator[Problem]:
    """Replace the interpolations of a config, except below `hydra`, by the values that were checked.

    Secrets stay references to the environment, since files of a run contain the config.

    Args:
        cfg: Composed config.
        plain: Its resolved values.
        references: Keys whose values stay references if they are nothing but `${oc.env:NAME}`.

    Yields:
        An error for each value that cannot be frozen.
    """
    changes: list[_Change] = []
    for name in plain:
        yield from _collect(cfg, name, plain[name], str(name), references, changes)
    with flag_override(cfg, ["readonly", "struct"], [False, False]):
        for node, name, value in changes:
            node[name] = value


def text_of_interpolation(key: str) -> Problem:
    """Return the error for a resolved value with `${`, e.g. of an escaped interpolation.

    Where the value is assigned to a config again, it would be an interpolation, after all checks.
    """
    return Problem(key, f"{KEY} must not contain '${{' after its interpolations are resolved", "write another text")


def _collect(
    node: _Node, name: Any, value: Any, key: str, references: Collection[str], changes: list[_Change]
) -> Iterator[Problem]:
    child = node._get_node(name)
    if not OmegaConf.is_interpolation(node, name):
        if isinstance(child, DictConfig | ListConfig):
            items = value.items() if isinstance(value, dict) else enumerate(value or ())
            for inner, inner_value in items:
                yield from _collect(child, inner, inner_value, f"{key}.{inner}", references, changes)
        return
    raw = str(child._value())  # type: ignore[union-attr]
    if key in references and VARIABLE.fullmatch(raw):
        return
    is_secret = redact(value, key.rpartition(".")[2]) != value
    if is_secret and "${" in _STABLE.sub("", raw):
        text = f"{KEY} contains a secret, so its interpolations must be ${{oc.env:NAME}} or ${{KEY}}, not {raw!r}"
        yield Problem(key, text, "name the variable itself")
    elif not is_secret and "${" in _PACKAGE.sub("", raw):
        changes.append((node, name, value))
