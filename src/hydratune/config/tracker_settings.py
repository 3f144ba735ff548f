"""Settings of trackers in the working directory, which may have come with a cloned project.

Clients of trackers, e.g. wandb, read such files. A file can name the server that receives the user's key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydratune.utils import places
from hydratune.utils.errors import KEY, Problem
from hydratune.utils.stored_files import read_regular

REPORTERS = "trainer.args.report_to"
# Files that clients of trackers read in the working directory, whichever of them is used.
_FILES = (".codecarbon.config", ".comet.config", ".dvc/config", ".dvc/config.local", ".env", ".neptune/config")
_FOLDERS_OF_WANDB = ("wandb", ".wandb")
_UNREADABLE = ""
_WITHOUT_SETTINGS = ("none", "tensorboard")  # reporters that read no settings


def settings_here() -> dict[Path, list[str]]:
    """Return each settings file of a tracker in the working directory, with what the user trusts: its digest."""
    names = (*_FILES, *(f"{folder}/settings" for folder in _FOLDERS_OF_WANDB))
    paths = (Path.cwd() / name for name in names)
    return {path: [_digest(path)] for path in paths if os.path.lexists(path)}


def problems(reporters: Any) -> Iterator[Problem]:
    """Yield an error for each settings file of a tracker that the user has not trusted, if a tracker is used.

    Args:
        reporters: Value of `trainer.args.report_to`: a name or a list of names.
    """
    names = [reporters] if isinstance(reporters, str) else reporters or []
    if all(name in _WITHOUT_SETTINGS for name in names):
        return
    for path, digest in settings_here().items():
        if digest == [_UNREADABLE] or not places.is_trusted(path, digest):
            file = path.relative_to(Path.cwd())
            text = f"{file} can name the server to which {KEY} sends your key, and you have not trusted it"
            yield Problem(REPORTERS, text, f"if you trust {file}, run `hydratune trust`; otherwise remove it")


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, or `_UNREADABLE`, e.g. for a pipe, which has no end."""
    try:
        return hashlib.sha256(read_regular(path)).hexdigest()
    except OSError:
        return _UNREADABLE
