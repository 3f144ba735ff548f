"""Paths in a config: a file, a folder of files, or a pattern after `glob:`."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from hydratune.data.readers.image_folder import is_image, is_image_folder
from hydratune.data.split_column import split_of
from hydratune.utils.errors import nearest
from hydratune.utils.file_suffixes import PATTERN
from hydratune.utils.files import expand_home, is_inside

# Suffixes of files of rows that are stored next to images.
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".gz", ".bz2", ".xz")
_LEVELS = 2  # directories above the working directory in which a missing file is searched


class PathError(ValueError):
    """Error for a path that selects no file.

    Attributes:
        text: What is wrong with the path.
        hint: How to fix it.
    """

    def __init__(self, text: str, hint: str = "") -> None:
        self.text, self.hint = text, hint
        super().__init__(text)


def expand(given: str) -> list[Path]:
    """Return the files that a path selects, in sorted order.

    Args:
        given: A literal path, in which `*`, `?`, `[ ]` and `::` have no special meaning, or a pattern after `glob:`.
            A folder selects the files directly inside it, without hidden ones, or itself if it holds images.

    Raises:
        PathError: If the file does not exist, the folder holds no data file, or the pattern matches no file. Also if
            one of several files is a link that leads elsewhere.
    """
    if given.startswith(PATTERN):
        return _matches(given)
    path = expand_home(given)
    if path.is_dir():
        return _inside(path)
    if not path.is_file():
        hint = f"a similar file exists: {close}" if (close := _similar(path)) else ""
        if glob.has_magic(given) and _glob(given):
            hint = f"for a pattern, use '{PATTERN}{given}'"
        raise PathError(f"file not found: {given}{_directory(path)}", hint)
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
    plain_pattern = pattern.removeprefix(PATTERN)
    files = sorted(path for path in _glob(plain_pattern) if path.is_file())
    if not files:
        raise PathError(f"no file matches {pattern}{_directory(Path(plain_pattern))}")
    names = itertools.takewhile(lambda name: not glob.has_magic(name), Path(plain_pattern).parts)
    _check_links(files, expand_home(str(Path(*names))))
    return files


def _check_links(files: Iterable[Path], folder: Path) -> None:
    """Raise PathError for a file that a link takes out of both a folder and the working directory.

    The files may have come with a repository, whose author could have another file of the user read as rows, which
    are recorded.
    """
    for path in files:
        if not any(is_inside(path, root) for root in (folder, Path.cwd())):
            text = f"{path} is behind a link that leads out of {folder} and of the working directory: {path.resolve()}"
            raise PathError(text, f"if you trust the link, name the file itself: {path}")


def _directory(path: Path) -> str:
    """Return the directory that a relative path starts from, for a message; empty for an absolute path."""
    return "" if path.is_absolute() else f" (working directory: {Path.cwd()})"


def _glob(pattern: str) -> list[Path]:
    matches = glob.glob(str(expand_home(pattern)), recursive=True)  # noqa: PTH207 (Path.glob takes no absolute ones)
    return [Path(match) for match in matches]


def _inside(folder: Path) -> list[Path]:
    if any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        hint = f"set dataset=saved dataset.path={folder}"
        raise PathError(f"{folder} is a dataset that save_to_disk wrote, not a folder of data files", hint)
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    tables = sorted(path for path in files if path.suffix.lower() in _TABLES)
    if is_image_folder(folder) and not tables:
        return [folder]
    _check_links(files, folder)
    if tables and any(map(is_image, files)):
        hint = f"select the table: {tables[0]}, with paths of images that are absolute or relative to {Path.cwd()}"
        raise PathError(f"{folder} has both images and tables", hint)
    if _has_texts_by_class(folder) and not tables:
        hint = "write the texts, and the names of their folders as labels, to one csv, jsonl, or parquet file"
        raise PathError(f"{folder} has a folder of text files for each class", hint)
    if not files:
        suffixes = (path.suffix for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix)
        inner_suffix = next(suffixes, "")
        hint = f"for the files in its subfolders, use '{PATTERN}{folder}/**/*{inner_suffix}'" if inner_suffix else ""
        raise PathError(f"{folder} has no files", hint)
    return sorted(files)


def _has_texts_by_class(folder: Path) -> bool:
    """Return whether a folder holds several folders of text files, one per label, as aclImdb does."""
    classes = [path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.txt"))]
    return len(classes) > 1


def _similar(path: Path) -> Path | None:
    """Return the file with this path from another directory, or else the similar file in the same directory.

    A similar file has a similar name without suffixes, at best with the same suffix.
    """
    if same_name := _same_name_elsewhere(path):
        return same_name
    siblings = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    siblings.sort(key=lambda sibling: sibling.suffix == path.suffix)  # of equal names, the last one counts
    by_name = {sibling.name.partition(".")[0]: sibling for sibling in siblings if sibling.is_file()}
    close = nearest(path.name.partition(".")[0], by_name)
    return by_name[close] if close else None


def _same_name_elsewhere(path: Path) -> Path | None:
    """Return the file that a relative path selects from a directory above or below the working directory."""
    if path.is_absolute():
        return None
    above = (Path(*[".."] * levels, path) for levels in range(1, _LEVELS + 1))
    with suppress(OSError):  # a directory that the user may not read
        below = [folder / path for folder in sorted(Path().iterdir()) if folder.is_dir() and folder.name[0] != "."]
        return next((other for other in (*above, *below) if other.is_file()), None)
    return None
