"""Options of the config groups: the YAML files of the shipped configs and of the user's."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIG_MODULE = "hydratune.conf"  # package with the shipped configs


@dataclass(frozen=True)
class Option:
    """An option of a config group, e.g. `dataset/mrpc`, and its file."""

    group: str
    name: str
    path: Path

    @property
    def summary(self) -> str:
        """The first comment line of the file, without Hydra's own headers."""
        lines = (
            line.lstrip("# ").rstrip() for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        )
        return next((line for line in lines if line and not line.startswith("@package")), "")


@functools.cache
def shipped_dir() -> Path:
    """Return the directory of the shipped configs, in the clone or in the installed package."""
    spec = importlib.util.find_spec(CONFIG_MODULE)
    assert spec is not None and spec.origin is not None  # the module is part of this distribution
    return Path(spec.origin).parent


def options(*folders: Path) -> list[Option]:
    """Return every option below `folders`, except for Hydra's own groups, sorted by group and name."""
    config_options: list[Option] = []
    for folder in folders:
        config_options += _shipped_options() if folder == shipped_dir() else _options_below(folder)
    return sorted(config_options, key=lambda option: (option.group, option.name))


@functools.cache
def _shipped_options() -> list[Option]:
    """Return the shipped options."""
    return [*_options_below(shipped_dir())]


def _options_below(folder: Path) -> Iterator[Option]:
    root = folder.resolve()
    for path in folder.rglob("*.yaml"):
        group = path.parent.relative_to(folder).as_posix()
        is_own = path.is_file() and path.resolve().is_relative_to(root)  # no link to, e.g., credentials
        if group != "." and not is_hydra_key(group) and is_own:
            yield Option(group, path.stem, path)


def is_hydra_key(key: str) -> bool:
    """Return whether a key or group is Hydra's own, so that Hydra checks it."""
    return re.match(r"hydra($|[./])", key) is not None
