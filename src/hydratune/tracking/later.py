"""Additional records for a run that has ended, in its existing MLflow run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.tracking.client import artifact_repository, existing
from hydratune.tracking.journal import Journal
from hydratune.tracking.notes import NOTE, OWN_NOTE
from hydratune.utils import clock
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.provenance import redact
from hydratune.utils.secret_patterns import MASK

if TYPE_CHECKING:
    from mlflow import MlflowClient


def log_to_run(
    pointer: Mapping[str, str], metrics: Mapping[str, float] | None = None, tags: Mapping[str, str] | None = None
) -> None:
    """Record metrics and tags in the MLflow run of a pointer; the latest value of a name wins.

    Args:
        pointer: Content of a run's `mlflow.json`.
        metrics: MLflow's names -> values; infinite values are skipped.
        tags: Names -> texts.

    Raises:
        ConfigError: The store or the run does not exist.
    """
    from mlflow.entities import Metric, RunTag

    uri, run_id = pointer["uri"], pointer["run_id"]
    now = clock.milliseconds()
    finite = {name: float(value) for name, value in (metrics or {}).items() if abs(value) != float("inf")}
    points = [Metric(name, value, now, 0) for name, value in finite.items()]
    client = _existing(uri)
    try:
        client.log_batch(run_id, metrics=points, tags=[RunTag(*tag) for tag in (tags or {}).items()])
    except Exception as error:  # each store raises its own kind
        raise _no_run(uri, run_id, error) from error


def replace_note(pointer: Mapping[str, str], directory: Path, change: Callable[[str], str]) -> None:
    """Replace the note of a run that has ended, unless the user has edited it.

    Args:
        pointer: Content of the run's `mlflow.json`.
        directory: Run directory, whose journal has the note that the run wrote.
        change: Function that returns the new note from the one before.

    Raises:
        ConfigError: The store or the run does not exist.
    """
    uri, run_id = pointer["uri"], pointer["run_id"]
    try:
        tags = _existing(uri).get_run(run_id).data.tags
    except Exception as error:  # each store raises its own kind
        raise _no_run(uri, run_id, error) from error
    before = tags.get(NOTE, "")
    if before in (tags.get(OWN_NOTE, ""), _written_note(directory)):
        text = change(before)
        log_to_run(pointer, tags={NOTE: text, OWN_NOTE: text})


def _written_note(directory: Path) -> str:
    """Return the last note that a run wrote; empty without one."""
    texts = [entry.values["tags"].get(NOTE) for entry in Journal(directory).entries(0) if entry.kind == "tags"]
    return next((text for text in reversed(texts) if text), "")


def upload(pointer: Mapping[str, str], paths: Iterable[Path], folder: str) -> None:
    """Upload files to a folder of a run's artifacts, in place of earlier ones.

    Raises:
        ConfigError: The store or the run does not exist, or its artifacts are at a place that is not allowed.
    """
    uri, run_id = pointer["uri"], pointer["run_id"]
    try:
        artifacts = artifact_repository(uri, _existing(uri).get_run(run_id).info.artifact_uri)
        for path in paths:
            artifacts.log_artifact(str(path), folder)
    except Exception as error:  # each store raises its own kind
        raise _no_run(uri, run_id, error) from error


def _no_run(uri: str, run_id: str, error: Exception) -> ConfigError:
    store = f"the MLflow store {redact(uri)!r}"
    if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
        return ConfigError(Problem("RUN", f"no run {run_id} in {store}", "list the runs with `hydratune runs`"))
    return ConfigError(Problem("RUN", f"cannot access the run {run_id} in {store}: {one_line(error, 300)}"))


def _existing(uri: str) -> MlflowClient:
    """Return a client of an existing store; connecting would create a new one of SQLite."""
    if MASK in uri:
        text = f"the run recorded the address of its store without the password: {uri!r}"
        raise ConfigError(Problem("tracking.uri", text))
    return existing(uri, "tracking.uri", "name the run directory, or the store with --uri=ADDRESS")
