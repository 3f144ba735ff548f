"""Status and notes of runs whose processes ended without recording it, e.g. by `kill -9`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.tracking.journal import DIRECTORY
from hydratune.tracking.notes import NOTE, interrupted_note
from hydratune.tracking.runs_view import PARENT
from hydratune.utils import process
from hydratune.utils.files import CONFIG
from hydratune.utils.provenance import cli_path

if TYPE_CHECKING:
    from mlflow import MlflowClient


def mark_dead_runs_killed(client: MlflowClient) -> list[Any]:
    """Mark runs as KILLED that are RUNNING in the store but whose process is gone, also in their notes; return them."""
    dead = process.mark_dead_runs_killed(client)
    for run in dead:
        tags = run.data.tags
        client.set_tag(run.info.run_id, NOTE, interrupted_note(_resume(tags), tags.get(NOTE, "")))
    return dead


def _resume(tags: dict[str, str]) -> str:
    """Return the command that resumes a run; empty for a sweep and its trials, which their own command resumes."""
    directory = Path(tags.get(DIRECTORY, ""))
    if PARENT in tags or not (directory / CONFIG).is_file():
        return ""
    return shlex.join([cli_path(), "resume", os.path.relpath(directory)])
