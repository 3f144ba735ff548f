"""One MLflow run a run, told the truth.

The stock `MLflowCallback` opens a second run on `evaluate()`, floods the params and marks crashes FINISHED.
This uses `MlflowClient` with an explicit run id throughout, never the fluent stack of active runs.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.errors import Mistake, did_you_mean, one_of
from hydratune.provenance import console_script, redact
from hydratune.tracking import store
from hydratune.tracking.base import Facts, RunLog, Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from transformers import TrainerCallback

log = logging.getLogger(__name__)

POINTER = "mlflow.json"  # in a run's directory: where its MLflow run is
FLUSH_SECONDS = 2.0
FLUSH_POINTS = 200
_PREFIXES = ("eval", "test", "train")


def readable(name: str) -> str:
    """Trainer's name of a metric as MLflow shows it: `eval_f1` -> `eval/f1`, `loss` -> `train/loss`."""
    if name == "train_loss":  # Trainer's mean over the whole run, which is no point of the curve
        return "train/mean_loss"
    prefix, _, rest = name.partition("_")
    return f"{prefix}/{rest}" if prefix in _PREFIXES and rest else f"train/{name}"


@dataclass(kw_only=True)
class Mlflow(Tracking):
    """Records runs in an MLflow store.

    Args:
        uri: A store's address; a relative sqlite path counts from where the command was started.
        experiment: The MLflow experiment that runs are compared in.
        run_name: null for a name made of what was chosen.
        tags: More tags for the run.
    """

    uri: str = "sqlite:///outputs/mlflow.db"
    experiment: str = "hydratune"
    run_name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def check(self) -> Iterator[Mistake]:
        """Whether the address is of a kind that MLflow has, and no directory where a file should be."""
        scheme = store.scheme(self.uri)
        if scheme not in store.SCHEMES:
            expected = f"an address that starts with {one_of(store.SCHEMES)}"
            fix = did_you_mean(scheme, store.SCHEMES, "Set tracking.uri=sqlite:///outputs/mlflow.db.")
            yield Mistake("uri", expected, repr(self.uri), fix)
        if not self.experiment:
            yield Mistake("experiment", "a name", "''", "Leave it out to take the dataset's.")
        path = store.sqlite_path(store.absolute_uri(self.uri))
        if path is not None and path.is_dir():
            fix = f"Set tracking.uri={self.uri.rstrip('/')}/mlflow.db."
            yield Mistake("uri", "the path of a database file", f"the directory {str(path)!r}", fix)

    @contextmanager
    def start(self, facts: Facts) -> Iterator[RunLog]:
        """A run that ends FINISHED, FAILED by an exception, or KILLED by Ctrl-C."""
        uri = store.absolute_uri(self.uri)
        client = store.connect(uri)
        experiment = store.experiment_id(client, uri, self.experiment)
        name = self.run_name or facts.name
        tags = {**facts.tags, **{key: str(value) for key, value in self.tags.items()}}
        run = client.create_run(experiment, run_name=name, tags=tags)
        pointer = {"uri": redact(uri), "experiment_id": experiment, "run_id": run.info.run_id}
        (facts.directory / POINTER).write_text(json.dumps(pointer, indent=2) + "\n", encoding="utf-8")
        run_log = MlflowRunLog(client, run.info.run_id, facts.directory)
        status = "FAILED"
        try:
            run_log.params(facts.params)
            yield run_log
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        finally:
            run_log.close(status)


class MlflowRunLog(RunLog):
    """Buffers metric points and sends them every 2 s, at 200 points, on evaluation and at the end."""

    def __init__(self, client: MlflowClient, run_id: str, directory: Path) -> None:
        self._client, self._run_id, self._directory = client, run_id, directory
        self._points: list[Any] = []
        self._sent = time.monotonic()
        self._broken = False

    def callbacks(self) -> list[TrainerCallback]:
        """Forwards what Trainer logs."""
        from hydratune.tracking.callback import ForwardLogs

        return [ForwardLogs(self)]

    def params(self, params: Mapping[str, object]) -> None:
        """Records the params in one batch."""
        from mlflow.entities import Param

        self._try(self._client.log_batch, self._run_id, params=[Param(k, str(v)) for k, v in params.items()])

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Buffers the numbers among `values`; others, and infinities, which MLflow cannot store, are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in values.items():
            if isinstance(value, int | float) and abs(value) != float("inf"):
                self._points.append(Metric(readable(name), float(value), now, step))
        evaluated = any(name.startswith(("eval_", "test_")) for name in values)
        late = time.monotonic() - self._sent > FLUSH_SECONDS
        if not self._broken and (evaluated or late or len(self._points) >= FLUSH_POINTS):
            self.flush()

    def artifact(self, path: Path) -> None:
        """Uploads a file to the run's artifact root."""
        self._try(self._client.log_artifact, self._run_id, str(path))

    def link(self) -> str | None:
        """`hydratune ui` on this run."""
        return shlex.join([console_script(), "ui", os.path.relpath(self._directory)])

    def flush(self) -> None:
        """Sends what is buffered, in batches of at most 1000; keeps what could not be sent."""
        self._sent = time.monotonic()
        while self._points:
            batch = self._points[:1000]
            if not self._try(self._client.log_batch, self._run_id, metrics=batch):
                return
            del self._points[:1000]

    def close(self, status: str) -> None:
        """Sends the rest and sets the run's status; tries once more where the store failed before."""
        self.flush()
        self._try(self._client.set_terminated, self._run_id, status)
        if self._points:
            log.warning("tracking: %d metric points were not delivered", len(self._points))

    def _try(self, call: Any, *args: Any, **kwargs: Any) -> bool:
        """Whether the store took it; a failure is said once and never stops training."""
        try:
            call(*args, **kwargs)
        except Exception as error:  # whatever a store raises, training goes on
            if not self._broken:
                log.warning("tracking: the MLflow store failed, training goes on: %s", redact(str(error)))
            self._broken = True
            return False
        self._broken = False
        return True
