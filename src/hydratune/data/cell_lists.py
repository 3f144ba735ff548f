"""Parse lists that files store in one cell: `2,3`, `a;b`, or `["a", "b"]`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hydratune.data.columns import BRACKETS
from hydratune.data.readers.column_types import is_whole_number
from hydratune.data.splits import with_column
from hydratune.data.streaming import head, is_stream
from hydratune.utils.json_text import parse_json

_ARRAY = re.compile(r"\[\s*\d+\.?(\s+\d+\.?)*\s*\]")  # whole numbers as NumPy prints them
_SCALARS = (str, int, bool)


def split_cells(splits: Any, kinds: Mapping[str, str], separator: str) -> Any:
    """Split cells into lists in place, and return the splits.

    Columns stay as they are if they hold lists, or if they hold neither texts nor whole numbers.
    Labels that are whole numbers in all splits become numbers, since those are ids.

    Args:
        splits: A `DatasetDict`; train may be a stream.
        kinds: Column -> its kind, `texts` or `labels`.
        separator: Separator between the elements, or `BRACKETS`.
    """
    for name, kind in kinds.items():
        cell_splits = {split: rows for split, rows in splits.items() if _is_cell(rows, name)}
        samples = [head(rows) if is_stream(rows) else rows for rows in cell_splits.values()]
        as_numbers = kind == "labels" and _are_numbers(samples, name, separator)
        for split, rows in cell_splits.items():
            splits[split] = _split(rows, name, separator, as_numbers)
    return splits


def elements(cell: Any, separator: str) -> list[Any] | None:
    """Return the elements of a cell, or None for a null or an invalid list in brackets.

    Blanks around elements that a separator splits are removed.
    """
    if cell is None:
        return None
    if separator != BRACKETS:
        parts = str(cell).split(None if separator.isspace() and separator != "\t" else separator)
        return [part.strip() for part in parts if part.strip()]
    if not str(cell).strip():
        return []
    value: Any = _literal(str(cell))
    if isinstance(value, list):
        value = [int(element) if isinstance(element, float) and element.is_integer() else element for element in value]
    is_list = isinstance(value, list | tuple) and all(isinstance(element, _SCALARS) for element in value)
    return [str(element) for element in value] if is_list else None


def _literal(cell: str) -> Any:
    if _ARRAY.fullmatch(cell.strip()):
        return [int(number.rstrip(".")) for number in cell.strip(" []\n").split()]
    try:
        return parse_json(cell)
    except ValueError:
        pass
    try:
        return ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_cell(rows: Any, name: str) -> bool:
    dtype = str(getattr((rows.features or {}).get(name), "dtype", ""))
    return dtype.startswith(("string", "large_string", "int", "uint"))


def _are_numbers(samples: Sequence[Any], name: str, separator: str) -> bool:
    """Return whether there are elements and all of them are whole numbers."""
    lists = [elements(cell, separator) for rows in samples for cell in rows[name]]
    texts = {text for values in lists for text in values or ()}
    return bool(texts) and all(map(is_whole_number, texts))


def _split(rows: Any, name: str, separator: str, as_numbers: bool) -> Any:
    from datasets import List, Value

    feature = List(Value("int64" if as_numbers else "string"))
    return with_column(rows, name, feature, partial(_lists, name=name, separator=separator, as_numbers=as_numbers))


def _lists(batch: Mapping[str, Sequence[Any]], name: str, separator: str, as_numbers: bool) -> list[Any]:
    lists = [elements(cell, separator) for cell in batch[name]]
    if not as_numbers:
        return lists
    # Rows after the head of a stream may hold words. A null makes such a row invalid.
    return [values and [int(text) if is_whole_number(text) else None for text in values] for values in lists]
