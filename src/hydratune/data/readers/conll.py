"""Reader of CoNLL columns and CoNLL-U: one token per line, and a blank line after each sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from hydratune.data.columns import preview
from hydratune.data.open_files import digest, lines
from hydratune.data.readers.bad_lines import BadLine, not_text
from hydratune.data.readers.scan import ReadOptions, Record
from hydratune.utils.errors import NODE

# The columns of CoNLL-U, https://universaldependencies.org/format.html.
CONLLU = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_USUAL = ("tokens", "labels")  # names of the columns of a file with one or two columns
_WORD_ID = re.compile(r"\d+")  # does not match the range of a multiword token (1-2) or an empty node (1.1)
_RANGE_ID = re.compile(r"\d+[-.]\d+")
_COMMENT = re.compile(r"#(\s+\S|\S+\s*=)")  # does not match a hashtag
_HEADER = re.compile(r"(id|index|tokens?|words?|form|lemma|pos|chunk|ner|labels?|tags?|(ner|pos|chunk)_tags?)", re.I)
_TAG = re.compile(r"O|[BIELSU][-_].+")
_SEEN = 10_000  # number of lines whose majority determines the layout of a file


class _Line(NamedTuple):
    number: int
    text: str
    cells: list[str]


@dataclass(frozen=True)
class Layout:
    """Rules that split the lines of a file into columns.

    Args:
        delimiter: Separator of columns; empty for runs of blanks and tabs.
        names: Names of the columns.
        comment: Prefix of lines to skip; None to distinguish comments from tokens by their columns.
        tags: Values of the last column in lines that do not start with `#`.
        sample: First values of each column.
        is_conllu: Whether the format is CoNLL-U, where only lines of words count.
        sentences: Number of sentences among the first lines.
        has_header: Whether the first line that is not a comment names the columns.
        has_ranges: Whether ten columns start with IDs of multiword tokens or empty nodes, as only in CoNLL-U.
    """

    delimiter: str
    names: tuple[str, ...]
    comment: str | None
    tags: frozenset[str] = frozenset()
    sample: tuple[tuple[str, ...], ...] = ()
    is_conllu: bool = False
    sentences: int = 0
    has_header: bool = False
    has_ranges: bool = False

    def split(self, text: str) -> list[str]:
        """Return the cells of a line."""
        return _split(text, self.delimiter)

    def is_comment(self, line: _Line, starts: bool) -> bool:
        """Return whether a line is a comment.

        Args:
            line: Line of the file.
            starts: Whether no token precedes the line in its sentence, which is where comments occur.
        """
        if self.comment is not None:
            return bool(self.comment) and line.text.startswith(self.comment)
        if not line.text.startswith("#"):
            return False
        differs = starts and len(line.cells) != len(self.names)
        word_count = len(line.text.split())  # "#begin document" has several, but a hashtag without a label has one
        return self.is_conllu or (differs and (bool(_COMMENT.match(line.text)) or 1 < word_count != len(self.names)))


def read_conll(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    """Read sentences as columns of lists.

    Format: Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, CoNLL 2003.
    """
    return _read(path, options, layout_of(path, options))


def read_conllu(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    """Read sentences of words as columns of lists, without multiword tokens and empty nodes."""
    return _read(path, options, layout_of(path, options, is_conllu=True))


def layout_of(path: Path, options: ReadOptions, is_conllu: bool = False) -> Layout:
    """Return the layout of a file, inferred from its first lines."""
    return _layout(path, options, is_conllu, digest(path))


# --- sentences -------------------------------------------------------------------------------------------


@dataclass
class _Sentence:
    start: int = 0
    rows: list[list[str]] = field(default_factory=list)
    is_broken: bool = False


def _read(path: Path, options: ReadOptions, layout: Layout) -> Iterator[Record | BadLine]:
    sentence, has_header = _Sentence(), layout.has_header
    for line in _lines(path, options, layout):
        if not line.text.strip() or line.cells[0] == "-DOCSTART-":
            yield from _finished(sentence, layout)
            sentence = _Sentence()
        elif layout.is_comment(line, not sentence.rows):
            continue
        elif has_header:
            has_header = False
        else:
            sentence.start = sentence.start or line.number
            if bad_line := not_text(line.number, line.text, options.encoding) or _wrong(
                line, layout, options, sentence
            ):
                yield bad_line._replace(same_record=sentence.is_broken)
                sentence.is_broken = True
            if not layout.is_conllu or _WORD_ID.fullmatch(line.cells[0]):
                sentence.rows.append(line.cells)
    yield from _finished(sentence, layout)


def _lines(path: Path, options: ReadOptions, layout: Layout) -> Iterator[_Line]:
    for number, line in enumerate(lines(path, options.encoding), 1):
        text = line.rstrip("\r\n")
        yield _Line(number, text, layout.split(text))


def _finished(sentence: _Sentence, layout: Layout) -> Iterator[Record]:
    """Yield the row of a sentence, unless one of its lines is invalid."""
    if sentence.rows and not sentence.is_broken:
        columns = map(list, zip(*sentence.rows, strict=True))
        yield Record(sentence.start, dict(zip(layout.names, columns, strict=True)))


def _wrong(line: _Line, layout: Layout, options: ReadOptions, sentence: _Sentence) -> BadLine | None:
    """Return the error of a line that is neither blank nor a comment, or None if it is valid."""
    width, value = len(layout.names), preview(line.text)
    if len(line.cells) != width:
        hint = "separate columns by a tab or spaces, and sentences by a blank line"
        if len(line.cells) > width and not line.cells[-1]:
            hint = "remove the tab at the end of the line"
        columns = "1 column" if len(line.cells) == 1 else f"{len(line.cells)} columns"
        return BadLine(line.number, f"{columns}, expected {width}: {value}", hint, value)
    needed = options.selected if width > len(_USUAL) else layout.names
    if empty := [name for name, cell in zip(layout.names, line.cells, strict=True) if name in needed and not cell]:
        return BadLine(line.number, f"empty {empty[0]!r}: {value}", value=value)
    looks_like_comment = options.comment is None and not sentence.rows and line.cells[0] == "#" and width > 1
    if looks_like_comment and not layout.is_conllu and line.cells[-1] not in layout.tags:
        hint = f"set '{NODE}dataset.comment=#' if it is a comment\nset {NODE}dataset.comment='' if # is a token"
        return BadLine(line.number, f"either a comment or the token #: {value}", hint, value)
    return None


# --- layout ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _layout(path: Path, options: ReadOptions, is_conllu: bool, _: str) -> Layout:
    """Return the layout of most of the first lines, cached by the file's content."""
    first_lines = [line.rstrip("\r\n") for line, _ in zip(lines(path, options.encoding), range(_SEEN), strict=False)]
    sentences = sum(bool(text.strip()) and not previous.strip() for previous, text in pairwise(["", *first_lines]))
    texts = [text for text in first_lines if _is_data(text, options)]
    data = [text for text in texts if not text.startswith("#")] or texts
    tab_count = sum("\t" in text for text in data)
    delimiter = "\t" if is_conllu or 2 * tab_count > len(data) else ""
    delimiter = options.delimiter or delimiter
    cells = [_split(text, delimiter) for text in data]
    widths = Counter(map(len, cells)).most_common(1)
    width = len(CONLLU) if is_conllu else widths[0][0] if widths else 0
    has_header = not is_conllu and _is_header(cells)
    rows = [row for row in cells[has_header:] if len(row) == width]
    columns = [*zip(*rows, strict=True)]
    tags = frozenset(columns[-1]) if columns else frozenset()
    sample = tuple(column[:3] for column in columns)
    names = _names(options, is_conllu, columns)
    has_ranges = width == len(CONLLU) and any(map(_RANGE_ID.fullmatch, columns[0])) if columns else False
    return Layout(delimiter, tuple(names), options.comment, tags, sample, is_conllu, sentences, has_header, has_ranges)


def _is_data(text: str, options: ReadOptions) -> bool:
    """Return whether a line is not blank, not a document marker, and not a comment by its prefix."""
    is_comment = bool(options.comment) and text.startswith(str(options.comment))
    return bool(text.strip()) and text.split()[0] != "-DOCSTART-" and not is_comment


def _split(text: str, delimiter: str) -> list[str]:
    return text.split(delimiter) if delimiter else re.split("[ \t]+", text.strip(" \t"))


def _names(options: ReadOptions, is_conllu: bool, columns: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of the columns: those of the config, the usual names of one or two columns, or positions."""
    width = len(columns)
    if is_conllu:
        spellings = {name.casefold(): name for name in options.selected}
        return options.names(len(CONLLU), [spellings.get(name.casefold(), name) for name in CONLLU])
    is_usual = 0 < width <= len(_USUAL) and not _is_index(columns[0]) and not _are_swapped(columns)
    return options.names(width, _USUAL[:width] if is_usual else ())


def _are_swapped(columns: Sequence[Sequence[str]]) -> bool:
    """Return whether two columns may be labels and tokens, in this order.

    Texts have more distinct words than labels have values. Only a label column consists of entity tags such as O or
    B-LOC.
    """
    if len(columns) != len(_USUAL):
        return False
    first, second = map(set, columns)
    return len(first) < len(second) or (_are_tags(first) and not _are_tags(second))


def _are_tags(values: Collection[str]) -> bool:
    return all(map(_TAG.fullmatch, values))


def _is_header(cells: Sequence[Sequence[str]]) -> bool:
    """Return whether the first line has usual column names, and its last cell is not a label of another line."""
    first = [*cells[0]] if cells else []
    if len(first) < len(_USUAL) or not all(_HEADER.fullmatch(name) for name in first):
        return False
    return all(row[-1] != first[-1] for row in cells[1:])


def _is_index(column: Sequence[str]) -> bool:
    """Return whether values count tokens: each value is the previous one plus one, or restarts at the first."""
    if not all(cell.isdecimal() for cell in column):
        return False
    numbers = [int(cell) for cell in column]
    first = numbers[0]
    pairs = [*pairwise(numbers)]
    return first in (0, 1) and bool(pairs) and all(b in (a + 1, first) for a, b in pairs) and max(numbers) > first
