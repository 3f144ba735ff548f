"""Local files: CSV, TSV, JSON, JSONL, Parquet, Arrow, text, CoNLL columns, SQuAD's JSON, and folders of images."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from hydratune.data.columns import ONE_COLUMN, Column, column_name, listing
from hydratune.data.eval_sets import check_sets, flat_sets, kind_of
from hydratune.data.hints import another_delimiter, doubtful_header, misnamed, unreadable
from hydratune.data.open_files import codec, starts_as_utf16
from hydratune.data.paths import PathError, expand, splits_of
from hydratune.data.raw import RawDataset
from hydratune.data.readers.bad_lines import content_problem
from hydratune.data.readers.csv_reader import quotes_fix
from hydratune.data.readers.formats import FORMATS, SEPARATED, peek_columns
from hydratune.data.readers.image_folder import IMAGE_FOLDER
from hydratune.data.readers.json_reader import is_by_columns, is_squad, split_names
from hydratune.data.readers.scan import ReadOptions, Selection
from hydratune.data.reading import DataFile, read_files
from hydratune.data.source import Source
from hydratune.data.source_checks import SPLITS
from hydratune.data.split_column import split_of, unknown_split
from hydratune.utils.errors import (
    KEY,
    NODE,
    ConfigError,
    Problem,
    invalid_value,
    nearest,
    one_of,
    setting,
)
from hydratune.utils.file_suffixes import SUFFIXES, suffix

_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")


@dataclass(kw_only=True)
class LocalFiles(Source):
    """Files on this machine, one or several per split; formats may differ between splits.

    Args:
        files: Split (train, validation, test) -> a path or a list of paths; train is required. A path is literal, and
            `glob:data/*.csv` is a pattern. A folder selects the files directly inside it, or its images, whose
            labels are the names of the folders inside it. For validation and test also a mapping, set -> paths.
        splits: Split -> its name, or a list of names, in a JSON document that is one object of splits: name -> rows.
            A split without files is read from the files of train.
        format: Format of the files; null to infer it from their names.
        encoding: Encoding of text files.
        delimiter: Separator of the cells of csv and tsv files, e.g. `;` or `||`; null for a comma (csv) or a tab (tsv).
        escapechar: Character before a character that is part of the cell in csv and tsv files, e.g. a backslash
            before quotes inside quotes. Null if such quotes are doubled, as in RFC 4180.
        skip_initial_space: Whether to remove spaces after a delimiter from the cells of csv and tsv files.
        max_splits: Maximum number of delimiters per line in csv and tsv files; later ones are part of the last cell.
            For example, 1 for a label and a text with spaces between words. Null for no maximum.
        ignore_extra_cells: Whether to ignore the cells of a row after the last column in csv and tsv files, e.g. the
            licenses of STS-B; otherwise such a row is invalid.
        header: Whether the first row of csv and tsv files names the columns; if not, `columns` takes their positions,
            counted from 0, or the names in `column_names`.
        column_names: Names of the columns, in their order, of csv and tsv files without a header and of CoNLL files.
        comment: Prefix of lines to skip in csv, tsv, and CoNLL files, e.g. `#`. Empty for no comments. Null skips no
            lines in csv and tsv files. In CoNLL files, null skips lines before a sentence that start with `#` and do
            not have the columns of a token.
        quoting: Whether quotes enclose cells of csv and tsv files; false if quotes are part of the texts, as in GLUE.
            Null means true for csv files, and is inferred from the content of tsv files.
        decimal: Decimal separator of numbers that the task reads from csv and tsv files, a point or a comma.
        streaming: Whether to read training files while they are used, and never as a whole.
        shuffle_buffer_size: Number of rows of a stream in the buffer that the next row is drawn from. A task that keeps
            the order of rows ignores it.

    Example:
        >>> [problem.key for problem in LocalFiles(files={"train": "missing.csv"}).check()]
        ['files.train']
    """

    sets_option: ClassVar[str] = "files"

    files: dict[str, str | list[str] | dict[str, str | list[str]] | None] = field(default_factory=dict)
    splits: dict[str, str | list[str] | None] = field(default_factory=dict)
    format: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    escapechar: str | None = None
    skip_initial_space: bool = False
    max_splits: int | None = None
    ignore_extra_cells: bool = False
    header: bool = True
    column_names: list[str] | None = None
    comment: str | None = None
    quoting: bool | None = None
    decimal: Literal[".", ","] = "."
    streaming: bool = False
    shuffle_buffer_size: int = 10_000

    def paths(self) -> dict[str, list[Path]]:
        """Return the files of each split that has any; raise PathError if a path selects no file."""
        return {split: [path for name in names for path in expand(name)] for split, names in self._given().items()}

    def size(self) -> int:
        """Return the number of bytes of all files."""
        return sum(path.stat().st_size for path in {path for paths in self.paths().values() for path in paths})

    def _given(self) -> dict[str, list[str]]:
        all_files = flat_sets(self.files)
        by_split = {split: [paths] if isinstance(paths, str) else paths for split, paths in all_files.items() if paths}
        kinds = {kind_of(split) for split in by_split}
        train = by_split.get("train", [])
        by_split |= {split: train for split in self.splits if self._names(split) and split not in kinds}
        return {split: paths for split, paths in by_split.items() if paths}

    def _selected_by(self, split: str) -> str:
        """Return the option that selects the rows of a split."""
        return f"files.{split}" if flat_sets(self.files).get(split) else f"splits.{split}"

    def _names(self, split: str) -> tuple[str, ...]:
        """Return the names of a split in its files."""
        names = self.splits.get(kind_of(split)) or ()
        return (names,) if isinstance(names, str) else tuple(names)

    def options(self, name: str | None, split: str = "train") -> ReadOptions:
        """Return the options that files of a format are parsed with."""
        settings = [*self.columns.values(), self.stratify_by_column, self.group_by_column, self.split_column or None]
        referenced = (name for setting in settings for name in (setting if isinstance(setting, list) else [setting]))
        selected = frozenset(name for name in referenced if isinstance(name, str))
        names = tuple(map(column_name, self.column_names)) if self.column_names else None
        delimiter = "\t" if self.delimiter == r"\t" or (name == "tsv" and not self.delimiter) else self.delimiter
        splits = self._names(split) if name == "json" else ()
        return ReadOptions(
            encoding=self.encoding,
            delimiter=delimiter,
            header=self.header,
            column_names=names,
            comment=self.comment,
            quoting=self.quoting,
            escapechar=self.escapechar,
            skip_initial_space=self.skip_initial_space,
            max_splits=self.max_splits,
            ignore_extra_cells=self.ignore_extra_cells,
            selected=selected,
            splits=splits,
        )

    def check(self) -> Iterator[Problem]:
        """Add errors for unknown splits, formats, and encodings, and for missing or unreadable files."""
        yield from super().check()
        if self.format is not None and self.format not in FORMATS:
            close = nearest(self.format, FORMATS)
            hint = f"a similar format exists: {KEY}={close}" if close else f"available formats: {', '.join(FORMATS)}"
            yield Problem("format", f"unknown format {self.format!r}", hint)
            return
        try:
            "".encode(self.encoding)  # codecs such as rot13 do not encode text
        except (LookupError, ValueError):
            yield Problem("encoding", f"unknown encoding {self.encoding!r}", f"set {KEY}=utf-8")
            return
        for split in set(self.files) - set(SPLITS):
            yield unknown_split("files", split)
        if not self.files.get("train"):
            yield Problem("files.train", f"{KEY} is required", f"set {KEY}=reviews.csv")
        if set_errors := [*check_sets("files", self.files)]:
            yield from set_errors
            return
        for split, value in flat_sets(self.files).items():
            if not all(isinstance(path, str) for path in (value if isinstance(value, list) else [value or ""])):
                yield invalid_value(f"files.{split}", "a path or a list of paths", repr(value), _quoted(value))
                return
        for split, value in self.splits.items():
            if not all(isinstance(name, str) for name in (value if isinstance(value, list) else [value or ""])):
                yield invalid_value(f"splits.{split}", "a name or a list of names", repr(value), _quoted(value))
                return
        for split in set(self.splits) - set(SPLITS):
            yield unknown_split("splits", split)
        if self.split_column and (other_splits := [split for split in self._given() if split != "train"]):
            key = f"{NODE}{self._selected_by(other_splits[0])}"
            hint = f"set {key}=null to split the training rows\nset {KEY}=false to use the files of each split"
            yield Problem("split_column", f"{KEY} cannot be combined with {key}", hint)
        paths: dict[str, list[Path]] = {}
        for split, names in self._given().items():
            for name in names:
                try:
                    paths.setdefault(split, []).extend(selected_paths := expand(name))
                except PathError as error:
                    yield Problem(f"files.{split}", error.text, error.hint)
                else:
                    yield from _check_one_split(split, name, selected_paths)
        formats = {self._format_of(path) for split_paths in paths.values() for path in split_paths}
        if option_errors := [*self.options(None).check(sorted(name for name in formats if name))]:
            yield from option_errors
            return
        files = ((split, path) for split, split_paths in paths.items() for path in split_paths)
        yield from dict.fromkeys(problem for split, path in files for problem in self._check_file(split, path))
        for split in paths:
            examples = {self._format_of(path): path for path in reversed(paths[split])}  # the first file of each format
            if len(examples) > 1:
                shown = ", ".join(map(str, reversed(examples.values())))
                yield Problem(f"files.{split}", f"{KEY} has files of different formats: {shown}")
        streamed = {self._format_of(path) for path in paths.get("train", ())} if self.streaming else set()
        if documents := [name for name in streamed if name and FORMATS[name].document]:
            yield Problem("streaming", f"{KEY} does not support the format {documents[0]}", f"set {KEY}=false")

    def _format_of(self, path: Path) -> str | None:
        return self.format or (IMAGE_FOLDER if path.is_dir() else SUFFIXES.get(suffix(path)))

    def _check_file(self, split: str, path: Path) -> Iterator[Problem]:
        key, name = f"files.{split}", self._format_of(path)
        if name is None:
            yield _unknown_format(key, path)
        elif split_errors := [*self._check_splits(split, path, name)]:
            yield from split_errors
        else:
            try:
                columns = peek_columns(path, name, self.options(name, split))
            except ConfigError as error:
                problems = [problem.moved("dataset", "") for problem in error.problems]
                yield from (
                    replace(problem, key=key if problem.key == "files" else problem.key) for problem in problems
                )
                return
            except (OSError, ValueError, csv.Error, StopIteration) as error:
                if isinstance(error, ValueError) and codec(self.encoding) == "utf-8-sig" and starts_as_utf16(path):
                    yield Problem("encoding", f"{path} is encoded in UTF-16", f"set {KEY}=utf-16")
                    return
                if isinstance(error, csv.Error) and (problem := another_delimiter(path, self.options(name, split))):
                    yield problem
                    return
                problem = misnamed(path, name, self.encoding) or content_problem(key, path, error)
                if isinstance(error, csv.Error) and not problem.hint:
                    problem = replace(problem, hint=quotes_fix(path, self.options(name, split)))
                yield replace(problem, key=key).moved("dataset", "")
                return
            repeated = sorted({column for column in columns if columns.count(column) > 1})
            if repeated:
                is_table = name in SEPARATED and self.header
                hint = f"rename one, or set {NODE}header=false if the first row is data" if is_table else ""
                yield Problem(key, f"{path} has several columns named {repeated[0]!r}", hint)

    def _check_splits(self, split: str, path: Path, format_name: str) -> Iterator[Problem]:
        """Yield an error for each split name that a file does not have."""
        key, names = f"splits.{kind_of(split)}", self._names(split)
        if names and format_name != "json":
            text = f"{KEY} is only for JSON files, and {path} is a {format_name} file"
            yield Problem(key, text, f"set {KEY}=null")
        elif names:
            present = split_names(path, self.encoding)
            for split_name in (split_name for split_name in names if split_name not in present):
                close = nearest(split_name, present)
                if close:
                    hint = f"a similar split exists: {setting(KEY, close)}"
                else:
                    hint = (
                        f"use {one_of(present)}" if present else f"the file is not an object of splits: set {KEY}=null"
                    )
                yield Problem(key, f"{path} has no split {split_name!r}", hint)

    def _missing(
        self,
        task_columns: Mapping[str, Column],
        present: Sequence[str],
        where: str,
        nested: Sequence[str] | None = None,
    ) -> Iterator[Problem]:
        """Explain missing columns by the form of the file if possible."""
        problems = [*super()._missing(task_columns, present, where, nested)]
        if problems and nested is None and (unlabeled := self._unlabeled(task_columns, present, where, problems)):
            problems = unlabeled
        elif problems and nested is None:
            path, name = Path(where), str(self._format_of(Path(where)))
            try:
                reasons = [*unreadable(path, name, self.options(name), task_columns, self._needed(task_columns))]
            except (OSError, ValueError, csv.Error) as error:  # rows after the first one, e.g. of a corrupt archive
                reasons = [content_problem("files", path, error).moved("dataset", "")]
            problems = [*self._undecided(path, present), *reasons] or problems
        yield from problems

    def _unlabeled(
        self, task_columns: Mapping[str, Column], present: Sequence[str], where: str, problems: Sequence[Problem]
    ) -> list[Problem]:
        """Return errors for a validation or test file that lacks only labels, as test files of competitions do."""
        splits = [split for split, paths in self.paths().items() if Path(where) in paths]
        targets = {f"columns.{name}": name for name, column in task_columns.items() if column.target}
        if "train" in splits or not splits or not all(problem.key in targets for problem in problems):
            return []
        if any(nearest(self._theirs(targets[problem.key]), present) for problem in problems):
            return []
        predict = f"to label it after the run, use hydratune predict RUN {shlex.quote(where)}"
        hint = f"set {NODE}{self._selected_by(splits[0])}=null to train without it\n{predict}"
        return [replace(problem, hint=hint) for problem in problems]

    def _undecided(self, path: Path, present: Sequence[str]) -> Iterator[Problem]:
        """Yield an error for a JSON file with several splits if `splits` does not select one, or if it nests questions.

        Args:
            path: Path of the file.
            present: Names in its first rows.
        """
        if {"context", "qas"} <= {*present}:
            yield Problem("format", f"{path} has the nested format of MRQA", f"set {KEY}=mrqa")
        if self._format_of(path) != "json" or not (names := split_names(path, self.encoding)):
            return
        if is_squad(path, self.encoding):
            splits_hint = f", and leave {NODE}splits empty" if any(map(self._names, self.splits)) else ""
            yield Problem("format", f"{path} has the nested format of SQuAD", f"set {KEY}=squad{splits_hint}")
            return
        for split, paths in self.paths().items():
            if path in paths and not self._names(split):
                match = names[0] if len(names) == 1 else next((name for name in names if split_of(name) == split), None)
                hint = f"set {setting(KEY, match)}" if match else f"set {KEY}=NAME to select one of them"
                yield Problem(f"splits.{kind_of(split)}", f"{path} is an object of splits: {listing(names)}", hint)

    def peek(self) -> Mapping[str, Sequence[str]]:
        """Return the columns of each file, by path."""
        columns: dict[str, list[str]] = {}
        for split, paths in self.paths().items():
            for path in paths:
                name = str(self._format_of(path))
                columns.setdefault(str(path), peek_columns(path, name, self.options(name, split)))
        return columns

    def check_columns(self, wanted: Mapping[str, Column]) -> Iterator[Problem]:
        """Add errors for files with a doubtful header, and explain missing columns by the form of the file."""
        problems = [*self._by_columns(wanted)] or [*super().check_columns(wanted)]
        if not problems:
            for path in self._separated():
                options = self.options(self._format_of(path))
                with suppress(OSError, ValueError, csv.Error):  # reported with its line when all rows are read
                    problems += doubtful_header(path, options, wanted, self._needed(wanted))
        yield from problems

    def _by_columns(self, task_columns: Mapping[str, Column]) -> Iterator[Problem]:
        """Yield an error for each JSON file that is an object of columns instead of rows."""
        names = [str(self._theirs(name)) for name, column in task_columns.items() if column.kind in ONE_COLUMN]
        for split, paths in self.paths().items():
            for path in (path for path in paths if self._format_of(path) in ("json", "jsonl")):
                if is_by_columns(path, self.options("json", split), names):
                    text = f"{path} is one object of columns or numbered rows, not one object per row"
                    hint = "write one object per row, in pandas with to_json(PATH, orient='records', lines=True)"
                    yield Problem(f"files.{split}", text, hint)

    def _separated(self) -> Iterator[Path]:
        """Return the paths of the CSV and TSV files."""
        return (path for paths in self.paths().values() for path in paths if self._format_of(path) in SEPARATED)

    def read(self) -> RawDataset:
        """Return all rows of the files with all columns; cached under a hash of the files' content."""
        return self.read_columns(None)

    def read_columns(
        self, needed: Collection[str] | None, rest: bool = False, kinds: Mapping[str, Collection[str]] | None = None
    ) -> RawDataset:
        """Return the same rows with the needed columns; other columns may differ between rows and files."""
        files = [
            DataFile(split, path, name := str(self._format_of(path)), self.options(name, split))
            for split, paths in self.paths().items()
            for path in paths
        ]
        texts, numbers, ids, references = (
            tuple((kinds or {}).get(kind, ())) for kind in ("text", "number", "label", "references")
        )
        names = None if needed is None else tuple(sorted(needed))
        selection = Selection(names, rest, numbers, ids, decimal=self.decimal, texts=(*texts, *references))
        return read_files(files, selection, ["train"] if self.streaming else [], self.shuffle_buffer_size)


def _check_one_split(split: str, config_path: str, paths: Sequence[Path]) -> Iterator[Problem]:
    """Yield an error if a folder or pattern selects files whose names are those of several splits."""
    paths_by_split = splits_of(paths)
    if len(paths_by_split) > 1:
        text = f"{config_path} selects files of several splits: {', '.join(map(str, paths_by_split.values()))}"
        keys = " ".join(setting(f"{NODE}files.{name}", str(path)) for name, path in paths_by_split.items())
        yield Problem(f"files.{split}", text, f"set {keys}\nset {KEY} to a list of paths to read them as one split")


def _unknown_format(key: str, path: Path) -> Problem:
    """Return the error for a file whose name does not tell its format."""
    if not suffix(path):
        return Problem(key, f"cannot infer the format of {path} from its name", f"set it, e.g. {NODE}format=csv")
    if suffix(path) in _SPREADSHEETS:
        return Problem(key, f"unsupported file type {suffix(path)}: {path}", "export it as CSV")
    hint = f"convert it to CSV or JSON Lines, or set its format, e.g. {NODE}format=csv"
    return Problem(key, f"unsupported file type {suffix(path)}: {path}", hint)


def _quoted(value: Any) -> str:
    """Return the hint for a number where a text is required; empty for other values."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"quote it: {setting(KEY, str(value))}" if is_number else ""
