"""Which code a config may name: what `_target_` can lead to."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from hydratune.errors import ConfigError, Mistake

PACKAGES = ("hydratune", "optuna.samplers", "peft", "transformers")
VARIABLE = "HYDRATUNE_ALLOW"


def packages() -> tuple[str, ...]:
    """The packages that a `_target_` may lie in.

    Ours, peft, transformers and optuna's samplers, then those of `allow = [...]` under `[tool.hydratune]` in the
    `pyproject.toml` of the current directory, then those of the environment variable HYDRATUNE_ALLOW, separated by
    commas. Never from a config: a config is data, and data must not extend what it may run.
    """
    listed = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return (*PACKAGES, *_of_project(Path("pyproject.toml")), *(name for name in listed if name))


def _of_project(project: Path) -> list[str]:
    if not project.is_file():
        return []
    try:
        tools = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        fix = f"Mend {project.absolute()}."
        raise ConfigError(Mistake(str(project), "a readable TOML file", str(error), fix)) from error
    allow = tools.get("hydratune", {}).get("allow", [])
    if not isinstance(allow, list) or not all(isinstance(name, str) for name in allow):
        fix = 'Write allow = ["my_package"].'
        raise ConfigError(Mistake(f"{project} [tool.hydratune] allow", "a list of packages", repr(allow), fix))
    return allow


def is_allowed(path: str, among: tuple[str, ...]) -> bool:
    """Whether a dotted path lies in one of the packages `among`."""
    return any(path == package or path.startswith(f"{package}.") for package in among)
