"""Hints for values of the wrong type."""

from __future__ import annotations

import re
from typing import Any

from hydratune.config.annotations import choices, type_error
from hydratune.config.signatures import Parameter, Signature
from hydratune.utils.errors import KEY, MOST_OPTIONS, display_value, nearest, setting


def value_hint(value: Any, parameter: Parameter, target_signature: Signature) -> str:
    """Return the hint for a value of the wrong type: how to write it, an argument that takes it, or a similar choice.

    Args:
        value: The value.
        parameter: The argument that does not accept it.
        target_signature: The target, whose documentation lists the choices.
    """
    if isinstance(value, list):
        return _list_hint(value, parameter, target_signature)
    if isinstance(value, str) and (percent := re.fullmatch(r"(\d+(?:\.\d+)?) ?%", value)):
        share = float(percent[1]) / 100
        return f"use {KEY}={share:g}" if type_error(parameter, share) is None else ""
    names = [choice for choice in choices(parameter) if isinstance(choice, str)]
    if names and isinstance(value, str) and (close := nearest(value, names)):
        return f"a similar value exists: {KEY}={close}"
    if len(names) > MOST_OPTIONS:
        return f"list the values with `python -m pydoc {target_signature.path}`"
    if isinstance(value, int | float) and not names and type_error(parameter, str(value)) is None:
        return f"to pass it as text, use {setting(KEY, str(value))}"
    return ""


def _list_hint(values: list[Any], parameter: Parameter, target_signature: Signature) -> str:
    """Return the hint for a list: the argument with the plural name, or a sweep over its values."""
    plural = target_signature.parameters.get(f"{parameter.name}s")
    texts = [display_value(value) if not isinstance(value, str) else value for value in values]
    if plural is not None and plural.annotation is not None and type_error(plural, values) is None:
        return f"use {KEY}s=[{','.join(texts)}]"
    is_sweep = len(values) > 1 and all(type_error(parameter, value) is None for value in values)
    return f"to train once per value, use -m {KEY}={','.join(texts)}" if is_sweep else ""
