"""File formats and their readers, which yield records one by one with their lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydratune.data.columns import preview
from hydratune.data.open_files import lines, open_binary, read_text
from hydratune.data.readers.bad_lines import BadLine, ContentError, json_reason, not_text
from hydratune.data.readers.column_types import CELLS, VALUES, Type, Typing
from hydratune.data.readers.conll import layout_of, read_conll, read_conllu
from hydratune.data.readers.csv_reader import peek_csv, read_csv
from hydratune.data.readers.image_folder import IMAGE_FOLDER, image_folder_columns, read_image_folder
from hydratune.data.readers.json_reader import numbered_lines, peek_names, read_json, read_jsonl
from hydratune.data.readers.scan import Reader, ReadOptions, Record
from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.file_suffixes import is_compressed
from hydratune.utils.json_text import parse_json

if TYPE_CHECKING:
    import pyarrow as pa


class Format(NamedTuple):
    """Reader and column types of a file format.

    Args:
        read: Function that yields the records; None for binary files, which have typed columns.
        typing: Rules that infer the types of columns.
        types: Types of the columns, if they are always the same.
        document: Whether the file is always read as a whole and cannot be streamed.
    """

    read: Reader | None
    typing: Typing = VALUES
    types: Mapping[str, Type] = {}
    document: bool = False


# --- text, SQuAD, MRQA ----------------------------------------------------------------------------------


def _read_text(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    for number, line in enumerate(lines(path, options.encoding), 1):
        bad_line = not_text(number, line, options.encoding)
        yield bad_line or Record(number, {"text": line.rstrip("\r\n")})


def _read_squad(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    """Yield one row per question from the nested form of rajpurkar.github.io/SQuAD-explorer."""
    document = parse_json(read_text(path, options.encoding))
    try:
        for article in document["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    answers = [] if qa.get("is_impossible") else qa["answers"]
                    spans = {key: [answer[key] for answer in answers] for key in ("text", "answer_start")}
                    shared = {"title": article.get("title", ""), "context": paragraph["context"]}
                    row = {"id": str(qa["id"]), **shared, "question": qa["question"], "answers": spans}
                    yield Record(0, row, has_digits=True)
    except (KeyError, TypeError) as error:
        raise ContentError(f"not in SQuAD format: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return why rows are not nested as expected, without Python's words for it."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return json_reason(error) if isinstance(error, ValueError) else "unexpected nesting"


def _read_mrqa(path: Path, options: ReadOptions) -> Iterator[Record | BadLine]:
    """Yield one row per question from the form of the MRQA 2019 task: a header, and a line per context.

    The end of a span is that of its last character, see github.com/mrqa/MRQA-Shared-Task-2019.
    """
    for number, line, bad_line in numbered_lines(path, options):
        if bad_line:
            yield bad_line
            continue
        try:
            document = parse_json(line)
            if "header" in document:
                continue
            context, rows = document["context"], []
            for qa in document["qas"]:
                spans = [span for answer in qa["detected_answers"] for span in answer["char_spans"]]
                texts = [context[start : end + 1] for start, end in spans]
                answers = {"text": texts, "answer_start": [start for start, _ in spans]}
                rows.append({"id": str(qa["qid"]), "context": context, "question": qa["question"], "answers": answers})
        except (KeyError, TypeError, ValueError) as error:
            value = preview(line.strip())
            yield BadLine(number, f"not in MRQA format ({_reason(error)}): {value}", value=value)
        else:
            yield from (Record(number, row, has_digits=True) for row in rows)


_TEXTS: Type = ("list", "string")
_SQUAD: dict[str, Type] = {
    **dict.fromkeys(("id", "title", "context", "question"), "string"),
    "answers": {"text": _TEXTS, "answer_start": ("list", "int64")},
}
_MRQA = {name: column_type for name, column_type in _SQUAD.items() if name != "title"}
# The suffixes of a new format are listed in `utils/file_suffixes.py`.
FORMATS: dict[str, Format] = {
    "csv": Format(read_csv, CELLS),
    "tsv": Format(read_csv, CELLS),
    "jsonl": Format(read_jsonl),
    "json": Format(read_json),
    "parquet": Format(None),
    "arrow": Format(None),
    "text": Format(_read_text, types={"text": "string"}),
    "conll": Format(read_conll),
    "conllu": Format(read_conllu),
    "squad": Format(_read_squad, types=_SQUAD, document=True),
    "mrqa": Format(_read_mrqa, types=_MRQA),
    IMAGE_FOLDER: Format(read_image_folder, document=True),
}
SEPARATED, CONLL = ("csv", "tsv"), ("conll", "conllu")


# --- binary files ----------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield a source that `pyarrow` reads: the memory-mapped file, or its decompressed bytes."""
    import pyarrow as pa

    if is_compressed(path):
        with open_binary(path) as file:
            yield pa.BufferReader(file.read())
    else:
        with pa.memory_map(str(path)) as source:
            yield source


def _stream_or_file(source: Any) -> Any:
    """Return a reader of an Arrow file in the stream format or the file format."""
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source)


def binary_schema(path: Path, name: str) -> pa.Schema:
    """Return the schema of a Parquet or Arrow file, without reading its rows."""
    import pyarrow.parquet

    with _opened(path) as source:
        schema = pyarrow.parquet.read_schema(source) if name == "parquet" else _stream_or_file(source).schema
    return _plain_schema(schema)


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema without encodings that `datasets` does not read: categories of pandas, views of Polars."""
    import pyarrow as pa

    for i, column in enumerate(schema):
        dtype = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        dtype = (
            pa.string() if pa.types.is_string_view(dtype) else pa.binary() if pa.types.is_binary_view(dtype) else dtype
        )
        schema = schema.set(i, column.with_type(dtype))
    return schema


def binary_batches(path: Path, name: str, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet or Arrow file in batches; `size` applies to Parquet only."""
    import pyarrow.parquet

    with _opened(path) as source:
        if name == "parquet":
            batches = pyarrow.parquet.ParquetFile(source).iter_batches(size, columns=list(columns))
        else:
            reader = _stream_or_file(source)
            is_stream = hasattr(reader, "__iter__")
            batches = reader if is_stream else map(reader.get_batch, range(reader.num_record_batches))
        for batch in batches:
            selected = batch.select(list(columns))
            yield selected.cast(_plain_schema(selected.schema))


def peek_columns(path: Path, name: str, options: ReadOptions) -> list[str]:
    """Return the column names of a file from its first rows or its schema; raise the errors of reading it."""
    if types := FORMATS[name].types:
        return list(types)
    if name in ("parquet", "arrow"):
        return list(binary_schema(path, name).names)
    if name == IMAGE_FOLDER:
        return image_folder_columns(path)
    if name in CONLL:
        layout = layout_of(path, options, is_conllu=name == "conllu")
        if layout.has_ranges and not layout.is_conllu:  # these lines are not words
            text = f"{path} has IDs such as 1-2 or 1.1, which are those of CoNLL-U"
            raise ConfigError(Problem("dataset.format", text, f"set {KEY}=conllu"))
        return list(layout.names)
    if name in SEPARATED:
        return peek_csv(path, options)
    return peek_names(path, options)
