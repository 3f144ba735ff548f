"""Differences between Hydra 1.3 with OmegaConf 2.3, and Hydra 1.4 with OmegaConf 2.4."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf, __version__

# Hydra 1.3 requires an OmegaConf below 2.4, and 1.4 requires 2.4. Reading Hydra's own version would import more.
_IS_1_4 = tuple(int(number) for number in __version__.split(".")[:2]) >= (2, 4)
# 1.4 deprecates the parameter, and 1.3 warns without it.
VERSION_BASE: dict[str, Any] = {} if _IS_1_4 else {"version_base": "1.3"}
# Raised by hydra-ray-launcher 1.2 when Hydra 1.4 imports it as a plugin.
warnings.filterwarnings("ignore", r"register_new_resolver\(\) is deprecated", UserWarning, "hydra_plugins")


def register_resolver(name: str, function: Callable[..., Any]) -> None:
    """Register a resolver, or replace the one with this name."""
    register = "register_resolver" if _IS_1_4 else "register_new_resolver"
    getattr(OmegaConf, register)(name, function, replace=True)
