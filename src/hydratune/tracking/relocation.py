"""Local MLflow stores whose project directory was moved or renamed: MLflow keeps absolute paths only."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

log = logging.getLogger(__name__)

ARTIFACTS = "mlartifacts"  # the folder next to a local store that holds its artifacts
# Table, column, and condition of the rows for each place in MLflow's schema that holds the address of artifacts.
COLUMNS = (
    ("experiments", "artifact_location", "TRUE"),
    ("runs", "artifact_uri", "TRUE"),
    ("logged_models", "artifact_location", "TRUE"),
    ("model_versions", "source", "TRUE"),
    ("model_versions", "storage_location", "TRUE"),
    ("trace_tags", "value", "key IN ('mlflow.artifactLocation', 'mlflow.trace.archiveLocation')"),
    ("workspaces", "default_artifact_root", "TRUE"),
    ("workspaces", "trace_archival_location", "TRUE"),
)
_BUSY_SECONDS = 120.0  # how long SQLite waits for another process that writes


def relocate_artifacts(database: Path) -> None:
    """Point a SQLite store at the artifacts next to it after its directory was moved.

    MLflow stores absolute artifact addresses and would create the old directory again to write there. Only addresses
    that `client.experiment_id` chose are changed, and only if the old folder is gone or the artifacts moved along.

    Args:
        database: The SQLite file, with MLflow's schema.
    """
    folder = database.parent / ARTIFACTS
    new_root = f"{folder.as_uri()}/"
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
        locations = [str(row[0]) for row in connection.execute("SELECT artifact_location FROM experiments")]
        roots = {
            before + between for before, between, _ in (location.rpartition(f"/{ARTIFACTS}/") for location in locations)
        }
        for old_root in sorted(roots - {"", new_root}):
            if folder.is_dir() or not Path(unquote(urlsplit(old_root).path)).is_dir():
                for table, column, condition in COLUMNS:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 (constants)
                        f"WHERE {condition} AND substr({column}, 1, ?) = ?",
                        (new_root, len(old_root) + 1, len(old_root), old_root),
                    )
                log.warning("tracking: the MLflow store was moved; its artifacts are now read from %s", folder)


def relocated(path: Path, directory_before: str, directory: Path) -> Path:
    """Return where a file is after a run directory and everything around it was moved.

    Args:
        path: The file's absolute path, as it was recorded.
        directory_before: The run directory's absolute path at that time; empty if unknown.
        directory: The run directory now.

    Returns:
        `path` if it exists, or if the same place relative to the run directory has no such file.
    """
    if path.exists() or not directory_before:
        return path
    moved = Path(os.path.normpath(directory.absolute() / os.path.relpath(path, directory_before)))
    return moved if moved.exists() else path
