"""Recorded runs for comparisons, with numbers from MLflow and files that are read on first access."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import allowlist
from hydratune.config.instantiate import build
from hydratune.data.eval_sets import sets_of
from hydratune.tasks.base import Task
from hydratune.tasks.metrics.metric import LOSS, Metric
from hydratune.tasks.probabilities import has_valid_probabilities
from hydratune.tracking.client import artifact_repository, local_folder
from hydratune.tracking.delivery import pointer
from hydratune.tracking.journal import DIRECTORY
from hydratune.tracking.runs_view import DIRECTION, LOG10, OBJECTIVE, PARENT
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.files import (
    CONFIG,
    EVALUATION_PREDICTIONS,
    EVALUATIONS,
    LABELS,
    MODEL,
    PREDICTIONS,
    SET,
    PathEscapeError,
    check_links,
    resolve_inside,
)
from hydratune.utils.stored_files import open_stored
from hydratune.utils.yaml_files import parse_plain_config

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

log = logging.getLogger(__name__)

FINISHED = "FINISHED"
EVAL_ON = "eval_on_"  # prefix of the metrics of `hydratune evaluate`, before the name of the evaluation
PLACES = ("test", "best", "eval")  # where a metric was measured, most informative first


class NotComparableError(Exception):
    """Error for a run that cannot be compared, with the reason as a sentence."""


@dataclass(frozen=True)
class Run:
    """A recorded run with its label.

    Args:
        label: Letter that tables and sentences use for the run.
        record: MLflow's record of the run.
        client: Client of the store that the run is in.
        directory: Run directory; None if it is unknown or not on this machine.
        evaluation: Name of an evaluation by `hydratune evaluate` that takes the place of the test split; empty for the
            run's own test split.
    """

    label: str
    record: MlflowRun
    client: MlflowClient
    directory: Path | None = None
    evaluation: str = ""

    @property
    def id(self) -> str:
        """Run id in MLflow."""
        return str(self.record.info.run_id)

    @property
    def name(self) -> str:
        """Run name in MLflow."""
        return str(self.record.info.run_name)

    @property
    def status(self) -> str:
        """RUNNING, FINISHED, FAILED, or KILLED."""
        return str(self.record.info.status)

    @property
    def params(self) -> dict[str, str]:
        """Settings of the run, without the params that only MLflow's charts use."""
        return {name: value for name, value in self.record.data.params.items() if not name.startswith(LOG10)}

    @property
    def metrics(self) -> dict[str, float]:
        """Last value of each metric, e.g. of `test/accuracy`."""
        metrics = dict(self.record.data.metrics)
        if not self.evaluation:
            return metrics
        prefix = f"{EVAL_ON}{self.evaluation}/"
        own = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        return own | {f"test/{key.removeprefix(prefix)}": v for key, v in metrics.items() if key.startswith(prefix)}

    @property
    def seed(self) -> str:
        """Seed of the weight initialization and the batches; empty if not recorded."""
        return self.params.get("seed", "")

    @property
    def eval_precision(self) -> str:
        """Precision that metrics were computed in; empty if not recorded."""
        return self.params.get("eval_precision") or self.params.get("precision", "")

    @property
    def sweep(self) -> Path | None:
        """Directory of the sweep that the run is a trial of, one level above or two with several seeds; else None."""
        parent = self.record.data.tags.get(PARENT)
        folders = [*self.directory.absolute().parents[:2]] if self.directory and parent else []
        return next((folder for folder in folders if (pointer(folder) or {}).get("run_id") == parent), None)

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        """Split -> MLflow's dataset record of its rows."""
        inputs = getattr(self.record.inputs, "dataset_inputs", None) or []
        context_key = "mlflow.data.context"
        return {
            tag.value: dataset_input.dataset
            for dataset_input in inputs
            for tag in dataset_input.tags
            if tag.key == context_key
        }

    @property
    def digests(self) -> dict[str, str]:
        """Split -> hash of its rows' content."""
        return {split: str(dataset.digest) for split, dataset in self._inputs.items()}

    @property
    def row_counts(self) -> dict[str, int]:
        """Split -> number of its rows, for splits with a recorded number."""
        return {split: rows for split, dataset in self._inputs.items() if (rows := _num_rows(dataset.profile))}

    @property
    def test_digest(self) -> str:
        """Hash of the test rows' content, or hashes of all test sets; empty if not recorded."""
        if self.evaluation:
            summary = self._parsed(f"{EVALUATIONS}/{self.evaluation}.json", json.loads, dict) or {}
            return str(summary.get("digest", ""))
        sets = sets_of(self.digests, "test").items()
        return " ".join(f"{name}:{self.digests[split]}" if name else self.digests[split] for name, split in sets)

    @property
    def is_tested(self) -> bool:
        """Whether the run had a test split."""
        return bool(self.test_digest) or any(name.startswith("test/") for name in self.metrics)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Resolved config; empty if the run did not write one."""
        return self._parsed(CONFIG, parse_plain_config, dict) or {}

    @property
    def metric(self) -> str:
        """Metric of the run's objective; empty if unknown."""
        objective = self.config.get("objective")
        return objective.removeprefix("eval_") if isinstance(objective, str) else ""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Decoded test rows; empty if the run has none."""
        path = f"{EVALUATIONS}/{self.evaluation}{EVALUATION_PREDICTIONS}" if self.evaluation else PREDICTIONS
        rows = self._parsed(path, lambda text: [json.loads(line) for line in text.splitlines()], list) or []
        if not all(isinstance(row, dict) and has_valid_probabilities(row) for row in rows):
            raise self._malformed(PREDICTIONS)
        return rows

    @property
    def sets(self) -> list[str]:
        """Names of the test sets that the rows are from; empty for a single set."""
        return [*dict.fromkeys(str(row[SET]) for row in self.rows if SET in row)]

    @cached_property
    def label_names(self) -> list[str]:
        """Label names of the head in the order of their ids; empty if there are none or they were not recorded."""
        if names := self._parsed(LABELS, json.loads, list):
            return [str(name) for name in names]
        path = f"{MODEL}/config.json"
        names_by_id = (self._parsed(path, json.loads, dict) or {}).get("id2label") or {}
        try:
            return [str(names_by_id[number]) for number in sorted(names_by_id, key=int)]
        except (TypeError, ValueError) as error:
            raise self._malformed(path) from error

    def task(self, metric: str) -> Task:
        """Build the task of the run's config with one metric only.

        The config is untrusted. Only a task class on the allow-list is called. Inside it, only the requested metric of
        `extra_metrics` is built, if its function is on the allow-list.

        Raises:
            NotComparableError: If the task or its metric cannot be built on this machine.
        """
        node = self._mapping("task", self.config.get("task"))
        path = str(node.pop("_target_", ""))
        if allowlist.check_target(path, "task._target_"):
            raise NotComparableError(f"{self.label} has no {CONFIG} with a task of allowed code")
        try:
            task_class = allowlist.load(path, "task._target_")
            if not isinstance(task_class, type) or not issubclass(task_class, Task):
                raise NotComparableError(f"{self.label} has the task {path}, which is not a task class")
            extra_metrics = self._mapping("task.extra_metrics", node.pop("extra_metrics", None))
            if metric not in extra_metrics:
                return task_class(**{**node, "metrics": [metric]})
            return task_class(
                **{**node, "metrics": [], "extra_metrics": {metric: self._extra_metric(metric, extra_metrics[metric])}}
            )
        except (ConfigError, ImportError, OmegaConfBaseException, TypeError, ValueError) as error:
            raise NotComparableError(f"the task of {self.label} cannot be built here: {one_line(error)}") from error

    def _mapping(self, key: str, value: Any) -> dict[str, Any]:
        """Return a node of the config; empty for null."""
        if value is not None and not isinstance(value, dict):
            raise NotComparableError(f"{self.label} has {key} in its {CONFIG}, which is not a mapping")
        return dict(value or {})

    def _extra_metric(self, name: str, node: Any) -> Metric:
        """Build a metric of `task.extra_metrics`; raise NotComparableError if the config has another object there."""
        key = f"task.extra_metrics.{name}._target_"
        metric_class = allowlist.load(node.get("_target_"), key) if isinstance(node, dict) else None
        if not isinstance(metric_class, type) or not issubclass(metric_class, Metric):
            raise NotComparableError(f"{self.label} has {name} in task.extra_metrics, which is not a metric")
        metric: Metric = build(OmegaConf.create({name: node})[name])
        return metric

    def score_rows(self, task: Task, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Return the metrics of some of the test rows.

        Raises:
            ConfigError: A row lacks a key or has another value than the task writes.
        """
        try:
            return task.metrics_from_predictions(rows, self.label_names)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._malformed(PREDICTIONS) from error

    def definition(self, metric: str) -> Metric | None:
        """Return direction and range of a metric; None if neither the task nor the recorded objective defines them.

        A direction that was recorded with the objective has priority, since the user may have set `greater_is_better`.
        """
        try:
            metric_definition = self.task(metric).metric(metric)
        except NotComparableError:
            metric_definition = LOSS if metric == LOSS.name else None
        tags = self.record.data.tags
        if tags.get(OBJECTIVE) == f"eval_{metric}" and DIRECTION in tags:
            return replace(metric_definition or Metric(name=metric), higher_is_better=tags[DIRECTION] == "max")
        return metric_definition

    def history(self, metric: str) -> tuple[list[int], list[float]]:
        """Return the steps and values of a metric, in order of steps."""
        points = sorted((point.step, point.value) for point in self.client.get_metric_history(self.id, metric))
        return [step for step, _ in points], [value for _, value in points]

    def _parsed(self, path: str, parse: Callable[[str], Any], kind: type) -> Any:
        """Return the parsed content of a file; None if it is missing or empty.

        Raises:
            ConfigError: The content is not of this kind.
        """
        from yaml import YAMLError

        try:
            text = self._file(path)
            content = parse(text) if text else None
        except (RecursionError, ValueError, YAMLError) as error:
            raise self._malformed(path) from error
        if content is not None and not isinstance(content, kind):
            raise self._malformed(path)
        return content

    def _malformed(self, path: str) -> ConfigError:
        text = f"{path} of run {self.label} ({self.name}) is not what a run writes"
        return ConfigError(Problem("RUN", text, "restore the file, or leave out the run"))

    def _file(self, path: str) -> str | None:
        """Return the text of a file in the run directory, or else in the artifacts; None if neither has it."""
        if self.directory and (self.directory / path).is_file():
            with open_stored(self.directory / path) as file:
                return file.read().decode("utf-8")
        uri, location = self.client.tracking_uri, self.record.info.artifact_uri
        try:
            artifacts = artifact_repository(uri, location)
            if folder := local_folder(location):
                resolve_inside(folder, path)
        except PathEscapeError as error:
            log.warning("%s: skipped %s among its artifacts: %s", self.label, path, error)
            return None
        if path not in {file.path for file in artifacts.list_artifacts(path.rpartition("/")[0] or None)}:
            return None
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with tempfile.TemporaryDirectory() as directory:
            return Path(artifacts.download_artifacts(path, directory)).read_text(encoding="utf-8")


def _num_rows(profile: str | None) -> int:
    """Return the number of rows in the profile of a dataset; 0 if it was not recorded."""
    try:
        return int(json.loads(profile or "{}")["num_rows"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return 0


def open_run(label: str, client: MlflowClient, run_id: str, folder: Path | None) -> Run:
    """Return a run by its id, with `folder` as its directory.

    Without `folder`, the recorded directory is used if it exists on this machine and still holds this run.
    """
    return run_of(label, client.get_run(run_id), client, folder)


def run_of(label: str, record: MlflowRun, client: MlflowClient, folder: Path | None = None) -> Run:
    """Return a run by its record in the store; for the directory, see `open_run`."""
    run_id = record.info.run_id
    recorded_directory = record.data.tags.get(DIRECTORY)
    if folder is None and recorded_directory and (pointer(Path(recorded_directory)) or {}).get("run_id") == run_id:
        folder = Path(recorded_directory)
    if folder is not None:
        check_links(folder)
    return Run(label, record, client, folder)


def letters(count: int) -> list[str]:
    """Return the labels `A`, `B`, ..., `Z`, `AA`, `AB`, ..."""
    alphabet = [chr(ord("A") + i) for i in range(26)]
    labels = [*alphabet, *(first + second for first in alphabet for second in alphabet)]
    return labels[:count]


def measured(runs: Sequence[Run], metric: str) -> str:
    """Return the most informative place where all runs have a metric; empty if there is none."""
    return next((place for place in PLACES if all(f"{place}/{metric}" in run.metrics for run in runs)), "")
