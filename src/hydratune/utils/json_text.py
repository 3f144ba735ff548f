"""Parsing of JSON from data files, which may be nested as deeply as their author likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def parse_json(text: str | bytes, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """Return the value of a JSON document, as `json.loads` does.

    Raises:
        ValueError: It is invalid, or nested too deeply for Python.
    """
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError as error:
        raise ValueError("values are nested too deeply") from error
