"""Reading of the files of one dataset: a scan for bad lines and column types, then typed rows."""

from __future__ import annotations

import csv
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

from hydratune.data.columns import BadRow, problems
from hydratune.data.open_files import digest
from hydratune.data.raw import RawDataset
from hydratune.data.readers.bad_lines import content_problem
from hydratune.data.readers.column_types import CELLS, JSON, VALUES, Type, features, kind
from hydratune.data.readers.formats import FORMATS, binary_batches, binary_schema
from hydratune.data.readers.scan import FileScan, ReadOptions, Selection, scan
from hydratune.data.split_column import candidates, joined
from hydratune.data.streaming import HEAD
from hydratune.data.table_cache import TableFile, cached_rows, streamed_rows
from hydratune.utils.errors import ConfigError, Problem, one_line

log = logging.getLogger(__name__)


@dataclass
class DataFile:
    """A file of a split.

    Args:
        split: Split of the run: train, validation, or test.
        path: Path in the user's spelling.
        name: Name of the format.
        options: Options of the format.
        digest: SHA-256 of the file's bytes.
        scan: Summary of the rows; empty for binary files, whose rows have neither lines nor errors.
        features: Column -> feature of `datasets`, for binary files.
    """

    split: str
    path: Path
    name: str
    options: ReadOptions
    digest: str = ""
    scan: FileScan = field(default_factory=FileScan)
    features: dict[str, Any] = field(default_factory=dict)

    @property
    def is_binary(self) -> bool:
        """Return whether the file has typed columns."""
        return FORMATS[self.name].read is None

    def look(self, selection: Selection, most_lines: float) -> None:
        """Scan the file once for errors and the types of its columns.

        Args:
            selection: Columns to read.
            most_lines: Number of rows whose lines are needed.

        Raises:
            ConfigError: If no row can be read.
        """
        self.digest = digest(self.path)
        file_format = FORMATS[self.name]
        try:
            if file_format.read is None:
                self._look_at_schema(selection)
            else:
                self.scan = scan(self.path, self.options, file_format, selection, most_lines)
        except ConfigError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError, csv.Error, OSError) as error:
            raise ConfigError(content_problem(f"dataset.files.{self.split}", self.path, error)) from error

    def _look_at_schema(self, selection: Selection) -> None:
        import pyarrow as pa
        from datasets import Features

        schema = binary_schema(self.path, self.name)
        self.scan.columns = dict.fromkeys(schema.names)
        self.features = {
            name: feature
            for name, feature in Features.from_arrow_schema(schema).items()
            if selection.rest or selection.needed is None or _is_selected(name, selection.needed)
        }
        self.scan.split_names = self._split_names(
            [
                column.name
                for column in schema
                if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            ]
        )

    def _split_names(self, names: Sequence[str]) -> dict[str, set[str]]:
        """Return the text columns that may name the split of each row, and their values."""
        for size in (1, HEAD):  # the first row usually excludes all columns
            batches = binary_batches(self.path, self.name, names, size) if names else iter(())
            batches = itertools.islice(batches, 1) if size == 1 else batches
            columns: dict[str, list[Any]] = {name: [] for name in names}
            for batch in batches:
                for name in names:
                    columns[name] += batch.column(name).unique().to_pylist()
            distinct = candidates({name: values for name, values in columns.items() if values})
            names = [*distinct]
        return distinct

    def error(self, text: str, hint: str = "") -> ConfigError:
        """Return an error for the files of this split."""
        return ConfigError(Problem(f"dataset.files.{self.split}", text, hint))

    @cached_property
    def shares_lines(self) -> bool:
        """Return whether several rows start on one line, as in a JSON document without line breaks."""
        lines = [*self.scan.lines, *(bad.line for bad in self.scan.bad if not bad.same_record)]
        return self.name == "json" and len({*lines}) < len(lines)

    def place(self, line: int, number: int) -> str:
        """Return file and line for a message, or the record's number from 1 if records share lines.

        Args:
            line: Line of the record; 0 if the format has no lines.
            number: Number of the record among all records of the file, from 0.
        """
        if not self.shares_lines:
            return f"{self.path}:{line}" if line else str(self.path)
        splits = f" of {', '.join(self.options.splits)}" if self.options.splits else ""
        return f"{self.path}, row {number + 1}{splits}"

    def bad(self) -> list[BadRow]:
        """Return the lines that are not rows, as bad rows."""
        number, rows = -1, []
        for bad in self.scan.bad:
            number += not bad.same_record
            position = self.scan.skipped[number] + number
            place = self.place(bad.line, position)
            rows.append(BadRow(self.split, None, "", bad.text, bad.hint, bad.value, place))
        return rows


def _is_selected(name: str, needed: Sequence[str]) -> bool:
    """Return whether a column or a field inside it is needed."""
    return any(needed_name == name or needed_name.startswith(f"{name}.") for needed_name in needed)


def read_files(
    files: Sequence[DataFile], selection: Selection, stream: Sequence[str], shuffle_buffer_size: int
) -> RawDataset:
    """Return the rows of all splits.

    Args:
        files: Files in the order of their rows.
        selection: Columns to read.
        stream: Splits whose rows are read while they are used.
        shuffle_buffer_size: Number of rows of a stream in the buffer that the next row is drawn from.

    Raises:
        ConfigError: If the files of a split have no valid row, or differ in their columns.
    """
    from datasets import DatasetDict

    selection = _look(files, selection, stream)
    by_split = {
        split: [file for file in files if file.split == split] for split in dict.fromkeys(f.split for f in files)
    }
    for split, split_files in by_split.items():
        _check_rows(split, split_files)
    types = _types(by_split, selection)
    splits = DatasetDict(
        {
            split: _load(split_files, types[split], selection, streamed=split in stream)
            for split, split_files in by_split.items()
        }
    )
    return RawDataset(
        splits,
        [row for file in files for row in file.bad()],
        lambda split, row: _locate(by_split.get(split, ()), split, row),
        shuffle_buffer_size,
        {
            split: [*dict.fromkeys(name for file in split_files for name in file.scan.columns)]
            for split, split_files in by_split.items()
        },
        lambda split, row: _number(by_split.get(split, ()), row),
        joined([file.scan.split_names for file in by_split.get("train", ())]),
    )


def _look(files: Sequence[DataFile], selection: Selection, stream: Sequence[str]) -> Selection:
    """Scan each file once, or twice if a number column has other values or a column mixes texts and lists.

    - Numbers: other values make their rows invalid if most values of the column are numbers. Otherwise the column does
      not hold numbers.
    - Labels may be words, so among numbers only markers of missing values make their rows invalid.
    - Texts: if a split has both texts and lists of texts in a column, each text becomes a list of one.
    """
    lines = {file.split: HEAD if file.split in stream else math.inf for file in files}
    for file in files:
        file.look(selection, lines[file.split])
    counts = {
        name: [file.scan.numbers.get(name, [0, 0]) for file in files] for name in {*selection.numbers, *selection.ids}
    }
    totals = {
        name: [sum(column) for column in zip(*counts_per_file, strict=True)] for name, counts_per_file in counts.items()
    }
    words = {name for file in files for name in file.scan.words if name in selection.ids}
    mixed = tuple(sorted(name for name, (numbers, others) in totals.items() if numbers > others > 0))
    mixed = tuple(name for name in mixed if name not in words)
    only_lists = tuple(name for name in selection.texts if _has_texts_and_lists(files, name))
    selection = replace(selection, only_numbers=mixed, only_lists=only_lists)
    for file in files if mixed or only_lists else ():
        file.look(selection, lines[file.split])
    return selection


def _has_texts_and_lists(files: Sequence[DataFile], name: str) -> bool:
    """Return whether a column holds texts in some rows of a split, and lists in others."""
    types: dict[str, Type] = {}
    for file in files:
        types[file.split] = VALUES.widest(types.get(file.split), file.scan.types.get(name))
    return JSON in types.values()


def _check_rows(split: str, files: Sequence[DataFile]) -> None:
    """Raise ConfigError if no file of a split has a valid row."""
    if any(file.scan.rows or file.is_binary for file in files):
        return
    bad = [row for file in files for row in file.bad()]
    if bad:
        raise ConfigError(*problems(bad, {split: len(bad)}))
    paths = ", ".join(str(file.path) for file in files)
    has_header = all(FORMATS[file.name].typing is CELLS and file.options.header for file in files)
    if has_header:
        hint = "add rows, or set dataset.header=false if the first line is a row"
        raise files[0].error(f"no rows after the header of {paths}", hint)
    raise files[0].error(f"no rows in {paths}")


def _types(by_split: Mapping[str, Sequence[DataFile]], selection: Selection) -> dict[str, dict[str, Type]]:
    """Return the types of each split's columns; a column of CSV has one type in all files of all splits.

    Labels such as 5.0 are whole numbers if no label of the column has a fraction.
    """
    types = {split: _joined(files, selection) for split, files in by_split.items()}
    csv_splits = [split for split, files in by_split.items() if FORMATS[files[0].name].typing is CELLS]
    for name in dict.fromkeys(name for split in csv_splits for name in types[split]):
        column_splits = [split for split in csv_splits if name in types[split]]
        column_type = reduce(CELLS.widest, (types[split][name] for split in column_splits))
        if name in selection.texts and column_type not in (None, "string"):
            log.warning("data: all values of %r are numbers or booleans; they are read as text", name)
            column_type = "string"
        for split in column_splits:
            types[split][name] = column_type or CELLS.empty
    fractions = {name for files in by_split.values() for file in files for name in file.scan.fractions}
    for split_types in types.values():
        split_types |= {n: "int64" for n in selection.ids if split_types.get(n) == "float64" and n not in fractions}
    return types


def _joined(files: Sequence[DataFile], selection: Selection) -> dict[str, Type]:
    """Return the types of the columns of one split.

    Raises:
        ConfigError: If a needed column holds values of different kinds in two files.
    """
    typing = FORMATS[files[0].name].typing
    types: dict[str, Type] = {}
    for file in files:
        for name, column_type in file.scan.types.items():
            before = types.get(name)
            if (
                typing.strict
                and selection.is_needed(name)
                and kind(before)
                and kind(column_type) not in (None, kind(before))
            ):
                text = f"column {name!r} has {kind(column_type)}s in {file.path}, but {kind(before)}s in other files"
                raise file.error(text)
            types[name] = typing.widest(before, column_type)
    return types


def _binary_features(files: Sequence[DataFile]) -> Any:
    """Return the features of the columns of one split's Parquet or Arrow files.

    Raises:
        ConfigError: If a column has different types in two files.
    """
    from datasets import Features, Value

    columns: dict[str, Any] = {}
    for file in files:
        for name, feature in file.features.items():
            before = columns.get(name, feature)
            if Value("null") not in (before, feature) and before != feature:
                text = f"column {name!r} has the type {feature} in {file.path}, but {before} in other files"
                raise file.error(text)
            columns[name] = feature if before == Value("null") else before
    return Features(columns)


def _load(files: Sequence[DataFile], types: Mapping[str, Type], selection: Selection, streamed: bool) -> Any:
    """Return the rows of one split, without the bad lines."""
    columns = _binary_features(files) if files[0].is_binary else features(types)
    table_files = [
        TableFile(file.path, file.name, file.options, selection, types or dict.fromkeys(file.features), file.digest)
        for file in files
        if file.is_binary or file.scan.rows
    ]
    try:
        return streamed_rows(table_files, columns) if streamed else cached_rows(table_files, columns)
    except ConfigError:  # of the cache
        raise
    except (ValueError, TypeError, OverflowError, OSError) as error:
        paths = ", ".join(str(file.path) for file in files)
        raise files[0].error(f"cannot read {paths}: {one_line(error, 200)}") from error


def _number(files: Sequence[DataFile], row: int) -> int:
    """Return the position of a row among all records of a split's files."""
    offset = 0
    for file in files:
        if file.is_binary or row < file.scan.rows:
            return offset + file.scan.number(row)
        row -= file.scan.rows
        offset += file.scan.rows + len(file.scan.skipped)
    return offset + row


def _locate(files: Sequence[DataFile], split: str, row: int) -> str:
    """Return file and line of a row, or its number if the format has no lines."""
    for file in files:
        if not file.scan.lines:
            return f"{file.path}, row {row + 1}" if len(files) == 1 else f"row {row + 1} of {split}"
        if row < len(file.scan.lines):
            return file.place(file.scan.lines[row], file.scan.number(row))
        row -= len(file.scan.lines)
    return f"row {row + 1} of {split}"
