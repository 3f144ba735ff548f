"""Environment variables that configs name as `${oc.env:NAME}`; recorded whenever one is resolved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

_resolved: dict[str, str] = {}


def register() -> None:
    """Replace OmegaConf's resolver `oc.env` with one that returns the same and records the variable."""
    OmegaConf.register_new_resolver("oc.env", _resolve, replace=True)


def resolved() -> Mapping[str, str]:
    """Return name and value of each variable that a config of this process has resolved."""
    return dict(_resolved)


def _resolve(key: str, *default: Any) -> str | None:
    value = oc.env(key, *default)
    if key in os.environ:
        _resolved[key] = os.environ[key]
    return value
