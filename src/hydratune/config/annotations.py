"""Values of a config against the annotations of arguments, which `signatures` reads from source text."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hydratune.config.signatures import Module, Parameter, locate
from hydratune.utils.errors import join_or, one_of


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_CHECKS: dict[str, Any] = {
    "str": lambda v: isinstance(v, str),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": _is_number,
    "bool": lambda v: isinstance(v, bool),
    "None": lambda v: v is None,
    "list": lambda v: isinstance(v, list),
    "tuple": lambda v: isinstance(v, list),
    "Sequence": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
    "Mapping": lambda v: isinstance(v, dict),
}
_NAMES = {
    "float": "a finite number",
    "int": "an integer",
    "bool": "true or false",
    "str": "a string",
    "dict": "a mapping",
    "Mapping": "a mapping",
}


_JSON_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "None": "null",
    **dict.fromkeys(("list", "tuple", "Sequence"), "array"),
    **dict.fromkeys(("dict", "Mapping"), "object"),
}


def json_schema(parameter: Parameter) -> dict[str, Any]:
    """Return the JSON Schema of the values that `type_error` accepts; empty if the type is unknown."""
    alternatives = list(_alternatives(parameter.annotation, parameter.module))
    if any(alternative.accepts is None for alternative in alternatives):
        return {}
    values = [choice for alternative in alternatives for choice in alternative.choices]
    types = dict.fromkeys(alternative.json_type for alternative in alternatives if alternative.json_type)
    schemas: list[dict[str, Any]] = [{"type": name} for name in types]
    schemas += [{"enum": values}] if values else []
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def type_error(parameter: Parameter, value: Any) -> str | None:
    """Return the type that `parameter` accepts; None if it accepts `value` or if its type is unknown."""
    alternatives = list(_alternatives(parameter.annotation, parameter.module))
    if any(alternative.accepts is None or alternative.accepts(value) for alternative in alternatives):
        return None
    if values := choices(parameter):
        return one_of(values)
    names = dict.fromkeys(alternative.name for alternative in alternatives)
    return join_or(sorted(names, key="null".__eq__))


def choices(parameter: Parameter) -> list[Any]:
    """Return the values that `parameter` may have; empty if it also accepts others, or null alone."""
    alternatives = list(_alternatives(parameter.annotation, parameter.module))
    is_closed = all(alternative.choices for alternative in alternatives)
    values = [choice for alternative in alternatives for choice in alternative.choices if is_closed]
    return [] if values == [None] else values


class _Alternative(NamedTuple):
    """One type of a union, as messages name it; `accepts` is None for a type that is unknown here."""

    name: str
    accepts: Callable[[Any], bool] | None
    is_enum: bool = False
    choices: tuple[Any, ...] = ()
    json_type: str = ""


_NULL = _Alternative("null", _CHECKS["None"], choices=(None,))


def _alternatives(annotation: ast.expr | None, module: Module) -> list[_Alternative]:
    """Return each type of a union.

    A `str` next to an enum is not an alternative: upstream writes `IntervalStrategy | str` and means the values
    of the enum.
    """
    alternatives = list(_flatten(annotation, module))
    has_enum = any(alternative.is_enum for alternative in alternatives)
    return [alternative for alternative in alternatives if not (has_enum and alternative.name == _NAMES["str"])]


def _flatten(node: ast.expr | None, module: Module) -> Iterator[_Alternative]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _flatten(node.left, module)
        yield from _flatten(node.right, module)
        return
    text = ast.unparse(node) if node is not None else "Any"
    base = text.partition("[")[0].rpartition(".")[2]
    arguments = _arguments(node)
    if base in ("Union", "Optional"):
        for argument in arguments:
            yield from _flatten(argument, module)
        if base == "Optional":
            yield _NULL
    elif base == "Literal":
        yield _choice([a.value for a in arguments if isinstance(a, ast.Constant)])
    elif base in _CHECKS:
        yield _NULL if base == "None" else _plain(base)
    else:
        values = _enum_values(module, text)
        yield _choice(values, is_enum=True) if values else _Alternative(text, None)


def _plain(base: str) -> _Alternative:
    return _Alternative(_NAMES.get(base, f"a {base}"), _CHECKS[base], json_type=_JSON_TYPES[base])


def _arguments(node: ast.expr | None) -> list[ast.expr]:
    if not isinstance(node, ast.Subscript):
        return []
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _choice(values: Sequence[Any], is_enum: bool = False) -> _Alternative:
    def accepts(value: Any) -> bool:
        # Since `True == 1`, the types are compared as well.
        return any(value == choice and type(value) is type(choice) for choice in values)

    return _Alternative(one_of(values), accepts, is_enum, tuple(values))


def _enum_values(module: Module, name: str) -> list[Any]:
    """Return the values of the string enum called `name` in `module`; empty if it is not an enum."""
    definition = locate(f"{module.name}.{name}")
    if definition is None or not isinstance(definition.node, ast.ClassDef):
        return []
    if not any("Enum" in ast.unparse(base) for base in definition.node.bases):
        return []
    constants = [stmt.value for stmt in definition.node.body if isinstance(stmt, ast.Assign)]
    return [constant.value for constant in constants if isinstance(constant, ast.Constant)]
