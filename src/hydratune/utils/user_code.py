"""Source code of the user's own packages, whose classes a config names."""

from __future__ import annotations

import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from hydratune.utils.files import is_inside

_DIGITS = 16  # of a hash


def code_versions(names: Iterable[str]) -> dict[str, str]:
    """Return top-level package -> version of its code, for the packages of dotted names.

    The version is that of the distribution for an installed package, and otherwise a hash of all source files.
    """
    packages = dict.fromkeys(name.partition(".")[0] for name in names)
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    files = sorted(_source_files(package))
    if files and all(any(is_inside(path, folder) for folder in installed) for path in files):
        for distribution in packages_distributions().get(package, ()):
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def _source_files(package: str) -> Iterator[Path]:
    """Yield the files of a module, or of all modules of a package."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    for folder in spec.submodule_search_locations or ():
        yield from Path(folder).rglob("*.py")
    if spec.submodule_search_locations is None and spec.origin and spec.origin.endswith(".py"):
        yield Path(spec.origin)
