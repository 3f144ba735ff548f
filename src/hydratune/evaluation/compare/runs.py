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

from hydratune.config import allowlist
from hydratune.config.instantiate import build
from hydratune.tasks.base import Task
from hydratune.tasks.metrics.metric import LOSS, Metric
from hydratune.tracking.client import check_artifact_host
from hydratune.tracking.delivery import pointer
from hydratune.tracking.journal import DIRECTORY
from hydratune.tracking.runs_view import DIRECTION, LOG10, OBJECTIVE
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.files import CONFIG, LABELS, MODEL, PREDICTIONS, PathEscapeError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

log = logging.getLogger(__name__)

FINISHED = "FINISHED"
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
    """

    label: str
    record: MlflowRun
    client: MlflowClient
    directory: Path | None = None

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
        return dict(self.record.data.metrics)

    @property
    def seed(self) -> str:
        """Seed of the weight initialization and the batches; empty if not recorded."""
        return self.params.get("seed", "")

    @property
    def eval_precision(self) -> str:
        """Precision that metrics were computed in; empty if not recorded."""
        return self.params.get("eval_precision") or self.params.get("precision", "")

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
        """Hash of the test rows' content; empty if not recorded."""
        return self.digests.get("test", "")

    @cached_property
    def config(self) -> dict[str, Any]:
        """Resolved config; empty if the run did not write one."""
        import yaml

        return self._parsed(CONFIG, yaml.safe_load, dict) or {}

    @property
    def metric(self) -> str:
        """Metric of the run's objective; empty if unknown."""
        return str(self.config.get("objective", "")).removeprefix("eval_")

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Decoded test rows; empty if the run has none."""
        rows = self._parsed(PREDICTIONS, lambda text: [json.loads(line) for line in text.splitlines()], list) or []
        if not all(isinstance(row, dict) for row in rows):
            raise self._malformed(PREDICTIONS)
        return rows

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
        node = dict(self.config.get("task") or {})
        path = str(node.pop("_target_", ""))
        if allowlist.check_target(path, "task._target_"):
            raise NotComparableError(f"{self.label} has no {CONFIG} with a task of allowed code")
        try:
            task_class = allowlist.load(path, "task._target_")
            if not isinstance(task_class, type) or not issubclass(task_class, Task):
                raise NotComparableError(f"{self.label} has the task {path}, which is not a task class")
            extra_metrics = dict(node.pop("extra_metrics", None) or {})
            if metric not in extra_metrics:
                return task_class(**{**node, "metrics": [metric]})
            return task_class(
                **{**node, "metrics": [], "extra_metrics": {metric: self._extra_metric(metric, extra_metrics[metric])}}
            )
        except (ConfigError, ImportError, TypeError) as error:
            raise NotComparableError(f"the task of {self.label} cannot be built here: {one_line(error)}") from error

    def _extra_metric(self, name: str, node: Any) -> Metric:
        """Build a metric of `task.extra_metrics`; raise NotComparableError if the config has another object there."""
        metric = build(OmegaConf.create({name: node})[name]) if isinstance(node, dict) else None
        if not isinstance(metric, Metric):
            raise NotComparableError(f"{self.label} has {name} in task.extra_metrics, which is not a metric")
        return metric

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
            return (self.directory / path).read_text(encoding="utf-8")
        folder = path.rpartition("/")[0]
        try:
            check_artifact_host(self.record.info.artifact_uri)
        except PathEscapeError as error:
            log.warning("%s: skipped %s among its artifacts: %s", self.label, path, error)
            return None
        if path not in {file.path for file in self.client.list_artifacts(self.id, folder or None)}:
            return None
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with tempfile.TemporaryDirectory() as directory:
            return Path(self.client.download_artifacts(self.id, path, directory)).read_text(encoding="utf-8")


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
    record = client.get_run(run_id)
    recorded_directory = record.data.tags.get(DIRECTORY)
    if folder is None and recorded_directory and (pointer(Path(recorded_directory)) or {}).get("run_id") == run_id:
        folder = Path(recorded_directory)
    return Run(label, record, client, folder)


def letters(count: int) -> list[str]:
    """Return the labels `A`, `B`, ..., `Z`, `AA`, `AB`, ..."""
    alphabet = [chr(ord("A") + i) for i in range(26)]
    labels = [*alphabet, *(first + second for first in alphabet for second in alphabet)]
    return labels[:count]


def measured(runs: Sequence[Run], metric: str) -> str:
    """Return the most informative place where all runs have a metric; empty if there is none."""
    return next((place for place in PLACES if all(f"{place}/{metric}" in run.metrics for run in runs)), "")
