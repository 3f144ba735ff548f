"""Atomic writing of predictions as JSONL, CSV, or Parquet."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.utils.errors import KEY, Problem, invalid_value
from hydratune.utils.files import atomic_write, directory_not_found
from hydratune.utils.logs import data_output

if TYPE_CHECKING:
    import pyarrow as pa

PROBABILITIES = "probabilities"  # column of the output: label -> probability, or a list of probabilities
SUFFIXES = (".csv", ".jsonl", ".parquet")
Write = Callable[[Sequence[Mapping[str, Any]]], None]  # writes rows that all have the same keys


def check_output(out: Path | None, source: Path) -> Iterator[Problem]:
    """Yield an error for each problem of the output path."""
    if out is None:
        return
    if out.suffix not in SUFFIXES:
        yield invalid_value(
            "--out", f"a file name that ends with {', '.join(SUFFIXES[:-1])}, or {SUFFIXES[-1]}", repr(str(out))
        )
    if not out.parent.is_dir():
        yield directory_not_found("--out", out.parent)
    if out.is_dir():
        yield Problem("--out", f"{KEY} must be a file, but {str(out)!r} is a directory")
    elif out.exists() and source.exists() and out.samefile(source):
        yield Problem("--out", f"{KEY} must not be the input file, {str(out)!r}")


@contextmanager
def writing(out: Path | None) -> Iterator[Write]:
    """Yield a function that writes rows; the file is written atomically and appears after the last row."""
    if out is None:
        yield lambda rows: _write_lines(data_output(), rows)
        sys.stdout.flush()
        return
    with atomic_write(out) as temp_path:
        if out.suffix == ".parquet":
            with _parquet(temp_path) as write:
                yield write
        else:
            with temp_path.open("w", encoding="utf-8", newline="") as file:
                yield _csv(file) if out.suffix == ".csv" else lambda rows: _write_lines(file, rows)


def _write_lines(file: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)  # dates as text


def _csv(file: Any) -> Write:
    """Return a function that writes rows as CSV, with lists and objects as JSON."""
    writer = csv.writer(file)
    has_header = False

    def write(rows: Sequence[Mapping[str, Any]]) -> None:
        nonlocal has_header
        if rows and not has_header:
            writer.writerow(rows[0])
            has_header = True
        writer.writerows([_cell(value) for value in row.values()] for row in rows)

    return write


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    """Yield a function that writes rows as Parquet, with the column types of the first rows."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    writers: list[ParquetWriter] = []

    def write(rows: Sequence[Mapping[str, Any]]) -> None:
        if not writers:
            inferred = pa.Table.from_pylist(list(rows)).schema
            schema = pa.schema([(name, _column_type(name, inferred.field(name).type)) for name in inferred.names])
            writers.append(ParquetWriter(path, schema))
        is_map = {field.name for field in writers[0].schema if pa.types.is_map(field.type)}
        pairs = [{n: [*v.items()] if n in is_map else v for n, v in row.items()} for row in rows] if is_map else rows
        writers[0].write_table(pa.Table.from_pylist(list(pairs), schema=writers[0].schema))

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()


def _column_type(name: str, dtype: pa.DataType) -> pa.DataType:
    """Return the type of a column; probabilities are a map, since the most probable labels differ from row to row."""
    import pyarrow as pa

    is_by_label = name == PROBABILITIES and pa.types.is_struct(dtype)
    return pa.map_(pa.string(), pa.float64()) if is_by_label else _known(dtype)


def _known(dtype: pa.DataType) -> pa.DataType:
    """Return the type, with string in place of null for columns that are empty in the first rows."""
    import pyarrow as pa

    if pa.types.is_null(dtype):
        return pa.string()
    if pa.types.is_list(dtype):
        return pa.list_(_known(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([(field.name, _known(field.type)) for field in dtype])
    return dtype
