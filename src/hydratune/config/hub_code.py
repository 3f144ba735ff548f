"""Refusal of code that transformers would download, or ask to run, wherever in this process it loads something.

Arguments of our own calls are not enough: tokenizers and models that consist of others load them without these
arguments, and quantized weights name kernels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_KERNELS = "kernels"  # the package by which transformers downloads and imports kernels
_DYNAMIC_CODE = "transformers.dynamic_module_utils"


def forbid_hub_code() -> None:
    """Make transformers load no kernels of the Hub, and never ask whether to run code; call this at a process's start.

    Code of a checkpoint then runs only where `trust_remote_code=True` is an argument.
    """
    sys.modules[_KERNELS] = None  # type: ignore[assignment]  # imports raise ModuleNotFoundError
    if module := sys.modules.get(_DYNAMIC_CODE):
        _forbid_prompt(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _forbid_prompt(module: ModuleType) -> None:
    module.TIME_OUT_REMOTE_CODE = 0  # type: ignore[attr-defined]  # seconds to wait for an answer


class _Finder(MetaPathFinder):
    """Finder that changes a module of transformers as soon as it has been imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _DYNAMIC_CODE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            spec.loader.exec_module = _then_forbid_prompt(spec.loader)  # type: ignore[assignment,method-assign]
        return spec


def _then_forbid_prompt(loader: Loader) -> Callable[[ModuleType], None]:
    exec_module = loader.exec_module

    def exec_and_forbid(module: ModuleType) -> None:
        exec_module(module)
        _forbid_prompt(module)

    return exec_and_forbid
