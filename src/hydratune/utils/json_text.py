"""Parsing of JSON from data files, which may be nested as deeply as their author likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def parse_json(text: str | bytes, parse_constant: Callable[[str], Any] | None = None, unique: bool = False) -> Any:
    """Return the value of a JSON document, as `json.loads` does.

    Args:
        text: The document.
        parse_constant: Function that returns the value of NaN and Infinity.
        unique: Whether objects with duplicate keys, of which Python would take the last value, are invalid.

    Raises:
        ValueError: It is invalid, or nested too deeply for Python.
    """
    try:
        return json.loads(text, parse_constant=parse_constant, object_pairs_hook=_unique if unique else None)
    except RecursionError as error:
        raise ValueError("values are nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return row
