"""Additional records for a run that has ended, in its existing MLflow run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hydratune.tracking.client import existing
from hydratune.utils import clock
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.provenance import redact
from hydratune.utils.secret_formats import MASK

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
