"""Inference of column types from all values of a column, and conversion to Arrow columns of these types."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

# The type of a column or of a value inside it:
# - None while there are only nulls (or empty cells)
# - a dtype of `datasets`
# - ("list", type of the elements)
# - name -> type, for objects that all have the same names
# - JSON
Type = None | str | tuple[str, Any] | dict[str, Any]
MOST_EXACT = 2**53  # whole numbers below this are exact as floats
JSON = "json"  # values of several types, or objects with different names: stored as their JSON

_SCALARS = {str: "string", bool: "bool", int: "int64", float: "float64"}
_KINDS = {
    "string": "text",
    "bool": "truth value",
    "int64": "number",
    "float64": "number",
    JSON: "object",  # columns of this type hold objects, since scalars are never mixed in one column
}


# --- values of JSON --------------------------------------------------------------------------------------


def widen_value(before: Type, value: Any) -> Type:
    """Return the narrowest type that holds a value and all values of type `before`."""
    if value is None or before == JSON:
        return before
    if scalar := _SCALARS.get(type(value)):
        if scalar == "int64" and has_long(value):
            return JSON
        return before if before == scalar else widest(before, scalar)
    if isinstance(value, list):
        if before is not None and not isinstance(before, tuple):
            return JSON
        inner = before[1] if before else None
        for element in value:
            inner = widen_value(inner, element)
        return ("list", inner)
    if not value or (before is not None and not (isinstance(before, dict) and before.keys() == value.keys())):
        return JSON
    types = before if isinstance(before, dict) else {}
    return {name: widen_value(types.get(name), inner) for name, inner in value.items()}


def widest(one: Type, other: Type) -> Type:
    """Return the narrowest type that holds the values of both types."""
    if one is None or other is None or one == other:
        return other if one is None else one
    if isinstance(one, str) and isinstance(other, str) and {one, other} == {"int64", "float64"}:
        return "float64"
    if isinstance(one, tuple) and isinstance(other, tuple):
        return ("list", widest(one[1], other[1]))
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {name: widest(one[name], other[name]) for name in one}
    return JSON


def kind(of: Type) -> str | None:
    """Return the name of a type for messages; None for nulls."""
    if of is None:
        return None
    return _KINDS[of] if isinstance(of, str) else "list" if isinstance(of, tuple) else "object"


def kind_of_value(value: Any) -> str | None:
    """Return the name of a value's type for messages; None for null."""
    if value is None:
        return None
    if scalar := _SCALARS.get(type(value)):
        return _KINDS[scalar]
    return "list" if isinstance(value, list) else "object"


def has_long(value: Any) -> bool:
    """Return whether a value contains a whole number that a 64-bit column cannot hold."""
    if isinstance(value, dict | list):
        return any(map(has_long, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _convert_values(column_type: Type, values: Sequence[Any]) -> list[Any]:
    if convert := _converter(column_type):
        return [convert(value) for value in values]
    return list(values)


def _converter(column_type: Type) -> Callable[[Any], Any] | None:
    """Return a function that converts a value for a `pyarrow` column of this type; None if values need no change."""
    if column_type == JSON:
        return lambda value: None if value is None else json.dumps(value, ensure_ascii=False)
    if column_type == "float64":
        return lambda value: None if value is None else float(value)
    if isinstance(column_type, tuple) and (convert_element := _converter(column_type[1])):
        return lambda value: None if value is None else [convert_element(element) for element in value]
    if isinstance(column_type, dict):
        converters = {name: convert for name, inner_type in column_type.items() if (convert := _converter(inner_type))}
        if converters:
            return lambda value: (
                None
                if value is None
                else value | {name: convert(value.get(name)) for name, convert in converters.items()}
            )
    return None


def _is_number(value: Any) -> bool | None:
    return None if value is None else isinstance(value, int | float) and not isinstance(value, bool)


# --- cells of CSV ----------------------------------------------------------------------------------------

# Only numbers that stay the same when they are parsed. 007, +1, and an id of 20 digits are texts, since they would
# change.
_CELLS = {
    "int64": re.compile(r" *(0|-?[1-9][0-9]{0,17}) *"),
    "float64": re.compile(r" *(?=[-+]?\.?[0-9])(?=.*[.eE])[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)? *"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
}


# Any number, for columns that hold only numbers. Only there, +3 and 007 are numbers.
_NUMBER = re.compile(r" *[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)? *")


def number_cell(cell: str) -> str:
    """Return a number cell in a form that `_CELLS` matches, e.g. +3 as 3.0; return other cells unchanged."""
    if _is_number_cell(cell) is not False or not _NUMBER.fullmatch(cell):
        return cell
    return repr(float(cell))


def is_whole_number(cell: str) -> bool:
    """Return whether a cell is a whole number, and not a text of digits such as 007."""
    return bool(_CELLS["int64"].fullmatch(cell))


def is_whole(number: int | float | str) -> bool:
    """Return whether a number, or a cell that holds one, is whole, such as 5 or 5.0; floats must be exact."""
    if isinstance(number, int) or (isinstance(number, str) and is_whole_number(number)):
        return True
    value = float(number)
    return value.is_integer() and abs(value) < MOST_EXACT


def widen_cell(before: Type, cell: str) -> Type:
    """Return the narrowest column type that holds a cell and all cells of type `before`."""
    if before == "string" or not cell:
        return before
    scalar = next((name for name, pattern in _CELLS.items() if pattern.fullmatch(cell)), "string")
    return before if before == scalar else widest_cells(before, scalar)


def widest_cells(one: Type, other: Type) -> Type:
    """Return the narrowest column type that holds the cells of both types; any cell can be a text."""
    return "string" if (common := widest(one, other)) == JSON else common


def _convert_cells(column_type: Type, cells: Sequence[str]) -> list[Any]:
    if column_type == "bool":
        return [cell.lower() == "true" if cell else None for cell in cells]
    if column_type == "int64":  # labels such as 5.0 are whole numbers too
        return [None if not cell else int(cell) if is_whole_number(cell) else int(float(cell)) for cell in cells]
    if column_type == "float64":
        return [float(cell) if cell else None for cell in cells]
    return list(cells)


def _is_number_cell(cell: str) -> bool | None:
    return any(_CELLS[name].fullmatch(cell) for name in ("int64", "float64")) if cell else None


class Typing(NamedTuple):
    """Rules that infer the types of a format's columns.

    Args:
        widen: Current type and a value -> type that also holds the value.
        widest: Two types -> type that holds the values of both.
        convert: Type and values -> values that `pyarrow` accepts for a column of this type.
        is_number: Function that returns whether a value is a number; None for a missing value.
        strict: Whether texts and numbers in one column are an error, as in formats with typed values.
        empty: Type of a column without values.
    """

    widen: Callable[[Type, Any], Type]
    widest: Callable[[Type, Type], Type]
    convert: Callable[[Type, Sequence[Any]], list[Any]]
    is_number: Callable[[Any], bool | None]
    strict: bool
    empty: Type


VALUES = Typing(widen_value, widest, _convert_values, _is_number, strict=True, empty=None)
CELLS = Typing(widen_cell, widest_cells, _convert_cells, _is_number_cell, strict=False, empty="string")


# --- Arrow -----------------------------------------------------------------------------------------------


def features(types: Mapping[str, Type]) -> Features:
    """Return the features of `datasets` for columns of these types."""
    from datasets import Features

    return Features({name: _feature(column_type) for name, column_type in types.items()})


def _feature(column_type: Type) -> Any:
    from datasets import Json, List, Value

    if isinstance(column_type, tuple):
        return List(_feature(column_type[1]))
    if isinstance(column_type, dict):
        return {name: _feature(inner_type) for name, inner_type in column_type.items()}
    return Json() if column_type == JSON else Value(column_type or "null")


def arrow_table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, Type], typing: Typing) -> pa.Table:
    """Return rows as a table with columns of these types; a name that a row lacks becomes null.

    Raises:
        ValueError: If a value does not fit into its column.
    """
    import pyarrow as pa
    from datasets.table import table_cast

    schema = features({name: _stored(column_type) for name, column_type in types.items()}).arrow_schema
    columns = [
        pa.array(typing.convert(column_type, [row.get(name) for row in rows]), schema.field(name).type)
        for name, column_type in types.items()
    ]
    return table_cast(pa.table(columns, schema=schema), features(types).arrow_schema)


def _stored(column_type: Type) -> Type:
    """Return the storage type, which has text in place of JSON."""
    if isinstance(column_type, tuple):
        return ("list", _stored(column_type[1]))
    if isinstance(column_type, dict):
        return {name: _stored(inner_type) for name, inner_type in column_type.items()}
    return "string" if column_type == JSON else column_type
