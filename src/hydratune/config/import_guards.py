"""Changes to libraries as they are imported, so that they load no code of others by themselves.

Arguments of our own calls are not enough: tokenizers and models that consist of others load them without these
arguments, quantized weights name kernels, and matplotlib reads settings of the working directory on import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_KERNELS = "kernels"  # the package by which transformers downloads and imports kernels
_DYNAMIC_CODE = "transformers.dynamic_module_utils"
_SETTINGS = "matplotlibrc"  # a relative path, which matplotlib prefers to all other settings


def guard_imports() -> None:
    """Restrict libraries that are imported from now on; call this at a process's start.

    - transformers loads no kernels of the Hub, and never asks whether to run code: code of a checkpoint runs only
      where `trust_remote_code=True` is an argument.
    - matplotlib ignores a `matplotlibrc` in the working directory, e.g. of a cloned project: its settings import
      modules and start LaTeX. The user's own file in `MATPLOTLIBRC` or in their home directory is read.
    - Relative entries leave `sys.path`, e.g. those of editable installs of namespace packages: torch and MLflow call
      plugins that packages on it name, and the working directory may have a folder of that name.
    """
    sys.path[:] = [entry for entry in sys.path if Path(entry).is_absolute()]
    sys.modules[_KERNELS] = None  # type: ignore[assignment]  # imports raise ModuleNotFoundError
    if module := sys.modules.get(_DYNAMIC_CODE):
        _forbid_prompt(module)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finder of the modules that are changed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        guard = _GUARDS.get(fullname)
        spec = guard and PathFinder.find_spec(fullname, path, target)
        if guard and spec and spec.loader:
            spec.loader.exec_module = partial(guard, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _then_forbid_prompt(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    _forbid_prompt(module)


def _forbid_prompt(module: ModuleType) -> None:
    module.TIME_OUT_REMOTE_CODE = 0  # type: ignore[attr-defined]  # seconds to wait for an answer


def _without_local_settings(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    exists = os.path.exists
    os.path.exists = lambda path: path != _SETTINGS and exists(path)
    try:
        execute(module)
    finally:
        os.path.exists = exists


_GUARDS: Mapping[str, Callable[[Callable[[ModuleType], None], ModuleType], None]] = {
    _DYNAMIC_CODE: _then_forbid_prompt,
    "matplotlib": _without_local_settings,
}
