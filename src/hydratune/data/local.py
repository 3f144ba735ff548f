"""A user's own files: csv, tsv, json, jsonl, parquet, arrow, text, CoNLL columns and SQuAD's json."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydratune.data.base import SPLITS, Raw, Source
from hydratune.data.formats import FORMATS, SUFFIXES, Format, peek_columns, plain_copy
from hydratune.data.rows import BadRow, mistakes
from hydratune.data.scan import ReadOptions, Scan, codec
from hydratune.data.separated import builder_options, wider
from hydratune.data.streaming import typed
from hydratune.errors import ConfigError, Mistake, did_you_mean, one_line, one_of


@dataclass(kw_only=True)
class LocalFiles(Source):
    """Files on this machine, one or several a split; formats may differ between splits.

    Args:
        files: Split (train, validation, test) -> a path or a list of paths; train is required.
        format: How to read them; null to tell it from their names.
        encoding: Of text files.
        delimiter: The character between the cells of csv and tsv files, e.g. `;`; null for a comma and a tab.
        header: Whether the first row of csv and tsv files names the columns; if not, `columns` takes their positions,
            counted from 0, or `column_names`.
        column_names: Names of the columns, in their order, of csv and tsv files without a header and of CoNLL files.
        comment: Prefix of lines to skip in csv, tsv and CoNLL files, e.g. `#`. Null skips none in csv and tsv files,
            and in CoNLL files the lines before a sentence that start with `#` and have not the columns of a token.
            Empty for no comments.
        quoting: Whether quotes enclose cells of csv and tsv files; false where they are a part of the texts, as in
            GLUE. Null for true in csv files; of tsv files it is told from the file.
        streaming: Read the training files while they are used, and never as a whole.
        shuffle_buffer: How many rows of a stream are held, to draw the next one from; of no use to a task that
            keeps their order.
    """

    files: dict[str, str | list[str] | None] = field(default_factory=dict)
    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    header: bool = True
    column_names: list[str] | None = None
    comment: str | None = None
    quoting: bool | None = None
    streaming: bool = False
    shuffle_buffer: int = 10_000

    def paths(self) -> dict[str, list[Path]]:
        """The files of each split that has any."""
        listed = {split: [given] if isinstance(given, str) else given for split, given in self.files.items()}
        return {split: [Path(p).expanduser() for p in paths] for split, paths in listed.items() if paths}

    def options(self, name: str | None) -> ReadOptions:
        """How files of a format are parsed."""
        theirs = [*self.columns.values(), self.stratify_by_column, self.group_by_column]
        selected = (name for one in theirs for name in (one if isinstance(one, list) else [one]) if name)
        names = tuple(map(str, self.column_names)) if self.column_names else None
        delimiter = "\t" if self.delimiter == r"\t" or (name == "tsv" and not self.delimiter) else self.delimiter
        return ReadOptions(
            self.encoding, delimiter, self.header, names, self.comment, self.quoting, frozenset(selected)
        )

    def check(self) -> Iterator[Mistake]:
        """Adds: unknown splits, formats and encodings, files that do not exist or cannot be read."""
        yield from super().check()
        if self.format is not None and self.format not in FORMATS:
            fix = did_you_mean(self.format, FORMATS, "Leave it out to tell the format from the file's name.")
            yield Mistake("format", one_of(FORMATS), repr(self.format), fix)
            return
        try:
            "".encode(self.encoding)  # codecs such as rot13 are no encodings of text
        except (LookupError, ValueError):
            yield Mistake(
                "encoding", "an encoding that Python knows", repr(self.encoding), "Set dataset.encoding=utf-8."
            )
            return
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
            if len({self._format_of(path) for path in paths}) > 1:
                got = ", ".join(map(str, paths))
                yield Mistake(f"files.{split}", "one format a split", got, "Convert one of them.")
        streamed = {self._format_of(path) for path in self.paths().get("train", ())} if self.streaming else set()
        if converted := [name for name in streamed if name and FORMATS[name].converts]:
            yield Mistake("streaming", "false, since the file is read as a whole", converted[0], "Leave it out.")
        if streamed and self.comment:
            yield Mistake("streaming", "false beside dataset.comment", "true", "Leave it out.")

    def _format_of(self, path: Path) -> str | None:
        return self.format or SUFFIXES.get(path.suffix.lower())

    def _check_file(self, key: str, path: Path) -> Iterator[Mistake]:
        name = self._format_of(path)
        if name is None:
            fix = f"Convert or rename the file, or set dataset.format to {one_of(FORMATS)}."
            yield Mistake(key, f"a file that ends with {one_of(SUFFIXES)}", repr(str(path)), fix)
        elif not path.is_file():
            siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
            fix = did_you_mean(str(path), siblings, f"Paths are read from {Path.cwd()}.")
            yield Mistake(key, "a file that exists", repr(str(path)), fix)
        else:
            try:
                columns = peek_columns(path, name, self.options(name))
            except ConfigError as error:
                yield from (replace(one, key=one.key.removeprefix("dataset.")) for one in error.mistakes)
                return
            except (OSError, ValueError, csv.Error, StopIteration) as error:
                got = f"{str(path)!r}, which is {type(error).__name__}: {error}".rstrip(": ")
                yield Mistake(key, f"a readable {name} file in {self.encoding}", got, "Check the file.")
                return
            repeated = sorted({column for column in columns if columns.count(column) > 1})
            if repeated:
                yield Mistake(key, "different column names", f"{repeated} twice in {path}", "Rename one.")

    def peek(self) -> Mapping[str, Sequence[str]]:
        """The columns of each file."""
        return {
            str(path): peek_columns(path, str(self._format_of(path)), self.options(self._format_of(path)))
            for paths in self.paths().values()
            for path in paths
        }

    def read(self) -> Raw:
        """All rows of the files; cached by `datasets` under the files' names and modification times."""
        from datasets import DatasetDict

        splits, bad, places = DatasetDict(), list[BadRow](), dict[str, list[tuple[Path, Scan | None]]]()
        formats = {split: FORMATS[str(self._format_of(paths[0]))] for split, paths in self.paths().items()}
        for split, paths in self.paths().items():
            if not (self.streaming and split == "train"):
                places[split] = [(path, self._scan(split, path, formats[split])) for path in paths]
        _agree([scan for split, own in places.items() for _, scan in own if scan and formats[split].builder == "csv"])
        for split, paths in self.paths().items():
            if split not in places:
                splits[split] = self._stream(paths, formats[split])
                continue
            own = [
                BadRow(split, None, "", expected, got, fix, _place(path, line))
                for path, scan in places[split]
                for line, expected, got, fix in (scan.bad if scan else ())
            ]
            if own and all(scan is not None and scan.is_empty() for _, scan in places[split]):
                raise ConfigError(*mistakes(own, {split: len(own)}))
            bad += own
            splits[split] = self._load(split, places[split], formats[split])
        return Raw(splits, bad, lambda split, row: _locate(places.get(split, ()), split, row), self.shuffle_buffer)

    def _stream(self, paths: Sequence[Path], known: Format) -> Any:
        """The rows of files, read while they are used."""
        from datasets import load_dataset

        options = dict(known.options) | ({} if known.scan is None else {"encoding": codec(self.encoding)})
        if known.builder == "csv":
            options |= builder_options(paths[0], self.options(self._format_of(paths[0])))
        files = {"train": [str(path.resolve()) for path in paths]}
        stream = load_dataset(known.builder, data_files=files, split="train", streaming=True, **options)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Length of header")  # more cells than names
                return typed(stream)
        except (ValueError, Warning) as error:
            got = f"{', '.join(map(str, paths))}: {one_line(error)}"
            fix = "Mend the file, or set dataset.streaming=false to be told each bad line."
            raise ConfigError(Mistake("dataset.files.train", "readable rows", got, fix)) from error

    def _scan(self, split: str, path: Path, known: Format) -> Scan | None:
        """What reading the file line by line shows; with its rows where a copy is needed."""
        if known.scan is None:
            return None
        try:
            options = self.options(self._format_of(path))
            scan = known.scan(path, options, known.converts)
            again = (scan.bad or scan.copied) and not scan.rows
            return known.scan(path, options, True) if again else scan
        except ConfigError:
            raise
        except (ValueError, csv.Error) as error:
            got = f"{path}: {one_line(error)}"
            raise ConfigError(Mistake(f"dataset.files.{split}", "readable rows", got, "Mend the file.")) from error

    def _load(self, split: str, scanned: Sequence[tuple[Path, Scan | None]], known: Format) -> Any:
        """The rows of one split, without the bad lines."""
        from datasets import Features, Value, concatenate_datasets

        parts = []
        for path, scan in scanned:
            builder, file, options = known.builder, path, dict(known.options)
            if scan is not None and scan.is_empty():
                continue
            if scan is not None and scan.rows:
                builder, file, options = "parquet", _copied(split, path, scan), {}
            elif scan is not None:
                options["encoding"] = codec(self.encoding)
                if builder == "csv":
                    options |= builder_options(path, self.options(self._format_of(path)))
                    options["features"] = Features({name: Value(kind or "string") for name, kind in scan.types.items()})
            parts.append(_loaded(split, path, builder, file, options))
        if not parts:
            got = f"{', '.join(str(path) for path, _ in scanned)}: no data"
            raise ConfigError(Mistake(f"dataset.files.{split}", "readable rows", got, "Add rows."))
        try:
            return parts[0] if len(parts) == 1 else concatenate_datasets(parts)
        except ValueError as error:  # features that do not match
            fix = "Give the files of a split the same columns and types."
            got = f"{', '.join(str(path) for path, _ in scanned)}: {one_line(error)}"
            raise ConfigError(Mistake(f"dataset.files.{split}", "files of one form", got, fix)) from error


def _agree(scans: Sequence[Scan]) -> None:
    """Gives each column of csv one type in all files, so that 1 is no number here and a text there."""
    types: dict[str, str] = {}
    for scan in scans:
        types |= {name: wider(types.get(name, ""), kind) for name, kind in scan.types.items()}
    for scan in scans:
        scan.types = {name: types[name] for name in scan.types}


def _copied(split: str, path: Path, scan: Scan) -> Path:
    """A copy of what a scan kept of the rows of `path`."""
    try:
        return plain_copy(scan)
    except ValueError as error:
        got, fix = f"{path}: {one_line(error)}", "Mend the file: every row needs the same columns and types."
        raise ConfigError(Mistake(f"dataset.files.{split}", "readable rows", got, fix)) from error


def _loaded(split: str, path: Path, builder: str, file: Path, options: Mapping[str, Any]) -> Any:
    """The rows of `file`, which is `path` or a copy of it."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        return load_dataset(builder, data_files={split: [str(file.resolve())]}, split=split, **options)
    except (DatasetGenerationError, ValueError) as error:  # ValueError: a file without a row
        got = f"{path}: {one_line(error.__cause__ or error)}"
        fix = "Mend the file: every row needs the same columns and types."
        raise ConfigError(Mistake(f"dataset.files.{split}", "readable rows", got, fix)) from error


def _locate(scanned: Sequence[tuple[Path, Scan | None]], split: str, row: int) -> str:
    """File and line of a row; its number where the lines are not known."""
    for path, scan in scanned:
        if scan is None or not scan.lines:
            return f"{path}, row {row + 1}" if len(scanned) == 1 else f"row {row + 1} of {split}"
        if row < len(scan.lines):
            return _place(path, scan.lines[row])
        row -= len(scan.lines)
    return f"row {row + 1} of {split}"


def _place(path: Path, line: int) -> str:
    return f"{path}:{line}"
