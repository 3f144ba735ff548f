"""Upload of journal entries by calls of `MlflowClient`.

Each call is idempotent, because the process can die between a call and its record. Only the client with an explicit
run ID is used, never the fluent stack of active runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.config import servers
from hydratune.tracking import logged_models
from hydratune.tracking.client import (
    TrackingUnavailableError,
    artifact_repository,
    check_not_deleted,
    experiment_id,
    find_run,
    stored_uri,
)
from hydratune.tracking.entries import Entry, ModelEntry, Point, Registration
from hydratune.tracking.journal import Journal, Sent
from hydratune.tracking.runs_view import PARENT
from hydratune.tracking.sent_state import sent_state
from hydratune.utils import process
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import resolve_inside, write_json
from hydratune.utils.provenance import redact
from hydratune.utils.stored_files import StoredFileError, read_stored

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

POINTER = "mlflow.json"  # file in a run directory: the location of its MLflow run
RUN_KEY = "hydratune.run"  # tag that identifies a run whose ID did not reach our disk
SWEEP = "hydratune.sweep"  # tag of a sweep's runs: the key of the run that they are nested in
_REQUIRED = ("uri", "experiment_id", "run_id")  # keys of the pointer
_TAKEN_OVER = "taken_over"  # in the pointer: the store had the run before this directory was uploaded to it
_OF_AN_END = ("error", process.HEALED)  # tags that are no longer true of a resumed run
_MOST = 100  # params or tags per call


def pointer(directory: Path) -> dict[str, str] | None:
    """Read `mlflow.json`: uri, experiment_id, run_id, and directory; None if no store has the run of a directory.

    The address of a local store is its current one, also if it was moved together with the run.
    """
    try:
        content = read_stored(directory / POINTER, dict[str, str])
    except (OSError, StoredFileError):
        return None
    if not all(content.get(name) for name in _REQUIRED):
        return None
    content["uri"] = stored_uri(content["uri"], content.get("directory", ""), directory)
    return content


def checked_pointer(directory: Path) -> dict[str, str] | None:
    """Read `mlflow.json` like `pointer`, in order to open the store that it names.

    Raises:
        ConfigError: It names a SQLite file elsewhere, which the user has not named.
    """
    run_pointer = pointer(directory)
    if run_pointer and (wrong := servers.stored_problem(run_pointer["uri"], directory, "--uri")):
        raise ConfigError(wrong)
    return run_pointer


class Delivery:
    """Upload of one run's entries to its store.

    Args:
        client: Client of the store.
        uri: Absolute address of the store.
        directory: Run directory.
        registrations: Names and aliases that the user chose for the model. Others are ignored: the journal may be
            someone else's, and could move an alias of the user to another model.
    """

    def __init__(
        self, client: MlflowClient, uri: str, directory: Path, registrations: Collection[Registration] = ()
    ) -> None:
        self.client, self._uri, self._directory = client, uri, directory
        self.registrations = registrations
        self._artifacts: ArtifactRepository | None = None
        self._created = ""  # ID of the run, known before its pointer is written
        self._is_there = False  # whether the store was seen to have the run
        self._deliver: Mapping[str, Callable[..., None]] = {
            "run": self._run,
            "continue": self._continue,
            "params": self._params,
            "tags": self._tags,
            "artifact": self._artifact,
            "dataset": self._dataset,
            "model": self._model,
            "status": self._status,
        }

    def __call__(self, entry: Entry) -> None:
        """Upload any entry except for metrics."""
        self._deliver[entry.kind](**entry.values)

    def metrics(self, points: list[tuple[str, float, int, int]]) -> None:
        """Upload up to 1000 points: name, value, ms since 1970, step; but never a second one at the same step."""
        new = [_metric(*point) for point in points if (point[0], point[3]) not in self._there]
        if new:
            self.client.log_batch(self._run_id, metrics=new)

    def position(self, journal: Journal) -> Sent:
        """Return the position at which the upload continues: after what was sent if this store has it, else the start.

        The store may be another one, a new one, or restored from a backup, and the file with the run's ID may be lost.
        """
        sent = journal.sent()
        if sent.end and not self._is_there:
            run_pointer = pointer(self._directory)
            is_same = run_pointer and run_pointer["uri"] == redact(self._uri) and run_pointer["run_id"] == sent.run_id
            if not (run_pointer and is_same and self._has(run_pointer["run_id"], journal, sent)):
                self.__dict__.pop("_there", None)
                return Sent()
        self._is_there = True
        return sent

    def _has(self, run_id: str, journal: Journal, sent: Sent) -> bool:
        """Return whether the store has a run with all that was sent; a store restored from a backup lacks the rest."""
        run = find_run(self.client, run_id)
        return run is not None and sent_state(journal, sent).is_in(self.client, run)

    def final_status(self) -> tuple[str, int] | None:
        """Return the status and the end in ms since 1970 that the store has of a run; None if it has no end there."""
        run_pointer = pointer(self._directory)
        run = find_run(self.client, run_pointer["run_id"]) if run_pointer else None
        return (run.info.status, run.info.end_time) if run and run.info.end_time else None

    @property
    def run_id(self) -> str:
        """ID of the run in the store, also if the run directory was removed since; empty before it is created."""
        return (pointer(self._directory) or {}).get("run_id", self._created)

    def check_not_deleted(self) -> None:
        """Raise DeletedError if the run or its experiment was deleted, TrackingUnavailableError if the run is gone."""
        if pointer(self._directory):
            self._is_there = find_run(self.client, self._run_id) is not None
            if not self._is_there:
                raise TrackingUnavailableError(f"the store does not have the run {self._run_id} any more")
            check_not_deleted(self.client, self._uri, self._run_id)

    @cached_property
    def _there(self) -> Mapping[tuple[str, int], tuple[str, float, int, int]]:
        """Points by name and step of an earlier process whose files are lost; this process repeats its steps."""
        if _TAKEN_OVER not in self._pointer:
            return {}
        names = self.client.get_run(self._run_id).data.metrics
        points = (point for name in names for point in self.client.get_metric_history(self._run_id, name))
        return {(point.key, point.step): (point.key, point.value, point.timestamp, point.step) for point in points}

    @property
    def _run_id(self) -> str:
        return self._pointer["run_id"]

    @property
    def _pointer(self) -> dict[str, str]:
        run_pointer = pointer(self._directory)
        if run_pointer is None:
            raise RuntimeError(f"{self._directory} has no {POINTER}: its run was not delivered first")
        return run_pointer

    def _run(self, key: str, experiment: str, name: str, tags: dict[str, str], began: int, **_: Any) -> None:
        """Create the run, or continue the one that exists; replace a pointer to another store.

        Values of later versions are ignored, since no other entry can be uploaded without the run.
        """
        number = experiment_id(self.client, self._uri, experiment)
        existing_runs = self.client.search_runs([number], f"tags.`{RUN_KEY}` = '{key}'", max_results=1)
        first_tags = dict(islice(tags.items(), _MOST)) | {RUN_KEY: key}
        runs = existing_runs or [self.client.create_run(number, start_time=began, run_name=name, tags=first_tags)]
        self._created = runs[0].info.run_id
        run_pointer = {"uri": redact(self._uri), "experiment_id": number, "run_id": self._created}
        run_pointer["directory"] = str(self._directory.absolute())
        if existing_runs:  # perhaps from a machine that is gone
            run_pointer[_TAKEN_OVER] = "yes"
        write_json(self._directory / POINTER, run_pointer)
        if existing_runs:
            self._continue(tags)
        self._nest(number, self._created, key, tags.get(SWEEP))

    def _nest(self, number: str, run_id: str, key: str, sweep: str | None) -> None:
        """Nest a sweep's run below the sweep, whichever of them the store had first."""
        if sweep:
            for parent in self.client.search_runs([number], f"tags.`{RUN_KEY}` = '{sweep}'", max_results=1):
                self.client.set_tag(run_id, PARENT, parent.info.run_id)
        for child in self.client.search_runs([number], f"tags.`{SWEEP}` = '{key}'"):
            self.client.set_tag(child.info.run_id, PARENT, run_id)

    def _continue(self, tags: dict[str, str]) -> None:
        self.client.update_run(self._run_id, status="RUNNING")
        self._forget(_OF_AN_END)
        self._tags(tags)

    def _forget(self, tags: Iterable[str]) -> None:
        for stale_tag in {*tags} & {*self.client.get_run(self._run_id).data.tags}:
            self.client.delete_tag(self._run_id, stale_tag)

    def _params(self, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        for part in _parts(params):
            self.client.log_batch(self._run_id, params=[Param(*item) for item in part.items()])

    def _tags(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        for part in _parts(tags):
            self.client.log_batch(self._run_id, tags=[RunTag(*item) for item in part.items()])

    def _artifact(self, path: str, folder: str) -> None:
        if self._artifacts is None:
            self._artifacts = artifact_repository(self._uri, self.client.get_run(self._run_id).info.artifact_uri)
        self._artifacts.log_artifact(str(resolve_inside(self._directory, path)), folder or None)

    def _dataset(self, split: str, name: str, digest: str, source: str, rows: int | None, columns: Any) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        profile = json.dumps({"num_rows": rows, "split": split})
        schema = json.dumps({"mlflow_colspec": [{"name": key, "type": kind} for key, kind in columns.items()]})
        dataset = Dataset(name, digest, "local", source, schema=schema, profile=profile)
        self.client.log_inputs(self._run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", split)])])

    def _model(self, **model: Any) -> None:
        run_pointer, model_entry = self._pointer, ModelEntry(**model)
        points = [Point(*self._there.get((point[0], point[3]), point)) for point in model_entry.metrics]
        model_entry = replace(model_entry, metrics=points)
        if model_entry.registration not in self.registrations:
            model_entry = replace(model_entry, registered_name=None, alias=None)
        logged_models.record(
            self.client, self._uri, run_pointer["experiment_id"], run_pointer["run_id"], self._directory, model_entry
        )

    def _status(self, status: str, ended: int) -> None:
        self._forget((process.HEALED,))  # it had ended, but the end was not uploaded
        self.client.set_terminated(self._run_id, status, ended)


def _metric(name: str, value: float, timestamp: int, step: int) -> Metric:
    from mlflow.entities import Metric

    return Metric(name, value, timestamp, step)


def _parts(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Split values into parts that one call each can take."""
    items = list(values.items())
    return [dict(items[start : start + _MOST]) for start in range(0, len(items), _MOST)]
