"""Lazy exports: packages whose classes are imported when they are first used."""

from __future__ import annotations

import ast
import functools
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

    @functools.cache
    def modules() -> dict[str, str]:
        """Return the module of each name; read on first use, so that it costs nothing at start-up."""
        block = next(
            node for node in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(node, ast.If)
        )
        imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
        return {alias.name: str(node.module) for node in imports for alias in node.names}

    def attribute(name: str) -> Any:
        if name not in modules():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules()[name]), name)

    return attribute
