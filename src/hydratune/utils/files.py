"""Files that are whole or absent: written beside their name, then renamed."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydratune.utils.errors import ConfigError, Mistake

# What a run leaves in its directory, beside `.hydra/`, the log and `mlflow.json`.
CONFIG, METRICS, PREDICTIONS = "config.yaml", "metrics.json", "predictions.jsonl"
GROUP = "group"  # key of a row of PREDICTIONS: rows with the same value belong together
LABELS = "labels.json"  # names, in the order of their ids
CHECKPOINTS, MODEL = "checkpoints", "model"
TRAINING_ARGS = "training_args.json"  # also in MODEL
# For the owner alone: configs, logs and changes of the code can hold what nobody took for a secret.
PRIVATE, PRIVATE_FOLDER = 0o600, 0o700


class PathEscapeError(ValueError):
    """A name of a file that leads out of the folder that it was to be in."""


def resolve_inside(folder: Path, name: str) -> Path:
    """A file or folder below `folder`; raises PathEscapeError for a name that leads elsewhere, by `..` or by a link."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise PathEscapeError(f"{name!r} is not inside {folder}")
    return path


def find_files(directory: Path, name: str) -> Iterator[Path]:
    """Yield the paths of the files of this name below a directory, from which others may remove folders meanwhile."""
    for folder, _, names in os.walk(directory):  # rglob() fails if a folder is removed
        if name in names:
            yield Path(folder, name)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place in one step at the end, or is gone after an error.

    Each writer has one of its own: of two at the same time the last one counts.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces `path` by `text` in one step; a reader never sees half of it."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes one JSON document."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes one JSON document a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def remove_later(folder: Path, seconds: float = 0) -> None:
    """Removes a folder that nobody needs, so much later and beside what comes next; a process that ends waits for it.

    Half a gigabyte that goes away holds up whatever is to be safe on the disk meanwhile.
    """
    remover = threading.Timer(seconds, shutil.rmtree, (folder,), {"ignore_errors": True})
    remover.name = f"remove {folder}"
    remover.start()


def user_file(name: str) -> Path:
    """Return a file of the user's own, outside projects, in which hydratune records what the user trusts."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "hydratune" / name


def check_links(directory: Path) -> None:
    """Return if no symbolic link inside a directory leads out of it.

    The directory of a run or a sweep may have come from someone else. What is written to such a link would overwrite a
    file of the user, and what is read from it would be uploaded with the run.

    Raises:
        ConfigError: One does.
    """
    home = directory.resolve()
    for folder, folders, names in os.walk(home):
        for path in (Path(folder) / name for name in (*folders, *names)):
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                fix = f"Remove {str(path)!r}, or replace it by what it links to if you trust it."
                raise ConfigError(Mistake("RUN", "no links that lead out of its directory", repr(str(path)), fix))


def check_started_here(stored: str, command: str) -> None:
    """Return if the current directory is the one that a run or a sweep has stored, from which its paths count.

    A stored directory is not entered, because someone else may have written it. One that does not exist any more was
    moved, perhaps to here.

    Raises:
        ConfigError: They differ.
    """
    there, here = Path(stored), Path.cwd()
    if there.is_dir() and there.resolve() != here.resolve():
        fix = f"Run it there: cd {shlex.quote(stored)} && {command}"
        raise ConfigError(Mistake("the current directory", f"{stored!r}, where it was started", repr(str(here)), fix))


@contextmanager
def try_lock(directory: Path) -> Iterator[bool]:
    """Whether this process alone works in a directory, until it leaves the context or ends, however it does."""
    with (directory / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def claim_directory(wanted: Path) -> Path:
    """Makes a new directory and returns it: `wanted`, or `wanted-2`, `wanted-3`, ... where others were first."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
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
    """Return the directories `wanted-2`, `wanted-3`, ... that `claim_directory` made, in the order of their numbers."""
    numbers = {path: path.name.removeprefix(f"{wanted.name}-") for path in wanted.parent.glob("*/")}
    numbered = [path for path, number in numbers.items() if number != path.name and number.isdecimal()]
    return sorted(numbered, key=lambda path: int(numbers[path]))
