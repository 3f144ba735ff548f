"""Settings of a project, under `[tool.hydratune]` in the `pyproject.toml` of the working directory."""

from __future__ import annotations

import functools
import os
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.files import is_inside
from hydratune.utils.stored_files import read_regular

FILE = "pyproject.toml"


def config_dir() -> Path | None:
    """Return the folder of the project's own configs, which `config-dir` under `[tool.hydratune]` names, if any.

    It needs no trust: shipped options are found before those of the folder, its configs can name only allowed code, and
    what a config file must not decide, such as a server that gets results, must be typed.

    Raises:
        ConfigError: The folder does not exist or is outside the project.
    """
    path = project_settings().path
    if (name := project_settings().config_dir) is None:
        return None
    key, folder = f"{FILE} [tool.hydratune] config-dir", Path(name)
    if not is_inside(path.parent / folder, path.parent):
        text = f"config-dir under [tool.hydratune] must be a directory of the project, not {name!r}"
        raise ConfigError(Problem(key, text, "to use other configs, pass --config-dir", FILE))
    if not folder.is_dir():
        text = f"config-dir under [tool.hydratune] does not exist: {name!r}"
        raise ConfigError(Problem(key, text, "create the directory, or remove config-dir", FILE))
    return folder


def typed_flags(flags: Sequence[str]) -> list[str]:
    """Return the flags of a command without the project's own config directory, which each command adds by itself.

    Args:
        flags: Flags and their values, e.g. `--config-dir`, `conf`.
    """
    folder = config_dir()
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return [
        text
        for flag, value in pairs
        if not (folder and flag == "--config-dir" and Path(value).absolute() == folder.absolute())
        for text in (flag, value)
    ]


def project_above() -> Path | None:
    """Return the nearest project above the working directory; None if there is none, or the directory itself is one.

    A command uses only the settings and results of the working directory, so an error can name the project.
    """
    folders = [Path.cwd(), *Path.cwd().parents]
    nearest = next((folder for folder in folders if _has_settings(folder)), None)
    return None if nearest == folders[0] else nearest


def project_hint(project: Path) -> str:
    """Return the hint that tells how to use a project above the working directory."""
    path = shlex.quote(os.path.relpath(project))
    return f"this directory is inside the project {project.name!r}; to use its configs and runs: cd {path}"


def _has_settings(folder: Path) -> bool:
    try:
        tools = tomllib.loads(read_regular(folder / FILE).decode()).get("tool")
    except (OSError, RecursionError, ValueError):
        return False
    return isinstance(tools, dict) and "hydratune" in tools


class _Project(NamedTuple):
    """Settings of a project.

    Args:
        path: Path of its `pyproject.toml`, which need not exist.
        allow: Packages that it wants to allow.
        config_dir: Folder of its configs.
    """

    path: Path
    allow: list[str]
    config_dir: str | None = None


@functools.cache
def project_settings() -> _Project:
    """Return the settings in the `pyproject.toml` of the directory in which this process started.

    The file is read once: a config or a stored run that changes the directory must not add another list.

    Raises:
        ConfigError: The file or the settings cannot be read.
    """
    path = Path.cwd() / FILE
    if not path.is_file():
        return _Project(path, [])
    try:
        tools = tomllib.loads(read_regular(path).decode()).get("tool")
    except OSError as error:
        raise ConfigError(Problem(FILE, f"cannot read {path}: {error.strerror}")) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(Problem(FILE, f"{path} is not valid TOML: {one_line(error, 200)}")) from error
    table = tools.get("hydratune", {}) if isinstance(tools, dict) else {}
    names = table.get("allow", []) if isinstance(table, dict) else table
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isprintable() for name in names):
        text = f"allow under [tool.hydratune] must be a list of packages, not {names!r}"
        hint = 'write allow = ["my_package"]'
        raise ConfigError(Problem(f"{FILE} [tool.hydratune] allow", text, hint, FILE))
    folder = table.get("config-dir") if isinstance(table, dict) else None
    if folder is not None and not (isinstance(folder, str) and folder.isprintable()):
        text = f"config-dir under [tool.hydratune] must be a directory, not {folder!r}"
        hint = 'write config-dir = "conf"'
        raise ConfigError(Problem(f"{FILE} [tool.hydratune] config-dir", text, hint, FILE))
    return _Project(path, names, folder)
