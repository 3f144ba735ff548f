"""Errors of file contents: lines that are not valid rows, and files that cannot be read."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

from hydratune.data.columns import preview
from hydratune.utils.errors import NODE, Problem, one_line

_SHOWN_BEFORE = 20  # number of characters before an invalid byte that a message shows
_LONGEST_REASON = 200


class BadLine(NamedTuple):
    """A line that is not a valid row.

    Args:
        line: Line number.
        text: What is wrong, with the shortened `repr` of the line or value.
        hint: How to fix it; empty if the text says enough.
        value: The shortened `repr` of the line or value alone.
        same_record: Whether the previous invalid line is in the same record, e.g. the same sentence.
    """

    line: int
    text: str
    hint: str = ""
    value: str = ""
    same_record: bool = False


class ContentError(ValueError):
    """Error for a file whose content cannot be read.

    Attributes:
        text: What is wrong, without the path of the file.
        hint: How to fix it.
        line: Line of the error; 0 for the whole file.
    """

    def __init__(self, text: str, hint: str = "", line: int = 0) -> None:
        self.text, self.hint, self.line = text, hint, line
        super().__init__(text)


def content_problem(key: str, path: Path, error: Exception) -> Problem:
    """Return the error of a key whose file cannot be read.

    Args:
        key: Key that selects the file.
        path: Path of the file in the user's spelling.
        error: Error that a reader raised.
    """
    if isinstance(error, ContentError):
        return Problem(key, error.text, error.hint, source=f"{path}:{error.line}" if error.line else str(path))
    if isinstance(error, UnicodeDecodeError):
        before = error.object[: error.start].decode(error.encoding, "replace")
        text, hint = _invalid_byte(error.object[error.start], before, error.encoding)
        return Problem(key, text, hint, source=str(path))
    if isinstance(error, json.JSONDecodeError):
        return Problem(key, f"invalid JSON: {json_reason(error)}", source=f"{path}:{error.lineno}")
    if isinstance(error, csv.Error):
        return Problem(key, csv_reason(error), source=str(path))
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return Problem(key, f"cannot read {path}: {one_line(reason, _LONGEST_REASON)}")


def csv_reason(error: csv.Error) -> str:
    """Return what is wrong with a row that the `csv` module rejects."""
    message = one_line(error)
    if message == "unexpected end of data":
        return "unclosed quote"
    if "expected after" in message:
        return "text after a closing quote"
    return f"invalid CSV: {message}"


def json_reason(error: ValueError) -> str:
    """Return what is wrong with a line of JSON, and at which character; numbers with too many digits have no place."""
    if not isinstance(error, json.JSONDecodeError):
        return one_line(error, _LONGEST_REASON)
    reason = error.msg.removesuffix(" at")
    return f"{reason[:1].lower()}{reason[1:]} at character {error.colno}"


def not_text(line: int, text: str, encoding: str) -> BadLine | None:
    """Return an error for the first byte that is invalid in the encoding, or None."""
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        reason, hint = _invalid_byte(byte, text[: error.start], encoding)
        return BadLine(line, reason, hint, f"0x{byte:02x}")
    return None


def _invalid_byte(byte: int, before: str, encoding: str) -> tuple[str, str]:
    after = f" after {preview(before[-_SHOWN_BEFORE:])}" if before else ""
    hint = f"convert the file to UTF-8, or set its encoding, e.g. {NODE}dataset.encoding=latin-1"
    return f"invalid {encoding}: byte 0x{byte:02x}{after}", hint
