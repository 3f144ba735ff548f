"""JSON: lines of objects, or a document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from hydratune.data.rows import shown
from hydratune.data.scan import Bad, ReadOptions, Scan, codec, lines, not_text

# A text that the reader of JSON files would take for a point in time, and write in another way.
_DATE = re.compile(r'"\d{4}-\d\d-\d\d([T ][\d:.]*)?([Zz]|[-+][\d:]+)?"')
# Digits that may be more than a column holds.
_LONG = re.compile(r"\d{19}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def scan_jsonl(path: Path, options: ReadOptions, keep: bool) -> Scan:
    """One object a line; blank lines are none."""
    encoding = options.encoding
    scan = Scan([], copied=codec(encoding) != "utf-8-sig")  # `datasets` cuts files between bytes
    for number, line in enumerate(lines(path, encoding), 1):
        if not line.strip():
            continue
        if wrong := not_text(number, line, encoding):
            scan.bad.append(wrong)
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except ValueError as error:
            scan.bad.append(Bad(number, "a JSON object", f"{shown(line.strip())}: {error}", "Mend the line."))
            continue
        if "\\ud" in line.lower() and _has_half_pair(row):
            scan.bad.append(Bad(number, "text", f"half of a surrogate pair in {shown(row)}", "Mend the line."))
            continue
        scan.copied |= bool(_DATE.search(line))
        _see_object(scan, number, row, line, keep)
    scan.columns = list(scan.types)
    return scan


def _has_half_pair(value: Any) -> bool:
    """Whether there is a string in it that no encoding of Unicode can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _has_long(value: Any) -> bool:
    """Whether there is a whole number in it that a column would round."""
    if isinstance(value, dict | list):
        return any(map(_has_long, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _see_object(scan: Scan, number: int, row: Any, text: str, keep: bool) -> None:
    """Adds a row that starts on line `number` as `text`, or what is wrong with it."""
    if bad := _odd_object(number, row, scan.types):
        scan.bad.append(bad)
        return
    if _LONG.search(text) and _has_long(row):
        scan.bad.append(Bad(number, "numbers of at most 64 bits", shown(row), "Put them in quotes."))
        return
    scan.lines.append(number)
    if keep:
        scan.rows.append(row)


def _odd_object(number: int, row: Any, types: dict[str, str]) -> Bad | None:
    """What is wrong with a row whose values are not of the types of earlier rows; `types` grows with the rows."""
    if not isinstance(row, dict) or not row:  # some readers lose {} without a word
        return Bad(number, "a JSON object", shown(row), "Write {name: value} on each line.")
    for name, value in row.items():
        kind = _json_type(value)
        before = types.get(name) or kind
        if kind and kind != before:
            return Bad(number, f"a {before} in {name!r}, as above", shown(value), "Write one type throughout.")
        types[name] = before
    return None


def _json_type(value: Any) -> str:
    names = {bool: "truth value", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return names.get(type(value), "")  # null goes with everything


def scan_json(path: Path, options: ReadOptions, keep: bool) -> Scan:
    """A document, whose rows are always kept for a copy, or lines where it is none."""
    text = path.read_text(encoding=codec(options.encoding))
    try:
        document = json.loads(text, parse_constant=_null)
    except ValueError:
        return scan_jsonl(path, options, keep)
    if _has_half_pair(document):
        raise ValueError("half of a surrogate pair (\\ud...), which is no text")
    scan = Scan([], copied=True)
    for number, row, written in _elements(text) if isinstance(document, list) else [(1, document, text)]:
        _see_object(scan, number, row, written, keep=True)
    scan.columns = list(scan.types)
    return scan


def _null(name: str) -> None:
    """What NaN and Infinity are in a document."""


def _elements(text: str) -> Iterator[tuple[int, Any, str]]:
    """Line, value and text of each element of a sound JSON array."""
    decoder = json.JSONDecoder(parse_constant=_null)
    line, before, at = 1, 0, _behind_gap(text, text.index("[") + 1)
    while text[at] != "]":
        line, before = line + text.count("\n", before, at), at
        value, at = decoder.raw_decode(text, at)
        yield line, value, text[before:at]
        at = _behind_gap(text, at)


def _behind_gap(text: str, at: int) -> int:
    while text[at] in " \t\r\n,":
        at += 1
    return at


_PEEKED = 100  # rows whose names are taken for the columns


def peek_names(path: Path, encoding: str) -> list[str]:
    """The names in the first rows of lines or of a document; ValueError where there is no row."""
    first = list(islice((line for line in lines(path, encoding) if line.strip()), _PEEKED))
    if wrong := not_text(1, first[0], encoding) if first else None:
        raise ValueError(wrong.got)
    rows: Any = [row for line in first if (row := _object(line)) is not None]
    if not first or _object(first[0]) is None:  # a document over several lines, or a bad line
        try:
            rows = json.loads(path.read_text(encoding=codec(encoding)))
        except ValueError:
            if not rows:
                raise
    given = (rows if isinstance(rows, list) else [rows])[:_PEEKED]
    rows = [row for row in given if isinstance(row, dict)]
    if not rows:
        raise ValueError(f"a row is not an object: {shown(given[0])}" if given else "no rows")
    return list(dict.fromkeys(name for row in rows for name in row))


def _object(line: str) -> dict[str, Any] | None:
    """The row of a line; None for what is none, which is told when all rows are read."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
