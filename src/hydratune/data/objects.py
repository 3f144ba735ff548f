"""JSON: lines of objects, or a document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from hydratune.data.opening import lines, read_text
from hydratune.data.rows import shown
from hydratune.data.scan import Bad, ReadOptions, Record, not_text

# Digits that may be more than a column holds.
_LONG = re.compile(r"\d{19}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read_jsonl(path: Path, options: ReadOptions) -> Iterator[Record | Bad]:
    """One object a line; blank lines are none."""
    for number, line in enumerate(lines(path, options.encoding), 1):
        if not line.strip():
            continue
        if wrong := not_text(number, line, options.encoding):
            yield wrong
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except ValueError as error:
            yield Bad(number, "a JSON object", f"{shown(line.strip())}: {error}", "Mend the line.")
            continue
        if "\\ud" in line.lower() and _has_half_pair(row):
            yield Bad(number, "text", f"half of a surrogate pair in {shown(row)}", "Mend the line.")
            continue
        yield _record(number, row, line)


def _has_half_pair(value: Any) -> bool:
    """Whether there is a string in it that no encoding of Unicode can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _record(number: int, row: Any, text: str) -> Record | Bad:
    """A row that starts on line `number` as `text`, or what is wrong with it."""
    if not isinstance(row, dict) or not row:  # some readers lose {} without a word
        return Bad(number, "a JSON object", shown(row), "Write {name: value} on each line.")
    return Record(number, row, has_digits=bool(_LONG.search(text)))


def read_json(path: Path, options: ReadOptions) -> Iterator[Record | Bad]:
    """The rows of a document, or of lines where it is none."""
    text = read_text(path, options.encoding)
    try:
        document = json.loads(text, parse_constant=_null)
    except ValueError:
        yield from read_jsonl(path, options)
        return
    if _has_half_pair(document):
        raise ValueError("half of a surrogate pair (\\ud...), which is no text")
    for number, row, written in _elements(text) if isinstance(document, list) else [(1, document, text)]:
        yield _record(number, row, written)


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
            rows = json.loads(read_text(path, encoding))
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
