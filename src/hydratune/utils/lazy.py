"""Lazy exports: packages whose classes are imported when they are first used."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def lazy_exports(package: str, file: str) -> Callable[[str], Any]:
    """Return the `__getattr__` (PEP 562) of a package that exports what its `if TYPE_CHECKING:` block imports.

    Args:
        package: `__name__` of the package.
        file: `__file__` of the package.
    """
    block = next(one for one in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(one, ast.If))
    imports = [one for one in block.body if isinstance(one, ast.ImportFrom)]
    modules = {alias.name: str(one.module) for one in imports for alias in one.names}

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return attribute
