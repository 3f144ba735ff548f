"""Folders of configs outside the project that the user has typed.

A run, a sweep, or a config file can come from someone else and name a folder. Its YAML files, e.g. with credentials,
would be read and recorded. So a folder outside the working directory counts only if the user has typed it, now or
earlier. Typed folders are recorded in a file of the user.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydratune.utils.errors import KEY, Problem
from hydratune.utils.files import expand_home, is_inside
from hydratune.utils.places import check_place
from hydratune.utils.user_records import read_record, write_record

_FLAGS = ("--config-dir", "-cd", "--config-path", "-cp")
_SEARCH_PATH = re.compile(r"[+]*hydra\.searchpath=(.*)", re.DOTALL)
_ENTRIES = re.compile(r"[^\[\],'\"]+")
_RECORD = "config_folders.json"
_typed: set[str] = set()  # of this process, in case that the user's file cannot be written


def record_typed(arguments: Sequence[str]) -> None:
    """Record the folders among the arguments of a command that are outside the working directory.

    Raises:
        ConfigError: A folder is a link of the project that leads elsewhere, which the user may not know.
    """
    for text in _folder_names(arguments):
        check_place("--config-dir", expand_home(text))
    folders = {str(path) for text in _folder_names(arguments) if not _is_own(path := _resolved(text))}
    if new_folders := folders - _recorded():
        _typed.update(new_folders)
        with contextlib.suppress(OSError):  # e.g. no home directory: the folders count for this command only
            write_record(_RECORD, sorted(_recorded()))


def problems(folders: Mapping[str, str | Path | None]) -> Iterator[Problem]:
    """Yield an error for each folder outside the working directory that the user has not typed.

    Args:
        folders: Flag or key -> folder that a run, a sweep, or a config file names.
    """
    for key, folder in folders.items():
        if folder and not _is_own(_resolved(str(folder))) and str(_resolved(str(folder))) not in _recorded():
            text = f"{KEY} names a folder outside the working directory that you have not typed: {str(folder)!r}"
            hint = f"if you trust it, type it once: hydratune configs --config-dir {shlex.quote(str(folder))}"
            yield Problem(key, text, hint)


def _folder_names(arguments: Sequence[str]) -> Iterator[str]:
    for i, text in enumerate(arguments):
        flag, equals, value = text.partition("=")
        if flag in _FLAGS:
            yield from [value] if equals else arguments[i + 1 : i + 2]
        elif match := _SEARCH_PATH.fullmatch(text):
            yield from (entry.strip().removeprefix("file://") for entry in _ENTRIES.findall(match[1]))


def _resolved(folder: str) -> Path:
    return expand_home(folder).resolve()


def _is_own(folder: Path) -> bool:
    return is_inside(folder, Path.cwd())


def _recorded() -> set[str]:
    return {*read_record(_RECORD, []), *_typed}
