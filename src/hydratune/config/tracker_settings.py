"""Settings of trackers in the working directory, which may have come with a cloned project.

Clients of trackers, e.g. wandb, read such files. A file can name the server that receives the user's key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hydratune.utils import places
from hydratune.utils.errors import KEY, Problem
from hydratune.utils.stored_files import read_regular

REPORTERS = "trainer.args.report_to"
# Tracker -> files that its client reads in the working directory.
_FILES = {
    "codecarbon": (".codecarbon.config",),
    "comet_ml": (".comet.config", ".env"),
    "dvclive": (".dvc/config", ".dvc/config.local"),
    "wandb": ("wandb/settings", ".wandb/settings"),
}
_ALL = "all"  # each tracker that is installed
_UNREADABLE = ""


def settings_here(reporters: Collection[str] = (_ALL,)) -> dict[Path, list[str]]:
    """Return each settings file of some trackers in the working directory, with what the user trusts: its digest."""
    files = (name for tracker, names in _FILES.items() if {tracker, _ALL} & {*reporters} for name in names)
    paths = (Path.cwd() / name for name in files)
    return {path: [_digest(path)] for path in paths if os.path.lexists(path)}


def problems(reporters: Any) -> Iterator[Problem]:
    """Yield an error for each settings file that a tracker would read and that the user has not trusted.

    Args:
        reporters: Value of `trainer.args.report_to`: a name or a list of names.
    """
    names = [reporters] if isinstance(reporters, str) else reporters or []
    for path, digest in settings_here([str(name) for name in names]).items():
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
