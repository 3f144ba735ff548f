"""A user's own csv, tsv, json, jsonl and parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.data.base import SPLITS, Source
from hydratune.errors import ConfigError, Mistake, did_you_mean, one_line, one_of

if TYPE_CHECKING:
    from datasets import DatasetDict

# Suffix -> the builder of `datasets.load_dataset` and its options.
# Cells such as "NA" or "None" are text, and a ragged line must not shift the columns.
_CSV: dict[str, Any] = {"keep_default_na": False, "index_col": False}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", _CSV),
    ".tsv": ("csv", _CSV | {"sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}


@dataclass(kw_only=True)
class LocalFiles(Source):
    """Files on this machine, one or several a split; formats may differ between splits.

    Args:
        files: Split (train, validation, test) -> a path or a list of paths; train is required.
    """

    files: dict[str, str | list[str] | None] = field(default_factory=dict)

    def paths(self) -> dict[str, list[Path]]:
        """The files of each split that has any."""
        listed = {split: [given] if isinstance(given, str) else given for split, given in self.files.items()}
        return {split: [Path(p).expanduser() for p in paths] for split, paths in listed.items() if paths}

    def check(self) -> Iterator[Mistake]:
        """Adds: unknown splits, files that do not exist, formats and columns that are not there."""
        yield from super().check()
        for split in set(self.files) - set(SPLITS):
            yield Mistake(f"files.{split}", one_of(SPLITS), repr(split), did_you_mean(split, SPLITS, "Rename it."))
        if not self.files.get("train"):
            yield Mistake("files.train", "a file", "none", "Set dataset.files.train=PATH.")
        for split, given in self.files.items():
            if not all(isinstance(path, str) for path in (given if isinstance(given, list) else [given or ""])):
                yield Mistake(f"files.{split}", "a path or a list of paths", repr(given), "Put paths in quotes.")
                return
        for split, paths in self.paths().items():
            for path in paths:
                yield from self._check_file(f"files.{split}", path)
            if len({path.suffix.lower() for path in paths}) > 1:
                got = ", ".join(map(str, paths))
                yield Mistake(f"files.{split}", "one format a split", got, "Convert one of them.")

    def _check_file(self, key: str, path: Path) -> Iterator[Mistake]:
        if path.suffix.lower() not in FORMATS:
            fix = "Convert the file or correct its name."
            yield Mistake(key, f"a file that ends with {one_of(FORMATS)}", repr(str(path)), fix)
        elif not path.is_file():
            siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
            fix = did_you_mean(str(path), siblings, f"Paths are read from {Path.cwd()}.")
            yield Mistake(key, "a file that exists", repr(str(path)), fix)
        else:
            try:
                columns = peek_columns(path)
            except (OSError, ValueError, csv.Error, StopIteration) as error:
                got = f"{str(path)!r}, which is {type(error).__name__}: {error}".rstrip(": ")
                yield Mistake(key, f"a readable {path.suffix[1:]} file in UTF-8", got, "Check the file.")
                return
            repeated = sorted({name for name in columns if columns.count(name) > 1})
            if repeated:
                yield Mistake(key, "different column names", f"{repeated} twice in {path}", "Rename one.")
            yield from self.check_columns(columns, str(path))

    def read(self) -> DatasetDict:
        """All rows of the files; cached by `datasets` under the files' names and modification times."""
        from datasets import DatasetDict, load_dataset
        from datasets.exceptions import DatasetGenerationError

        splits = DatasetDict()
        for split, paths in self.paths().items():
            builder, options = FORMATS[paths[0].suffix.lower()]
            files = {split: [str(path.resolve()) for path in paths]}
            try:
                splits[split] = load_dataset(builder, data_files=files, split=split, **options)
            except (DatasetGenerationError, ValueError) as error:  # ValueError: a file without a row
                got = f"{files[split]}: {one_line(error.__cause__ or error)}"
                fix = "Mend the file: every row needs the same columns and types."
                raise ConfigError(Mistake(f"dataset.files.{split}", "readable rows", got, fix)) from error
        return splits


def peek_columns(path: Path) -> list[str]:
    """The column names of a file, from its first line or its footer; raises what reading it raises."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet

        return list(pyarrow.parquet.read_schema(path).names)
    with path.open(encoding="utf-8-sig", newline="") as file:
        if suffix in (".csv", ".tsv"):
            return next(csv.reader(file, delimiter="\t" if suffix == ".tsv" else ","))
        first = next(line for line in file if line.strip())
        try:
            row = json.loads(first)
        except json.JSONDecodeError:  # a document over several lines
            row = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(row, list):
            row = row[0] if row else {}
        if not isinstance(row, dict):
            raise ValueError(f"a row is not an object: {str(row)[:80]}")
        return list(row)
