"""What reading a file line by line shows."""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hydratune.data.rows import shown


class Bad(NamedTuple):
    """A line that is no row."""

    line: int
    expected: str
    got: str
    fix: str


@dataclass(frozen=True)
class ReadOptions:
    """How text files are parsed; a format uses the options that apply to it.

    Args:
        encoding: A codec of Python.
        delimiter: The character between cells; None for a comma, or for what CoNLL files have.
        header: Whether the first row names the columns.
        column_names: Names of the columns, in order, of files without a header.
        comment: Prefix of lines to skip; None for the rule of the format, empty for no comments.
        quoting: Whether quotes enclose cells; false where they are text, None to tell it from the file.
        selected: Names and positions of columns that the config refers to.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    header: bool = True
    column_names: tuple[str, ...] | None = None
    comment: str | None = None
    quoting: bool | None = None
    selected: frozenset[str] = frozenset()

    def names(self, width: int, defaults: Sequence[str] = ()) -> list[str]:
        """Name the columns of a file without a header.

        A column goes by its position, counted from 0, where the config selects it by that, else by its name.

        Args:
            width: Number of columns.
            defaults: Their names where the config has none; positions if empty.
        """
        named = self.column_names or defaults or [str(i) for i in range(width)]
        return [str(i) if str(i) in self.selected else name for i, name in enumerate(named)]


@dataclass
class Scan:
    """What reading a file line by line showed.

    Args:
        columns: Names in the order of the file.
        lines: The line on which each row starts, in the order of the rows; empty where lines are not known.
        bad: What never became a row.
        rows: The rows, where they were to be kept for a copy: cells of csv, or objects.
        types: Column -> the type of all its values; those of csv are dtypes of `datasets`, those of JSON its own.
        copied: Whether `datasets` has to read a copy, since it would make other rows of the file.
    """

    columns: list[str]
    lines: array[int] = field(default_factory=lambda: array("q"))
    bad: list[Bad] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    copied: bool = False

    def is_empty(self) -> bool:
        """Whether the file has no row."""
        return not self.lines and not self.rows


def codec(encoding: str) -> str:
    """The name under which Python reads it without a byte order mark, however it is spelled."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def lines(path: Path, encoding: str) -> Iterator[str]:
    """Lines with their ends; bytes that are no text become lone surrogates, which `not_text` finds."""
    with path.open(encoding=codec(encoding), errors="surrogateescape", newline="") as file:
        yield from file


def not_text(line: int, text: str, encoding: str) -> Bad | None:
    """The first byte that is not in the encoding, where there is one."""
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - 0xDC00
        got = f"the byte 0x{byte:02x} behind {shown(text[max(0, error.start - 20) : error.start])}"
        fix = "Convert the file to UTF-8, or name its own: dataset.encoding=latin-1."
        return Bad(line, f"text in {encoding}", got, fix)
    return None
