"""Settings of trackers in the working directory, which may have come with a cloned project.

Clients of trackers, e.g. wandb, read such files. A file can name the server that receives the user's key. They also run
git, which reads the config of the project's repository, and write to directories that the project can replace by links.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from hydratune.config import git_settings
from hydratune.config.typed_settings import REPORTERS
from hydratune.utils import places
from hydratune.utils.errors import KEY, Problem, one_line
from hydratune.utils.files import is_inside, links_outside
from hydratune.utils.stored_files import read_regular

# Tracker -> files that its client reads in the working directory.
_FILES = {
    "codecarbon": (".codecarbon.config",),
    "comet_ml": (".comet.config", ".env"),
    "dvclive": (".dvc/config", ".dvc/config.local"),
    "wandb": ("wandb/settings", ".wandb/settings"),
}
# Tracker -> files and directories that its client writes in the working directory.
_OUTPUTS = {
    "codecarbon": ("emissions.csv",),
    "dvclive": ("dvclive", "dvc.yaml"),
    "swanlab": ("swanlog",),
    "wandb": ("wandb", ".wandb"),
}
_FIXED_NAMES = ("dvclive",)  # directories in which each run writes the same files
_ALL = "all"  # each tracker that is installed
_WITHOUT_GIT = ("none", "tensorboard")
_UNREADABLE = ""


def settings_here() -> dict[Path, list[str]]:
    """Return each file with settings of a tracker or of git in the working directory, with what the user trusts."""
    return {path: [_digest(path)] for path in _files([_ALL])} | _git_settings()


def problems(reporters: Any) -> Iterator[Problem]:
    """Yield an error for each settings file that a tracker would use and that the user has not trusted.

    Links through which a tracker would write elsewhere are errors, too.

    Args:
        reporters: Value of `trainer.args.report_to`: a name or a list of names.
    """
    names = [str(name) for name in ([reporters] if isinstance(reporters, str) else reporters or [])]
    for path in _files(names):
        yield from _distrust(path, [_digest(path)], f"can name the server to which {KEY} sends your key")
    for path, settings in (_git_settings() if {*names} - {*_WITHOUT_GIT} else {}).items():
        keys = one_line(", ".join(text.partition("=")[0] for text in settings), 200)
        yield from _distrust(path, settings, f"can make git, which trackers start, run programs: {keys}")
    for link in _output_links(names):
        text = f"{KEY} would write to {os.path.realpath(link)!r}, because {os.path.relpath(link)} is a link to it"
        yield Problem(REPORTERS, text, "remove the link, or replace it with a directory")


def _distrust(path: Path, settings: list[str], effect: str) -> Iterator[Problem]:
    if settings == [_UNREADABLE] or not places.is_trusted(path, settings):
        file = os.path.relpath(path)
        hint = f"if you trust {file}, run `hydratune trust`; otherwise remove it"
        yield Problem(REPORTERS, f"you have not trusted {file}, which {effect}", hint)


def _files(reporters: Collection[str]) -> Iterator[Path]:
    return (path for name in _names(_FILES, reporters) if os.path.lexists(path := Path.cwd() / name))


def _names(table: dict[str, tuple[str, ...]], reporters: Collection[str]) -> Iterator[str]:
    return (name for tracker, names in table.items() if {tracker, _ALL} & {*reporters} for name in names)


def _output_links(reporters: Collection[str]) -> Iterator[Path]:
    for name in _names(_OUTPUTS, reporters):
        if link := places.untrusted_link(Path.cwd() / name):
            yield link
        elif name in _FIXED_NAMES:
            yield from links_outside(Path.cwd() / name)


def _git_settings() -> dict[Path, list[str]]:
    """Return the settings of each repository that git finds from the working directory, or from a program of it."""
    found: dict[Path, list[str]] = {}
    try:
        root = git_settings.root(Path.cwd())
        program = Path(sys.argv[0]).absolute().parent  # of an environment in the project; clearml looks there
        folders = [Path.cwd(), *([program] if program.is_dir() and is_inside(program, root) else [])]
        for folder in folders:
            git_settings.unsafe_settings(folder, found)
    except TimeoutExpired:
        found[Path.cwd() / ".git"] = [_UNREADABLE]
    except OSError:  # no git: trackers cannot start it either
        return {}
    return {path: settings for path, settings in found.items() if settings}


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or `_UNREADABLE`, e.g. for a pipe, which has no end."""
    try:
        return hashlib.sha256(read_regular(path)).hexdigest()
    except OSError:
        return _UNREADABLE
