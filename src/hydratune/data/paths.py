"""Paths in a config: a file, a folder of files, or a pattern after `glob:`."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydratune.data.readers.image_folder import is_image, is_image_folder
from hydratune.data.split_column import split_of
from hydratune.utils.errors import did_you_mean
from hydratune.utils.file_formats import PATTERN
from hydratune.utils.files import expand_home

# Suffixes of files of rows that are stored next to images.
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".gz", ".bz2", ".xz")


class PathError(ValueError):
    """Error for a path that selects no file.

    Args:
        expected: Description of a valid value.
        got: Description of the invalid value.
        fix: Description of the fix.
    """

    def __init__(self, expected: str, got: str, fix: str) -> None:
        self.expected, self.got, self.fix = expected, got, fix
        super().__init__(f"expected {expected}, got {got}. {fix}")


def expand(given: str) -> list[Path]:
    """Return the files that a path selects, in sorted order.

    Args:
        given: A literal path, in which `*`, `?`, `[ ]` and `::` have no special meaning, or a pattern after `glob:`.
            A folder selects the files directly inside it, without hidden ones, or itself if it holds images.

    Raises:
        PathError: If the file does not exist, the folder holds no data file, or the pattern matches no file.
    """
    if given.startswith(PATTERN):
        return _matches(given)
    path = expand_home(given)
    if path.is_dir():
        return _inside(path)
    if not path.is_file():
        fix = did_you_mean(str(path), _siblings(path), f"Paths are read from {Path.cwd()}.")
        if glob.has_magic(given) and _glob(given):
            fix = f"A path is literal. For a pattern, set it to '{PATTERN}{given}'."
        raise PathError("a file that exists", repr(given), fix)
    return [path]


def splits_of(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the splits that occur in the names of files or of their folders, with the first file of each.

    Files whose names contain no split, or several splits, do not count.
    """
    folders = [path.parent for path in paths]
    base = os.path.commonpath(folders) if folders else ""
    splits: dict[str, Path] = {}
    for path in paths:
        words = re.split(r"[^a-z]+", os.path.relpath(path, base).lower())
        named_splits = {split for word in words if (split := split_of(word))}
        if len(named_splits) == 1:
            splits.setdefault(named_splits.pop(), path)
    return splits


def _matches(pattern: str) -> list[Path]:
    files = [path for path in _glob(pattern.removeprefix(PATTERN)) if path.is_file()]
    if not files:
        raise PathError("a pattern that matches a file", repr(pattern), f"Patterns are matched from {Path.cwd()}.")
    return sorted(files)


def _glob(pattern: str) -> list[Path]:
    matches = glob.glob(str(expand_home(pattern)), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute ones)
    return [Path(match) for match in matches]


def _inside(folder: Path) -> list[Path]:
    if any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        fix = f"Set dataset=saved dataset.path={folder}."
        raise PathError("a folder of data files", f"{str(folder)!r}, which save_to_disk wrote", fix)
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    tables = sorted(path for path in files if path.suffix.lower() in _TABLES)
    if is_image_folder(folder) and not tables:
        return [folder]
    if tables and any(map(is_image, files)):
        fix = f"Name the table: {tables[0]}. It has to hold paths of images from {Path.cwd()}, or absolute ones."
        raise PathError("a folder of data files, or of images by class", f"{str(folder)!r}, which has both", fix)
    if _has_texts_by_class(folder) and not tables:
        fix = "Write the texts, and the names of their folders as labels, into one csv, jsonl or parquet file."
        raise PathError("a folder of data files", f"{str(folder)!r}, which has folders of text files", fix)
    if not files:
        inner_suffix = next(
            (path.suffix for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix), ".csv"
        )
        fix = f"Files in subfolders are not read; for a pattern, set it to '{PATTERN}{folder}/**/*{inner_suffix}'."
        raise PathError("a folder with files", f"{str(folder)!r}, which has no file", fix)
    return sorted(files)


def _has_texts_by_class(folder: Path) -> bool:
    """Return whether a folder holds several folders of text files, one per label, as aclImdb does."""
    classes = [path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.txt"))]
    return len(classes) > 1


def _siblings(path: Path) -> Iterable[str]:
    return map(str, path.parent.iterdir()) if path.parent.is_dir() else ()
