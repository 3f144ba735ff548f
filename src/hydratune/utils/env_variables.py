"""Record of the environment variables that configs resolve by `${oc.env:NAME}`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from omegaconf.resolvers import oc

from hydratune.utils.hydra_versions import register_resolver

resolved_values: dict[str, str] = {}


def register() -> None:
    """Replace OmegaConf's resolver `oc.env` with one that returns the same value and records the variable."""
    register_resolver("oc.env", _resolve)


def resolved() -> Mapping[str, str]:
    """Return the name and value of each variable that a config of this process has resolved."""
    return dict(resolved_values)


def _resolve(key: str, *default: Any) -> str | None:
    value = oc.env(key, *default)
    if key in os.environ:
        resolved_values[key] = os.environ[key]
    return value
