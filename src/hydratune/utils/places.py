"""Links of a project that lead elsewhere, and which of them the user trusts.

A cloned project can contain links. A command that follows one would read or overwrite files of the user.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.user_records import read_record

RESULTS = ("outputs", "multirun")  # directories of a project for runs, in which configs may place stores
RECORD = "trusted.json"  # path of a list of allowed code, or of a link -> digest of the list, or of the target
trusted_for_this_command: list[bool] = []


def is_trusted(path: Path, names: Sequence[str]) -> bool:
    """Return whether the user trusts the names that a file lists, or the target of a link."""
    return bool(trusted_for_this_command) or recorded().get(str(path)) == digest(names)


def recorded() -> dict[str, str]:
    """Return all trusted lists and links, with their digests."""
    return read_record(RECORD, {})


def digest(names: Sequence[str]) -> str:
    """Return the SHA-256 of a list."""
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def untrusted_link(path: Path) -> Path | None:
    """Return the first link in a path that leads out of its directory and that the user has not trusted, else None.

    A link may lead to a place below its own directory. Links above the working directory, and above a directory for
    results, are the user's own.

    Args:
        path: Path of a file or a directory that need not exist.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 (keeps links)
    for place in reversed([absolute, *absolute.parents]):
        if not place.is_symlink() or not _may_be_of_others(place, absolute):
            continue
        target = Path(os.path.realpath(place))  # `Path.resolve` raises RuntimeError for a loop
        if not target.is_relative_to(os.path.realpath(place.parent)) and not is_trusted(place, [str(target)]):
            return place
    return None


def check_place(key: str, path: Path) -> None:
    """Raise ConfigError if a path leads to another directory by a link that the user has not trusted.

    A command would read or write files of the user there, e.g. in a run of another project.

    Args:
        key: Key that the error names.
        path: Path of a file or a directory that need not exist.
    """
    if Path(os.path.abspath(path)).is_relative_to("/proc"):  # noqa: PTH100 (with links to open files)
        raise ConfigError(Problem(key, f"{KEY} must not be below /proc: {str(path)!r}"))
    if link := untrusted_link(path):
        raise ConfigError(link_problem(key, link))


def link_problem(key: str, link: Path) -> Problem:
    """Return the error for a link that the user has not trusted."""
    target = os.path.realpath(link)
    command = "hydratune trust"
    if link.parent != Path.cwd():
        command = f"cd {shlex.quote(str(link.parent))} && {command}"
    hint = f"run `{command}`" if link.name in RESULTS else f"use {target!r} itself"
    text = f"{os.path.relpath(link)} is a link to {target!r}, which is outside its directory"
    return Problem(key, text, f"if the link is yours, {hint}")


def result_links() -> Iterator[Problem]:
    """Yield an error for each directory for results that is a link out of this project that the user does not trust."""
    links = (untrusted_link(Path.cwd() / folder) for folder in RESULTS)
    yield from (link_problem(link.name, link) for link in links if link)


def _may_be_of_others(place: Path, path: Path) -> bool:
    """Return whether a part of a path may have come with a clone: below the working directory, or with results."""
    folders = [folder for folder in path.parents if folder.name in RESULTS]
    highest = folders[-1] if folders else path
    return place.is_relative_to(Path.cwd()) or place.is_relative_to(highest)
