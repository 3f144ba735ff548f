"""Checks of `hydra.searchpath`, whose packages Hydra imports to read configs from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hydratune.config import allowlist
from hydratune.config.options import CONFIG_MODULE
from hydratune.utils.errors import KEY, Problem
from hydratune.utils.yaml_files import read_yaml

_KEY = "hydra.searchpath"


def entries_of_file(path: Path) -> list[Any]:
    """Return the search path that a primary config sets; only a primary config may set one."""
    raw: Any = OmegaConf.to_container(read_yaml(path), resolve=False)
    node = raw.get("hydra") if isinstance(raw, dict) else None
    return entries(node.get("searchpath")) if isinstance(node, dict) else [node]


def entries(value: Any) -> list[Any]:
    """Return the entries of a search path, which may be one value or a list."""
    return value if isinstance(value, list) else [value]


def problems(values: Iterable[Any]) -> Iterator[Problem]:
    """Yield an error for each package of a search path that Hydra would import, and for each invalid folder."""
    for value in values:
        scheme, folder = _source(value)
        if "${" in str(value) and not str(value).startswith("file://"):  # it may resolve to the name of a package
            text = f"{KEY} must not contain an interpolation: {value!r}"
            yield Problem(_KEY, text, f"write the directory itself, or file://{value}")
        elif scheme == "file" and value and "${" not in folder and not Path(folder).is_dir():
            text = f"{KEY} names a directory that does not exist: {value!r} (working directory: {Path.cwd()})"
            yield Problem(_KEY, text)
        else:
            yield from imports([value])


def imports(values: Iterable[Any]) -> Iterator[Problem]:
    """Yield an error for each entry of a search path that is not a folder, since Hydra imports the module it names.

    Installed modules are no safer than others: some of them run the code of the working directory when they are
    imported. So only our own configs, and packages that the user allows, are read.
    """
    for value in values:
        scheme, package = _source(value)
        if scheme == "file" or (scheme == "pkg" and package in (CONFIG_MODULE, *allowlist.user_allowlist())):
            continue
        text = f"{KEY} names a package that is not on the allow-list: {value!r}"
        yield Problem(_KEY, text, allowlist.how_to_allow(package) if scheme == "pkg" else "use file://DIR")


def _source(value: Any) -> tuple[str, str]:
    """Return the scheme of an entry of a search path, as Hydra reads it, and the rest."""
    scheme, separator, rest = str(value).partition("://")
    return (scheme, rest) if separator else ("file", scheme)
