"""Reader of JSON: lines of objects or lists, a document, or a document of splits."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hydratune.data.columns import preview
from hydratune.data.open_files import lines, read_text
from hydratune.data.readers.bad_lines import BadLine, ContentError, json_reason, not_text
from hydratune.data.readers.scan import ReadOptions, Record
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem
from hydratune.utils.file_suffixes import suffix
from hydratune.utils.json_text import parse_json

# Digits of a number that may exceed 64 bits.
_LONG = re.compile(r"\d{19}")


def numbered_lines(path: Path, options: ReadOptions) -> Iterator[tuple[int, str, BadLine | None]]:
    """Yield each line that is not blank with its number, and with an error if it is not text."""
    for number, line in enumerate(lines(path, options.encoding), 1):
        if line.strip():
            yield number, line, not_text(number, line, options.encoding)


def read_jsonl(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    """Read one object or list per line; skip blank lines."""
    rows = _Rows(options)
    for number, line, bad_line in numbered_lines(path, options):
        if bad_line:
            yield bad_line
            continue
        try:
            row = parse_json(line.rstrip(), parse_constant=_null, unique=True)
        except ValueError as error:
            value = preview(line.strip())
            yield BadLine(number, f"invalid JSON: {json_reason(error)}: {value}", value=value)
            continue
        if "\\ud" in line.lower() and _has_half_pair(row):
            yield BadLine(number, f"invalid Unicode, a lone surrogate: {preview(row)}", value=preview(row))
            continue
        yield rows.record(number, row, line)


def _has_half_pair(value: Any) -> bool:
    """Return whether a value contains a string with a lone surrogate, which cannot be encoded."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


@dataclass
class _Rows:
    """Converter of the rows of one file, which are all objects or all lists of one length, like the first row.

    Args:
        options: Options that name the columns of lists.
        names: Column names for lists; empty for objects, None before the first row.
    """

    options: ReadOptions
    names: list[str] | None = None

    def record(self, number: int, row: Any, text: str) -> Record | BadLine:
        """Return the record of a row with the source `text` that starts on line `number`, or its error."""
        if self.names is None:
            self.names = self.options.names(len(row)) if isinstance(row, list) and row else []
        if self.names:
            if not isinstance(row, list) or len(row) != len(self.names):
                text = f"not a list of {len(self.names)} values, as the first row: {preview(row)}"
                return BadLine(number, text, value=preview(row))
            row = dict(zip(self.names, row, strict=True))
        if not isinstance(row, dict) or not row:  # some readers drop {} silently
            text = f"{'empty' if row == {} else 'not a'} JSON object: {preview(row)}"
            return BadLine(number, text, 'write each row as {"COLUMN": VALUE, ...}', preview(row))
        return Record(number, row, has_digits=bool(_LONG.search(text)))


def read_json(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    """Yield the rows of a document, of some splits of a document, or of a file of lines."""
    text = read_text(path, options.encoding)
    try:
        document = parse_json(text, parse_constant=_null)
    except ValueError:
        if options.splits:
            raise
        yield from read_jsonl(path, options)
        return
    if _has_half_pair(document):
        raise ContentError("invalid Unicode, a lone surrogate (\\ud...)")
    rows = _Rows(options)
    if options.splits:
        for start in _starts(text, options.splits):
            yield from (_record(rows, *element) for element in _elements(text, start))
    elif isinstance(document, list):
        yield from (_record(rows, *element) for element in _elements(text, text.index("[")))
    else:
        yield _record(rows, 1, document, text)


def _record(rows: _Rows, number: int, row: Any, text: str) -> Record | BadLine:
    try:
        parse_json(text.strip(", \t\r\n"), parse_constant=_null, unique=True)
    except ValueError as error:
        return BadLine(number, f"invalid JSON: {error}: {preview(row)}", value=preview(row))
    return rows.record(number, row, text)


def _null(name: str) -> None:
    """Read NaN and Infinity, which pandas and Python write for missing values, as null."""


def _elements(text: str, start: int) -> Iterator[tuple[int, Any, str]]:
    """Yield line, value, and text of each element of the valid JSON array that starts at `start`."""
    decoder = json.JSONDecoder(parse_constant=_null)
    line, previous, pos = 1 + text.count("\n", 0, start), start, _behind_gap(text, start + 1)
    while text[pos] != "]":
        line, previous = line + text.count("\n", previous, pos), pos
        value, pos = decoder.raw_decode(text, pos)
        yield line, value, text[previous:pos]
        pos = _behind_gap(text, pos)


def _starts(text: str, names: Sequence[str]) -> list[int]:
    """Return the positions at which the values of some names start in the text of a valid JSON object.

    Args:
        text: Text of the document.
        names: Names of the object; a dotted name leads into objects.

    Raises:
        ContentError: If a name occurs twice.
        KeyError: If a name is missing.
    """
    starts: dict[str, int] = {}
    for name, pos in _positions(text, text.index("{"), names):
        if name in starts:
            raise ContentError(f"duplicate split {name!r}")
        starts[name] = pos
    return [starts[name] for name in names]


def _positions(text: str, pos: int, names: Collection[str], prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield each of the names that the object at a position has, with the position of its value."""
    decoder = json.JSONDecoder(parse_constant=_null)
    pos = _behind_gap(text, pos + 1)
    while text[pos] != "}":
        name, pos = decoder.raw_decode(text, pos)
        name, pos = f"{prefix}{name}", _behind_gap(text, pos)
        if name in names:
            yield name, pos
        elif text[pos] == "{" and any(dotted.startswith(f"{name}.") for dotted in names):
            yield from _positions(text, pos, names, f"{name}.")
        _, pos = decoder.raw_decode(text, pos)
        pos = _behind_gap(text, pos)


def _behind_gap(text: str, pos: int) -> int:
    while text[pos] in " \t\r\n,:":
        pos += 1
    return pos


def split_names(path: Path, encoding: str) -> list[str]:
    """Return the names of the lists of rows in a document that is one object; empty for other files.

    Lists inside objects have dotted names.
    """
    try:
        document = parse_json(read_text(path, encoding))
    except ValueError:
        return []
    return [name for name, value in _values(document) if _is_rows(value)]


def _values(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of an object, and of the objects inside it, with dotted names."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield f"{prefix}{name}", inner
        yield from _values(inner, f"{prefix}{name}.")


def is_squad(path: Path, encoding: str) -> bool:
    """Return whether a valid document has the nested form of SQuAD."""
    document = parse_json(read_text(path, encoding))
    articles: Any = document.get("data") if isinstance(document, dict) else None
    return bool(articles) and _is_rows(articles) and "paragraphs" in articles[0]


def is_by_columns(path: Path, options: ReadOptions, names: Collection[str]) -> bool:
    """Return whether a file is one object of columns, as pandas writes tables by default.

    Args:
        path: Path of the file.
        options: Options that the file is read with.
        names: Columns whose values in a row are neither lists nor objects.
    """
    head = [*islice((line for line in lines(path, options.encoding) if line.strip()), 2)]
    if options.splits or not head or not head[0].lstrip().startswith("{"):
        return False
    document: Any = _row(head[0])
    if document is not None and (len(head) > 1 or suffix(path) == ".jsonl"):  # each line is a row
        return False
    if document is None:
        try:
            document = parse_json(read_text(path, options.encoding))
        except ValueError:  # reported when the rows are read
            return False
    values = [document[name] for name in names if name in document]
    if values and all(isinstance(value, list) and len(value) == len(values[0]) > 1 for value in values):
        return True  # one list alone may be the sentences of a text
    return any(map(_is_indexed, values)) or (
        _is_indexed(document) and all(isinstance(v, dict) for v in document.values())
    )


def _is_indexed(value: Any) -> bool:
    """Return whether a value is an object whose names are row numbers."""
    return isinstance(value, dict) and bool(value) and all(name.isdecimal() for name in value)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict | list) for row in value)


_PEEKED = 100  # number of rows whose names are taken as the columns


def peek_names(path: Path, options: ReadOptions) -> list[str]:
    """Return the names in the first rows of a file of lines or a document; raise ContentError if there is no row."""
    first_lines = list(islice((line for line in lines(path, options.encoding) if line.strip()), _PEEKED))
    if bad_line := not_text(1, first_lines[0], options.encoding) if first_lines else None:
        raise ContentError(bad_line.text, bad_line.hint, bad_line.line)
    rows: Any = [row for line in first_lines if (row := _row(line)) is not None]
    if options.splits or not first_lines or _row(first_lines[0]) is None or _is_array_of_rows(rows):
        try:
            rows = parse_json(read_text(path, options.encoding))  # the file is a document, or its first line is invalid
        except ValueError:
            if not rows:
                raise
    if options.splits:
        lists = dict(_values(rows))
        rows = [row for split in options.splits for row in lists[split]]
    first_rows = (rows if isinstance(rows, list) else [rows])[:_PEEKED]
    if first_rows and isinstance(first_rows[0], list) and first_rows[0]:
        return options.names(len(first_rows[0]))
    rows = [row for row in first_rows if isinstance(row, dict)]
    if rows and options.column_names:
        text = f"{KEY} is only for rows that are lists; the rows of {path} are objects"
        hint = f"remove {KEY}; {NODE}dataset.columns takes the names in the file"
        raise ConfigError(Problem("dataset.column_names", text, hint))
    if not rows:
        raise ContentError(f"not a JSON object: {preview(first_rows[0])}" if first_rows else "no rows")
    return list(dict.fromkeys(name for row in rows for name in row))


def _row(line: str) -> dict[str, Any] | list[Any] | None:
    """Return the row of a line; None for an invalid line, which is reported when all rows are read."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) or (isinstance(row, list) and row) else None


def _is_array_of_rows(rows: list[Any]) -> bool:
    """Return whether the first line is a whole document: an array of objects or of lists."""
    return len(rows) == 1 and isinstance(rows[0], list) and _is_rows(rows[0])
