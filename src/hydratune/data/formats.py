"""Files as people have them: read once line by line, so that what is wrong is known by its line.

`datasets` then reads the file itself, or a copy in plain JSON lines where the format is not one of its own or
some lines cannot be used.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from hydratune.data.cache import cache_dir
from hydratune.data.rows import shown

# Cells such as "NA" or "None" are text.
_CSV: dict[str, Any] = {"keep_default_na": False, "index_col": False}


class Bad(NamedTuple):
    """A line that is no row."""

    line: int
    expected: str
    got: str
    fix: str


@dataclass
class Scan:
    """What reading a file line by line showed.

    Args:
        columns: Names in the order of the file.
        lines: The line on which each row starts, in the order of the rows.
        bad: What never became a row.
        rows: The rows, where they were to be kept for a copy.
    """

    columns: list[str]
    lines: array[int] = field(default_factory=lambda: array("q"))
    bad: list[Bad] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)


class Format(NamedTuple):
    """How a kind of file is read.

    Args:
        suffixes: Of files that are taken to be of this kind.
        builder: Of `datasets.load_dataset`; for a copy it is `json`.
        scan: Path, encoding and whether to keep the rows -> what a reading line by line shows; None for binary files.
        options: Arguments of the builder.
        converts: Whether `datasets` reads the scan's rows, not the file.
    """

    suffixes: tuple[str, ...]
    builder: str
    scan: Callable[[Path, str, bool], Scan] | None
    options: Mapping[str, Any] = {}
    converts: bool = False


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Lines with their ends; bytes that are no text become lone surrogates, which `_not_text` finds."""
    with path.open(
        encoding="utf-8-sig" if encoding == "utf-8" else encoding, errors="surrogateescape", newline=""
    ) as file:
        yield from file


def _not_text(line: int, text: str, encoding: str) -> Bad | None:
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


# --- csv, tsv --------------------------------------------------------------------------------------------


def _scan_csv(path: Path, encoding: str, keep: bool, delimiter: str = ",") -> Scan:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_lines(path, encoding), delimiter=delimiter, strict=True)
    columns = next(reader)
    scan = Scan(columns)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            scan.bad.append(Bad(start, "a row of csv", str(error), "Close the quote, or double it inside quotes."))
            continue
        if not cells:
            continue
        if len(cells) != len(columns):
            got = f"{len(cells)} ({shown(delimiter.join(cells))})"
            scan.bad.append(Bad(start, f"{len(columns)} cells", got, "Quote cells that hold a separator."))
        elif wrong := _not_text(start, "".join(cells), encoding):
            scan.bad.append(wrong)
        else:
            scan.lines.append(start)
            if keep:
                scan.rows.append(cells)
    return scan


def _scan_tsv(path: Path, encoding: str, keep: bool) -> Scan:
    return _scan_csv(path, encoding, keep, delimiter="\t")


# --- json ------------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _scan_jsonl(path: Path, encoding: str, keep: bool) -> Scan:
    scan, types = Scan([]), dict[str, str]()
    for number, line in enumerate(_lines(path, encoding), 1):
        if not line.strip():
            continue
        if wrong := _not_text(number, line, encoding):
            scan.bad.append(wrong)
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except ValueError as error:
            scan.bad.append(Bad(number, "a JSON object", f"{shown(line.strip())}: {error}", "Mend the line."))
            continue
        if bad := _odd_object(number, row, types):
            scan.bad.append(bad)
        else:
            scan.lines.append(number)
            if keep:
                scan.rows.append(row)
    scan.columns = list(types)
    return scan


def _odd_object(number: int, row: Any, types: dict[str, str]) -> Bad | None:
    """What is wrong with a row whose values are not of the types of earlier rows; `types` grows with the rows."""
    if not isinstance(row, dict):
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


def _scan_json(path: Path, encoding: str, keep: bool) -> Scan:
    """A document, or lines where the first line is a whole object and there are more."""
    text = path.read_text(encoding="utf-8-sig" if encoding == "utf-8" else encoding)
    try:
        document = json.loads(text)
    except ValueError:
        return _scan_jsonl(path, encoding, keep)
    rows = document if isinstance(document, list) else [document]
    if rows and isinstance(rows[0], dict):
        return Scan(list(rows[0]))
    raise ValueError(f"expected objects, found {shown(rows[0] if rows else rows)}")


# --- text, CoNLL, SQuAD ----------------------------------------------------------------------------------


def _scan_text(path: Path, encoding: str, keep: bool) -> Scan:
    scan = Scan(_FIXED["text"])
    for number, line in enumerate(_lines(path, encoding), 1):
        if wrong := _not_text(number, line, encoding):
            scan.bad.append(wrong)
        else:
            scan.lines.append(number)
            if keep:
                scan.rows.append({"text": line.rstrip("\r\n")})
    return scan


def _scan_conll(path: Path, encoding: str, keep: bool) -> Scan:  # noqa: ARG001 (always kept)
    """Token and label from the first and last column, a sentence up to a blank line.

    Tjong Kim Sang & De Meulder, Introduction to the CoNLL-2003 Shared Task, CoNLL 2003.
    """
    scan = Scan(_FIXED["conll"])
    sentence: list[Sequence[str]] = []
    start, width, broken = 0, 0, False
    for number, line in enumerate([*_lines(path, encoding), ""], 1):
        cells = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if not "".join(cells).strip():
            if sentence and not broken:
                scan.lines.append(start)
                scan.rows.append({"tokens": [c[0] for c in sentence], "labels": [c[-1] for c in sentence]})
            sentence, broken = [], False
            continue
        if cells[0] == "-DOCSTART-" or (line.startswith("# ") and len(cells) != width):
            continue
        width = width or len(cells)
        start = start if sentence else number
        wrong = _not_text(number, line, encoding)
        if len(cells) != width or width < 2 or not cells[0] or not cells[-1]:
            wrong = Bad(number, f"a token and its label in {max(width, 2)} columns", shown(line.rstrip()), _CONLL_FIX)
        if wrong:
            scan.bad.append(wrong)
            broken = True
        sentence.append(cells)
    return scan


_CONLL_FIX = "Separate columns by a tab or spaces, sentences by a blank line."


def _scan_squad(path: Path, encoding: str, keep: bool) -> Scan:  # noqa: ARG001 (always kept)
    """One row a question, from the nested form of rajpurkar.github.io/SQuAD-explorer."""
    document = json.loads(path.read_text(encoding=encoding))
    rows = []
    try:
        for article in document["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    answers = [] if qa.get("is_impossible") else qa["answers"]
                    spans = {key: [answer[key] for answer in answers] for key in ("text", "answer_start")}
                    shared = {"title": article.get("title", ""), "context": paragraph["context"]}
                    rows.append({"id": str(qa["id"]), **shared, "question": qa["question"], "answers": spans})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not of SQuAD's form: {error!r} is missing") from error
    return Scan(_FIXED["squad"], rows=rows)


FORMATS: dict[str, Format] = {
    "csv": Format((".csv",), "csv", _scan_csv, _CSV),
    "tsv": Format((".tsv",), "csv", _scan_tsv, _CSV | {"sep": "\t"}),
    "jsonl": Format((".jsonl",), "json", _scan_jsonl),
    "json": Format((".json",), "json", _scan_json),
    "parquet": Format((".parquet",), "parquet", None),
    "arrow": Format((".arrow",), "arrow", None),
    "text": Format((".txt", ".text"), "text", _scan_text),
    "conll": Format((".conll", ".bio", ".iob"), "json", _scan_conll, converts=True),
    "squad": Format((), "json", _scan_squad, converts=True),
}
SUFFIXES = {suffix: name for name, known in FORMATS.items() for suffix in known.suffixes}


def binary_columns(path: Path, name: str) -> list[str]:
    """The column names of a parquet or arrow file, from its footer or schema."""
    import pyarrow as pa
    import pyarrow.parquet

    if name == "parquet":
        return list(pyarrow.parquet.read_schema(path).names)
    with pa.memory_map(str(path)) as source:
        try:
            return list(pa.ipc.open_stream(source).schema.names)
        except pa.ArrowInvalid:
            return list(pa.ipc.open_file(source).schema.names)


def peek_columns(path: Path, name: str, encoding: str) -> list[str]:
    """The column names of a file, from its first line or its footer; raises what reading it raises."""
    if name in _FIXED:
        return _FIXED[name]
    if name in ("parquet", "arrow"):
        return binary_columns(path, name)
    lines = _lines(path, encoding)
    first = next(line for line in lines if line.strip())
    if wrong := _not_text(1, first, encoding):
        raise ValueError(wrong.got)
    if name in ("csv", "tsv"):
        return next(csv.reader(chain([first], lines), delimiter="\t" if name == "tsv" else ","))
    try:
        row = json.loads(first)
    except json.JSONDecodeError:  # a document over several lines
        row = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(row, list):
        row = row[0] if row else {}
    if not isinstance(row, dict):
        raise ValueError(f"a row is not an object: {shown(row)}")
    return list(row)


# Formats that always have the same columns.
_FIXED = {
    "text": ["text"],
    "conll": ["tokens", "labels"],
    "squad": ["id", "title", "context", "question", "answers"],
}


def plain_copy(path: Path, scan: Scan) -> tuple[str, Path]:
    """A builder of `datasets` and a file of csv or JSON lines in UTF-8 with the rows of `scan`, under the cache."""
    stat = path.stat()
    named = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {scan.bad}".encode()).hexdigest()[:32]
    builder = "csv" if isinstance(scan.rows[0], list) else "json"
    copy = cache_dir() / "copies" / f"{named}.{builder}"
    copy.parent.mkdir(parents=True, exist_ok=True)
    with copy.open("w", encoding="utf-8", newline="") as file:
        if builder == "csv":
            csv.writer(file).writerows([scan.columns, *scan.rows])
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in scan.rows)
    return builder, copy
