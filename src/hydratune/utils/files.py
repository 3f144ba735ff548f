"""Atomic writes, directories of runs, locks, and checks of links.

All files of projects are written and removed by functions of this module, which follow no link that leads elsewhere and
that the user has not trusted; see `check_place`.

A file is written under a temporary name in its folder and then renamed, so that readers see all of it or nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hydratune.utils.atomic import replaced
from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.places import check_place

if TYPE_CHECKING:
    from filelock import FileLock

# Files in a run directory, in addition to `.hydra/`, the log, and `mlflow.json`.
CONFIG, METRICS, PREDICTIONS = "config.yaml", "metrics.json", "predictions.jsonl"
OVERRIDES = "overrides.yaml"  # as they were typed; also in `.hydra/`, but for trials
GROUP = "group"  # key of a row of PREDICTIONS: rows with the same value belong together
ROW = "row"  # key of a row of PREDICTIONS: its position in the files of its split, from 0
SET = "set"  # key of a row of PREDICTIONS: the name of its test set, if there are several
SPLIT = "split"  # key of a row of OUT_OF_FOLD: the split that the row was read from
OUT_OF_FOLD = "out_of_fold.jsonl"  # predictions for the rows of a fold, or for those of all folds
LABELS = "labels.json"  # names of labels, in the order of their IDs
EVALUATIONS, EVALUATION_PREDICTIONS = "evaluations", ".predictions.jsonl"  # a folder; the end of its files' names
CHECKPOINTS, MODEL = "checkpoints", "model"
PLAN = "sweep.json"  # in the directory of a sweep
LOCK = ".lock"  # held by the process that works in the directory
TRAINING_ARGS = "training_args.json"  # also in MODEL
# Permissions for the owner alone: configs, logs, and code changes can hold secrets that nobody recognized.
PRIVATE, PRIVATE_FOLDER = 0o600, 0o700


class PathEscapeError(ValueError):
    """Error for a file name that leads out of its folder."""


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether a path is a folder or below it, after all links and `..` are followed."""
    return path.resolve().is_relative_to(folder.resolve())


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the path of a file or folder below `folder`.

    Raises:
        PathEscapeError: The name leads elsewhere, by `..` or by a link.
    """
    path = folder / name
    if not is_inside(path, folder):
        raise PathEscapeError(f"{name!r} is not inside {folder}")
    return path


def expand_home(path: str) -> Path:
    """Return a path with `~` and `~user` replaced by home directories; without such a user, `~x.csv` is a file."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises RuntimeError without such a user)


def find_files(directory: Path, name: str) -> Iterator[Path]:
    """Yield the paths of all files called `name` below a directory, from which others may remove folders meanwhile."""
    for folder, _, names in os.walk(directory):  # rglob() fails if a folder is removed
        if name in names:
            yield Path(folder, name)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` in one step at the end, or is removed after an error.

    Each writer has its own temporary path. Of two simultaneous writers, the last one wins.
    """
    check_place(path.name, path.parent)
    with replaced(path) as temp_path:
        yield temp_path


def make_directory(path: Path, mode: int = 0o777, *, parents: bool = True) -> None:
    """Create a directory and its parents, unless it exists."""
    check_place(path.name, path)
    path.mkdir(mode, parents=parents, exist_ok=True)


def open_for_appending(path: Path) -> BinaryIO:
    """Open a file, at whose end bytes are written."""
    check_place(path.name, path)
    return path.open("ab")


def create_private(path: Path) -> None:
    """Create an empty file that only its owner can read, unless it exists."""
    check_place(path.name, path)
    path.touch(PRIVATE)


def remove_file(path: Path) -> None:
    """Remove a file or a link, if it exists."""
    check_place(path.name, path.parent)
    path.unlink(missing_ok=True)


def remove_tree(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a directory with all files; links inside it are removed, and not followed."""
    check_place(path.name, path)
    shutil.rmtree(path, ignore_errors=ignore_errors)


def link_or_copy(source: Path, target: Path) -> None:
    """Create a hard link to a file, or copy the file if the file system has no links."""
    check_place(target.name, target)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def file_lock(path: Path, **options: Any) -> FileLock:
    """Return a lock on a file; `options` are those of `FileLock`."""
    from filelock import FileLock

    check_place(path.name, path)
    return FileLock(path, **options)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with `text` in one step, so that a reader never sees a partial file."""
    with atomic_write(path) as temp_path:
        temp_path.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as one JSON document."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON document per line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def remove_later(folder: Path, seconds: float = 0) -> None:
    """Remove a folder after a delay, in a thread; a process that ends waits for the thread.

    Removing half a gigabyte would delay whatever else must be written to the disk at that time.
    """
    remover = threading.Timer(seconds, remove_tree, (folder,), {"ignore_errors": True})
    remover.name = f"remove {folder}"
    remover.start()


def directory_not_found(key: str, path: Path | str) -> Problem:
    """Return the error for a directory that does not exist."""
    start = "" if Path(path).is_absolute() else f" (working directory: {Path.cwd()})"
    return Problem(key, f"directory not found: {str(path)!r}{start}")


def not_a_run(directory: Path, *missing: str) -> Problem:
    """Return the error for a directory that does not exist, or that lacks files which every run has."""
    hint = "list the runs with `hydratune runs`"
    if not directory.exists():
        return Problem("RUN", f"no such run: {str(directory)!r}", hint)
    return Problem("RUN", f"{str(directory)!r} is not a run directory: it has no {', '.join(missing)}", hint)


def check_links(directory: Path) -> None:
    """Raise ConfigError if a symbolic link inside a directory leads out of it.

    The directory of a run or a sweep may have come from someone else. Writing to such a link would overwrite a file of
    the user, and what is read from it would be uploaded with the run.

    Raises:
        ConfigError: A link leads out of the directory.
    """
    for path in links_outside(directory):
        text = f"the link {str(path)!r} leads out of the directory {str(directory)!r}"
        hint = "remove the link; if you trust it, replace it with a copy of its target"
        raise ConfigError(Problem("RUN", text, hint))


def links_outside(directory: Path, *allowed: Path) -> Iterator[Path]:
    """Yield each symbolic link inside a directory that leads neither into it nor into one of `allowed`."""
    for folder, folders, names in os.walk(directory):
        for path in (Path(folder) / name for name in (*folders, *names)):
            if path.is_symlink() and not any(is_inside(path, root) for root in (directory, *allowed)):
                yield path


def check_started_here(stored: str, command: str) -> None:
    """Raise ConfigError unless the current directory is the one that a run or a sweep has stored.

    Paths of the run count from the stored directory. hydratune does not change to it, because someone else may have
    written it. A stored directory that no longer exists was moved, perhaps to the current one.

    Raises:
        ConfigError: The directories differ.
    """
    stored_directory, cwd = Path(stored), Path.cwd()
    if stored_directory.is_dir() and stored_directory.resolve() != cwd.resolve():
        text = f"{KEY} is {str(cwd)!r}, but the run was started in {stored!r}"
        hint = f"run the command there: cd {shlex.quote(stored)} && {command}"
        raise ConfigError(Problem("the current directory", text, hint))


@contextmanager
def try_lock(directory: Path) -> Iterator[bool]:
    """Yield whether this process alone works in a directory; the lock ends with the context or the process."""
    check_place(LOCK, directory)
    # The directory may come from someone else: O_NOFOLLOW creates no file elsewhere, and O_RDWR waits for no pipe.
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def claim_directory(wanted: Path) -> Path:
    """Create a new directory and return it: `wanted`, or `wanted-2`, `wanted-3`, ... if others exist already."""
    make_directory(wanted.parent)
    number = 1
    while True:
        candidate = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            candidate.mkdir(PRIVATE_FOLDER)
        except FileExistsError:
            number += 1
        else:
            return candidate


def numbered_directories(wanted: Path) -> list[Path]:
    """Return the directories `wanted-2`, `wanted-3`, ... that `claim_directory` created, ordered by their numbers."""
    numbers = {path: path.name.removeprefix(f"{wanted.name}-") for path in wanted.parent.glob("*/")}
    numbered = [path for path, number in numbers.items() if number != path.name and number.isdecimal()]
    return sorted(numbered, key=lambda path: int(numbers[path]))
