"""Files as people have them: read once line by line, so that what is wrong is known by its line.

`datasets` then reads the file itself, or a copy where the format is not one of its own, some
lines cannot be used, or `datasets` would make other rows of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydratune.data.cache import cache_dir
from hydratune.data.conll import layout_of, scan_conll, scan_conllu
from hydratune.data.objects import peek_names, scan_json, scan_jsonl
from hydratune.data.scan import ReadOptions, Scan, codec, lines, not_text
from hydratune.data.separated import peek_csv, scan_csv, table
from hydratune.errors import one_line

if TYPE_CHECKING:
    import pyarrow as pa

# Cells such as "NA" or "None" are text.
_CSV: dict[str, Any] = {"keep_default_na": False, "index_col": False}
# Columns such as `model`, `system_prompt` and `messages` are a user's, not the log of an agent.
_JSON: dict[str, Any] = {"parse_agent_traces": False}


class Format(NamedTuple):
    """How a kind of file is read.

    Args:
        suffixes: Of files that are taken to be of this kind.
        builder: Of `datasets.load_dataset`, for the file itself; a `plain_copy` is parquet.
        scan: Path, options and whether to keep the rows -> what a reading line by line shows; None for binary files.
        options: Arguments of the builder.
        converts: Whether `datasets` reads the scan's rows, not the file.
    """

    suffixes: tuple[str, ...]
    builder: str
    scan: Callable[[Path, ReadOptions, bool], Scan] | None
    options: Mapping[str, Any] = {}
    converts: bool = False


# --- text, SQuAD ----------------------------------------------------------------------------------


def _scan_text(path: Path, options: ReadOptions, keep: bool) -> Scan:
    scan = Scan(_FIXED["text"])
    for number, line in enumerate(lines(path, options.encoding), 1):
        if wrong := not_text(number, line, options.encoding):
            scan.bad.append(wrong)
        else:
            scan.lines.append(number)
            if keep:
                scan.rows.append({"text": line.rstrip("\r\n")})
    return scan


def _scan_squad(path: Path, options: ReadOptions, keep: bool) -> Scan:  # noqa: ARG001 (always kept)
    """One row a question, from the nested form of rajpurkar.github.io/SQuAD-explorer."""
    document = json.loads(path.read_text(encoding=codec(options.encoding)))
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
    "csv": Format((".csv",), "csv", scan_csv, _CSV),
    "tsv": Format((".tsv",), "csv", scan_csv, _CSV),
    "jsonl": Format((".jsonl",), "json", scan_jsonl, _JSON),
    "json": Format((".json",), "json", scan_json, _JSON),
    "parquet": Format((".parquet",), "parquet", None),
    "arrow": Format((".arrow",), "arrow", None),
    "text": Format((".txt", ".text"), "text", _scan_text),
    "conll": Format((".conll", ".bio", ".iob"), "json", scan_conll, converts=True),
    "conllu": Format((".conllu",), "json", scan_conllu, converts=True),
    "squad": Format((), "json", _scan_squad, converts=True),
}
SEPARATED, CONLL = ("csv", "tsv"), ("conll", "conllu")
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


def peek_columns(path: Path, name: str, options: ReadOptions) -> list[str]:
    """The column names of a file, from its first line or its footer; raises what reading it raises."""
    if name in _FIXED:
        return _FIXED[name]
    if name in ("parquet", "arrow"):
        return binary_columns(path, name)
    if name in CONLL:
        return list(layout_of(path, options, is_conllu=name == "conllu").names)
    if name in SEPARATED:
        return peek_csv(path, options)
    return peek_names(path, options.encoding)


# Formats that always have the same columns.
_FIXED = {
    "text": ["text"],
    "squad": ["id", "title", "context", "question", "answers"],
}


def plain_copy(scan: Scan) -> Path:
    """A parquet file with the rows of `scan` under the cache, named by its content.

    Raises:
        ValueError: Where no column can hold them, e.g. whole numbers of more than 64 bits.
    """
    import pyarrow.parquet

    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in scan.rows)
    named = hashlib.sha256(f"{scan.types} {text}".encode()).hexdigest()[:32]
    copy = cache_dir() / "copies" / f"{named}.parquet"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = copy.with_suffix(f".{os.getpid()}")  # other runs may write the same
        pyarrow.parquet.write_table(table(scan) if isinstance(scan.rows[0], list) else _of_objects(scan.rows), part)
        part.replace(copy)
    return copy


def _of_objects(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The same rows in columns; texts stay texts, where the reader of JSON files takes some for points in time."""
    from datasets import Dataset

    names = dict.fromkeys(name for row in rows for name in row)
    try:
        columns = Dataset.from_dict(
            {name: [row.get(name) for row in rows] for name in names}, on_mixed_types="use_json"
        )
    except OverflowError as error:
        raise ValueError(one_line(error)) from error
    return columns.data.table
