"""Explain missing columns by the form of the file: another delimiter, no header, or columns of tokens and tags."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hydratune.data.columns import MISSING, Column, preview
from hydratune.data.open_files import lines
from hydratune.data.readers.conll import Layout, layout_of
from hydratune.data.readers.csv_reader import COMPARED, delimiter_setting, first_records, tables
from hydratune.data.readers.formats import CONLL, SEPARATED
from hydratune.data.readers.scan import ReadOptions
from hydratune.utils.errors import KEY, NODE, Problem, setting
from hydratune.utils.json_text import parse_json

_EXCEL = re.compile("sep=(.?)$", re.I)  # the first line of a file that names the delimiter for Excel
_COMMENT = re.compile("#|%|;|//|--")  # prefixes of comments in tables
_WORDS = 6  # a name with this many words is a sentence, not a name
_FEW = 4  # with fewer rows, a header cannot be distinguished from data


def unreadable(
    path: Path, name: str, options: ReadOptions, wanted: Mapping[str, Column], needed: Collection[str]
) -> Iterator[Problem]:
    """Yield the one error that explains why columns are missing, if there is one.

    Args:
        path: A readable file.
        name: Format of the file.
        options: Options that the file is read with.
        wanted: Columns that the task reads, by name.
        needed: Names of the columns that are read, of which some may be optional.
    """
    if name in CONLL:
        layout = layout_of(path, options, is_conllu=name == "conllu")
        if not layout.names:
            yield Problem("files", f"{path} has no rows")
        elif "tokens" in wanted and "tokens" not in layout.names:
            yield _choose(path, layout.names, layout.sample, wanted)
    elif name in SEPARATED:
        rows = first_records(path, options, COMPARED)
        if problem := misnamed(path, name, options.encoding):
            yield problem
        elif "tokens" in wanted and (layout := _layout(path, options)).sentences > 1:
            width = f"{len(layout.names)} columns" if len(layout.names) > 1 else "one column"
            text = f"{path} has one token per line in {width}, and blank lines between sentences"
            yield Problem("format", text, f"set {KEY}={'conllu' if layout.has_ranges else 'conll'}")
        elif not options.comment and (sep_match := _EXCEL.match(rows[0][0])):
            delimiter = sep_match[1] or options.delimiter or ","
            hint = f"set {setting(KEY, 'sep=')} {delimiter_setting(delimiter, NODE)}"
            yield Problem("comment", f"{path} starts with a line for Excel: 'sep={delimiter}'", hint)
        elif problem := another_delimiter(path, options, rows[0], needed):
            yield problem
        elif not options.comment and (comment_match := _COMMENT.match(rows[0][0])) and len(rows[0]) < len(rows[-1]):
            text = f"{path} starts with a comment: {preview((options.delimiter or ',').join(rows[0]))}"
            yield Problem("comment", text, f"set {setting(KEY, comment_match[0])}")
        elif problem := _spaced(path, options, rows[0], wanted, needed):
            yield problem
        elif not options.header:
            yield _choose(path, options.names(len(rows[0])), [*zip(*rows[:3], strict=False)], wanted)
        elif is_data(rows):
            yield no_header(path, rows[0], wanted)
    elif name == "text":
        text = f"{path} is read as plain text, but the task needs columns"
        yield Problem("format", text, _columns_hint(path, options, wanted))


def _layout(path: Path, options: ReadOptions) -> Layout:
    """Return the layout of a file that may have a token on each line, without options for other formats."""
    return layout_of(path, replace(options, delimiter=None, column_names=None))


def _columns_hint(path: Path, options: ReadOptions, task_columns: Mapping[str, Column]) -> str:
    """Return the hint for a file of lines that should have columns."""
    if "tokens" in task_columns:
        format_name = "conllu" if _layout(path, options).has_ranges else "conll"
        return f"set {KEY}={format_name} if each line has a token and its label"
    if table := next(tables(path, replace(options, delimiter="\0")), None):
        delimiter, rows = table
        header = f" {NODE}header=false" if is_data(rows) else ""
        return f"set {KEY}=csv {delimiter_setting(delimiter, NODE)}{header} to read {len(rows[0])} columns"
    if {"source", "target"} <= {*task_columns}:
        return f"join parallel files, e.g. with `paste a.en a.de > a.tsv`, and set {NODE}header=false"
    return (
        f"set {KEY}=csv {NODE}delimiter=DELIMITER if the lines have columns\n"
        f"set {NODE}header=false if the first line does not name the columns\n"
        f"set {NODE}max_splits=1 if each line is a label and a text that may contain delimiters"
    )


def misnamed(path: Path, name: str, encoding: str) -> Problem | None:
    """Return the error for JSON in a CSV or TSV file, or for other text in a JSON file; None if neither applies."""
    with suppress(OSError, ValueError):
        first_line = next((line.strip() for line in lines(path, encoding) if line.strip()), "")
        if name in SEPARATED and first_line[:1] in ("{", "["):
            parse_json(first_line)
            return Problem("format", f"{path} contains JSON, not {name}", f"set {NODE}format=jsonl")
        if name in ("json", "jsonl") and first_line and first_line[0] not in "{[" and not _is_json(first_line):
            hint = f"set {NODE}format=csv or {NODE}format=tsv if the file is a table"
            return Problem("format", f"{path} does not contain JSON", hint)
    return None


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def doubtful_header(
    path: Path, options: ReadOptions, wanted: Mapping[str, Column], needed: Collection[str]
) -> Iterator[Problem]:
    """Yield an error if the first row contradicts `options.header`, or has spaces around names that are read.

    `dataset.columns.label=1` may mean a position, but match a column whose first value is 1.
    """
    rows = first_records(path, options, COMPARED)
    if not options.header and _is_header(rows, options):
        text = f"the first row of {path} has column names: {preview(rows[0])}"
        names_hint = f" {NODE}column_names=null" if options.column_names else ""
        yield Problem("header", text, f"set {KEY}=true{names_hint}")
    elif problem := _spaced(path, options, rows[0], wanted, needed):
        yield problem
    elif options.header and not _is_range(rows[0]):
        positions = [i for i, title in enumerate(rows[0]) if title in options.selected and _is_number(title)]
        if any(_recurs(rows, i) for i in positions):
            yield no_header(path, rows[0], wanted)


def _spaced(
    path: Path, options: ReadOptions, first_row: Sequence[str], wanted: Collection[str], needed: Collection[str]
) -> Problem | None:
    """Return an error for column names that match only without the spaces around them, e.g. after the delimiter."""
    spaced = [title for title in first_row if title not in needed and title.strip() in {*needed} - {*first_row}]
    if not options.header or not spaced:
        return None
    if spaced[0].startswith(" ") and not options.skip_initial_space:
        text = f"column names of {path} start with a space: {preview(first_row)}"
        return Problem("skip_initial_space", text, f"set {KEY}=true")
    name = spaced[0].strip()
    text = f"{path} has no column {name!r}, but {spaced[0]!r} with spaces"
    if name not in wanted:  # a key of the config gives a column of the task this name
        return Problem("columns", text, "remove the spaces from the file")
    return Problem(f"columns.{name}", text, f"set {setting(KEY, spaced[0])}")


def _is_header(rows: Sequence[Sequence[str]], options: ReadOptions) -> bool:
    """Return whether the first row holds names: the names of the config, or texts above numbers."""
    titles = [title.strip().casefold() for title in rows[0]]
    if options.column_names and titles == [name.casefold() for name in options.column_names]:
        return True
    if len(rows) < _FEW or any(title in ("", *MISSING) or _is_number(title) for title in titles):
        return False
    columns = [[value for value in _column(rows, i) if value] for i in range(len(titles))]
    return any(column and all(map(_is_number, column)) for column in columns)


def no_header(path: Path, first_row: Sequence[str], task_columns: Mapping[str, Column]) -> Problem:
    """Return the error for a first row that is data where names of columns are expected."""
    name = next(iter(task_columns), "text")
    text = f"the first row of {path} is data, not column names: {preview(first_row)}"
    hint = (
        f"set {KEY}=false\nselect columns by position from 0, e.g. {NODE}columns.{name}=0, "
        f"or name all of them with '{NODE}column_names=[NAME,...]'"
    )
    return Problem("header", text, hint)


def _choose(
    path: Path, names: Sequence[str], sample: Sequence[Sequence[str]], task_columns: Mapping[str, Column]
) -> Problem:
    """Return an error that shows the columns of a file, so that the user can choose."""
    columns = "; ".join(
        f"{name}: {' '.join(map(preview, values))}" for name, values in zip(names, sample, strict=False)
    )
    keys = " ".join(f"{KEY}.{name}=COLUMN" for name, column in task_columns.items() if column.required)
    return Problem("columns", f"{KEY} selects none of the columns of {path} ({columns})", f"set {keys}")


def another_delimiter(
    path: Path, options: ReadOptions, first: Sequence[str] = ("",), names: Collection[str] = ()
) -> Problem | None:
    """Return an error that names a better delimiter, or None if there is none.

    Such a delimiter splits all rows alike. It also splits a single column, or yields some of the columns in `names`.

    Args:
        path: Path of the file.
        options: Options that the file is read with.
        first: First row as it is read; one cell if the file is unreadable.
        names: Names of missing columns.
    """
    for delimiter, rows in tables(path, options):
        if len(first) == 1 or {*names} & ({*rows[0]} - {*first}):
            delimiters = f"{delimiter!r}, not {options.delimiter or ','!r}"
            text = f"the delimiter of {path} is {delimiters} (first row: {preview(rows[0])})"
            return Problem("delimiter", text, f"set {delimiter_setting(delimiter, NODE)}")
    return None


def is_data(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row looks like the others, not like names."""
    first_row = rows[0]
    if _is_range(first_row):  # pandas names unnamed columns like this
        return False
    if len({*first_row}) < len(first_row) or "" in first_row[1:]:  # the first column is often an index without a name
        return True
    has_numbers = any(_is_number(title) and _are_numbers(rows, i) for i, title in enumerate(first_row))
    return has_numbers or any(_recurs(rows, i) or len(title.split()) >= _WORDS for i, title in enumerate(first_row))


def _is_range(first_row: Sequence[str]) -> bool:
    """Return whether names are the numbers from 0, optionally after an unnamed index."""
    names = first_row[1:] if first_row[0] == "" else first_row
    return [*names] == [str(i) for i in range(len(names))]


def _column(rows: Sequence[Sequence[str]], i: int) -> list[str]:
    return [row[i] for row in rows[1:] if i < len(row)]


def _recurs(rows: Sequence[Sequence[str]], i: int) -> bool:
    return rows[0][i] in _column(rows, i)


def _are_numbers(rows: Sequence[Sequence[str]], i: int) -> bool:
    values = _column(rows, i)
    return 2 * sum(map(_is_number, values)) > len(values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
