"""Which code a config may name: what `_target_` can lead to."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

PACKAGES = ("hydratune", "transformers")
VARIABLE = "HYDRATUNE_ALLOW"


def packages() -> tuple[str, ...]:
    """The packages that a `_target_` may lie in.

    Ours and transformers, then those of `allow = [...]` under `[tool.hydratune]` in the `pyproject.toml` of the
    current directory, then those of the environment variable HYDRATUNE_ALLOW, separated by commas. Never from
    a config: a config is data, and data must not extend what it may run.
    """
    own: list[str] = []
    project = Path("pyproject.toml")
    if project.is_file():
        own = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {}).get("hydratune", {}).get("allow", [])
    listed = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return (*PACKAGES, *own, *(name for name in listed if name))


def is_allowed(path: str, among: tuple[str, ...]) -> bool:
    """Whether a dotted path lies in one of the packages `among`."""
    return any(path == package or path.startswith(f"{package}.") for package in among)
