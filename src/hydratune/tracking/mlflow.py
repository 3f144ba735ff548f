"""Tracking in MLflow, with one MLflow run for each run.

Upstream's `MLflowCallback` opens a second run on `evaluate()`, floods the params, and marks crashed runs as FINISHED.
Here, a run writes all its entries into a journal in its directory, and a thread uploads them (see `journal` and
`uploader`).
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import Timeout

from hydratune.config import servers
from hydratune.tracking import logged_models
from hydratune.tracking.base import DatasetInfo, ModelInfo, RunInfo, RunLog, Tracking
from hydratune.tracking.client import (
    TrackingUnavailableError,
    absolute_uri,
    address_problem,
    check_experiment,
    connect,
    sqlite_path,
)
from hydratune.tracking.dead_runs import mark_dead_runs_killed
from hydratune.tracking.delivery import Delivery
from hydratune.tracking.entries import Registration
from hydratune.tracking.journal import DIRECTORY, LOCK, Journal, journals
from hydratune.tracking.notes import NOTE, failed_note, interrupted_note
from hydratune.tracking.system_metrics import SystemMetrics
from hydratune.tracking.uploader import Uploader, format_error, upload_ended
from hydratune.utils import clock, process
from hydratune.utils.errors import (
    KEY,
    NODE,
    ConfigError,
    Problem,
    PrunedError,
    invalid_value,
    one_line,
    optional_record,
)
from hydratune.utils.files import file_lock, write_text
from hydratune.utils.provenance import cli_path, redact

if TYPE_CHECKING:
    from transformers import TrainerCallback

log = logging.getLogger(__name__)

TRACEBACK = "traceback.txt"
STATE = "hydratune.state"  # tag of runs that a sweep pruned
_PREFIXES = ("best", "eval", "test", "train", "trials")
# Trainer's means over a whole run, which are not points of the curve of the same name.
_MEANS = {"train_loss": "mean_loss", "train_samples_per_second": "mean_samples_per_second"}
_UNSHOWN = ("total_flos", "train_steps_per_second")  # steps differ in rows, so samples are more informative
_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_KEY = 6000, 5000, 250
_LONGEST_NAMES = {"experiment_name": 256, "run_name": 250}  # columns of MLflow's tables
_NOT_IN_KEYS = re.compile(r"[^\w\-. /:]")
_NOT_IN_MODEL_NAMES = re.compile("[/:.%\"']")
_SPLITS = {"best": "validation", "eval": "validation", "test": "test"}


def mlflow_metric_name(name: str) -> str:
    """Return MLflow's name for a metric of Trainer: `eval_f1` -> `eval/f1`, `loss` -> `train/loss`."""
    if name in _MEANS:
        return f"train/{_MEANS[name]}"
    prefix, _, rest = name.partition("_")
    return f"{prefix}/{rest}" if prefix in _PREFIXES and rest else f"train/{name}"


@dataclass(kw_only=True)
class Mlflow(Tracking):
    """Tracker that records runs in an MLflow store.

    Args:
        uri: Address of the store; a relative SQLite path counts from the directory where the command was started.
        experiment_name: MLflow experiment in which runs are compared.
        run_name: Name of the run; null for a name made of the chosen options.
        tags: Additional tags for the run.
        log_models: Whether the final model becomes a logged model of MLflow.
        registered_model_name: Name of the final model in MLflow's registry; null for no registration.
        registered_model_alias: Alias that moves to the registered version, e.g. `candidate`; null for no alias.
        log_checkpoints: Checkpoints that also become logged models: none, those that were the best so far, or all.
        log_system_metrics: Whether the load of CPUs, GPUs, disk, and network is recorded every 10 s.
    """

    uri: str = "sqlite:///outputs/mlflow.db"
    experiment_name: str = "hydratune"
    run_name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    log_models: bool = True
    registered_model_name: str | None = None
    registered_model_alias: str | None = None
    log_checkpoints: Literal["none", "best", "all"] = "none"
    log_system_metrics: bool = True

    def check(self) -> Iterator[Problem]:
        """Yield an error for each invalid option, and for each option that lacks another one that it needs."""
        if wrong := address_problem(self.uri, "uri") or servers.problem(self.uri, "uri"):
            yield wrong
        elif address_problem(absolute_uri(self.uri), "uri"):
            text = f"{KEY} is below the working directory, whose path contains a question mark: {str(Path.cwd())!r}"
            yield Problem("uri", text, f"rename the directory, or set {KEY}=sqlite:////DIR/mlflow.db")
        if self.experiment_name in ("", ".", ".."):  # the last two would be other folders of artifacts
            hint = f"omit {KEY} to use the name of the dataset"
            yield invalid_value("experiment_name", "a name", repr(self.experiment_name), hint)
        for key, limit in _LONGEST_NAMES.items():
            if len(getattr(self, key) or "") > limit:
                yield invalid_value(key, f"at most {limit} characters long", f"{len(getattr(self, key))}")
        for name in self.tags or ():
            if str(name).startswith(("mlflow.", "hydratune.")):
                yield Problem("tags", f"{KEY} must not contain {name!r}, since hydratune sets it", "rename the tag")
        if re.search("[/:]", self.registered_model_name or ""):  # MLflow refuses it, at the end of the run
            text = f"{KEY} must not contain / or :, but is {self.registered_model_name!r}"
            yield Problem("registered_model_name", text, "use a dash or a dot instead")
        path = sqlite_path(absolute_uri(self.uri))
        if path is not None and path.is_dir():
            text = f"{KEY} must name a database file, but {str(path)!r} is a directory"
            yield Problem("uri", text, f"set {KEY}={self.uri.rstrip('/')}/mlflow.db")
        if self.registered_model_name and not self.log_models:
            text = f"{KEY} ({self.registered_model_name!r}) requires {NODE}log_models=true"
            yield Problem("registered_model_name", text, f"set {NODE}log_models=true")
        if self.registered_model_alias and not self.registered_model_name:
            text = f"{KEY} ({self.registered_model_alias!r}) requires {NODE}registered_model_name"
            yield Problem("registered_model_alias", text, f"set {NODE}registered_model_name=NAME")

    @contextmanager
    def start(self, info: RunInfo) -> Iterator[RunLog]:
        """Yield the log of a run that ends as FINISHED, FAILED by an exception, or KILLED by Ctrl-C and SIGTERM."""
        uri = absolute_uri(self.uri)
        client = connect(uri) if sqlite_path(uri) else None  # unlike a server, a local file must work now
        if client:
            check_experiment(client, uri, self.experiment_name)
        journal = Journal(info.directory)
        with ExitStack() as stack:
            stack.enter_context(file_lock(info.directory / LOCK, thread_local=False))  # excludes `hydratune sync`
            self._open(journal, info, uri)
            uploader = Uploader(journal, uri, client, stack.pop_all().close, [self._registration])
        with _told(MlflowRunLog(self, journal, uploader, info)) as run_log:
            yield run_log

    @property
    def _registration(self) -> Registration:
        return self.registered_model_name, self.registered_model_alias

    def deliver(self, directory: Path) -> None:
        """Upload the journals of runs that have ended; if the store is still down, log the command for later."""
        pending = [journal for journal in journals(directory) if not journal.is_delivered()]
        uri = absolute_uri(self.uri)
        try:
            for journal in pending:
                with suppress(Timeout), file_lock(journal.directory / LOCK, timeout=0):  # a live run uploads its own
                    upload_ended(journal, Delivery(connect(uri), uri, journal.directory, [self._registration]))
        except (ConfigError, TrackingUnavailableError) as error:
            command = shlex.join([cli_path(), "sync", os.path.relpath(directory)])
            log.warning(
                "tracking: the upload of %d runs is incomplete: %s; finish it with: %s",
                len(pending),
                format_error(error),
                command,
            )

    def mark_dead_runs_killed(self) -> None:
        """Mark runs as KILLED that are RUNNING in the store but whose process, on this machine, is gone."""
        try:
            mark_dead_runs_killed(connect(absolute_uri(self.uri)))
        except Exception as error:  # `hydratune ui` does this again once a server is up
            log.debug("tracking: the status of earlier runs was not updated: %s", one_line(error))

    def _open(self, journal: Journal, info: RunInfo, uri: str) -> None:
        """Write the description of the run to the journal; if it is there already, write only the changes."""
        tags = {**info.tags, **redact(self.tags), **process.tags(), DIRECTORY: str(info.directory.absolute())}
        tags = {_key(name): _cut(name, str(value), _LONGEST_TAG) for name, value in tags.items()}
        params = {_key(name): _cut(name, str(value), _LONGEST_PARAM) for name, value in info.params.items()}
        if journal.key:
            if params and (drift := _drift(journal.params, params)):
                tags["param_drift"] = drift[:_LONGEST_TAG]
            journal.write("continue", tags=tags)
        else:
            name, journal.began = self.run_name or info.name, clock.milliseconds()
            run_values = {"uri": redact(uri), "experiment": self.experiment_name, "name": redact(name), "tags": tags}
            journal.write("run", key=info.key or uuid.uuid4().hex, began=journal.began, **run_values)
        journal.write_params(params)


@contextmanager
def _told(run_log: MlflowRunLog) -> Iterator[MlflowRunLog]:
    """Close the log with the status in which the context ends."""
    status = "FAILED"
    try:
        yield run_log
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        run_log.interrupted()
        raise
    except PrunedError:
        status = "KILLED"  # MLflow has no status for pruned runs
        run_log.tags({STATE: "PRUNED"})
        raise
    except Exception as error:
        run_log.failed(error)
        raise
    finally:
        run_log.close(status)


def _drift(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the params in which a resumed run differs from its start, as text."""
    names = dict.fromkeys((*before, *now))
    pairs = {name: (before.get(name, "unset"), now.get(name, "unset")) for name in names}
    return "; ".join(f"{name}: {old} -> {new}" for name, (old, new) in pairs.items() if old != new)


class MlflowRunLog(RunLog):
    """Log that writes everything into the journal, from which the uploader reads it."""

    def __init__(self, options: Mlflow, journal: Journal, sender: Uploader, info: RunInfo) -> None:
        self._options, self._journal, self._sender = options, journal, sender
        self._waits, self._resume, self._note = info.waits, info.resume, ""
        self._name = str(redact(options.run_name or info.name))
        self._datasets: dict[str, tuple[str, str]] = {}
        self._error: Mapping[str, str] = {}
        self._system = SystemMetrics(journal) if options.log_system_metrics else None

    def callbacks(self, model: ModelInfo) -> list[TrainerCallback]:
        """Return callbacks that record what Trainer logs, and checkpoints if requested."""
        from hydratune.tracking.callbacks import MlflowCallback, RecordCheckpoints

        if self._options.log_checkpoints == "none":
            return [MlflowCallback(self)]
        return [MlflowCallback(self), RecordCheckpoints(self._checkpoint, model, self._options.log_checkpoints)]

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Write the numbers among `values` to the journal; evaluations are uploaded immediately, the rest every 2 s."""
        for name in self._journal.write_metrics(_numbers(values), step):
            log.warning(
                "tracking: %s is infinite at step %d and is not recorded, because MLflow cannot store it", name, step
            )
        if any(name.startswith(("eval_", "test_")) for name in values):
            self._sender.flush_soon()

    def tags(self, values: Mapping[str, str]) -> None:
        """Record tags, truncated to MLflow's limits."""
        self._journal.write("tags", tags={_key(name): _cut(name, str(v), _LONGEST_TAG) for name, v in values.items()})

    def note(self, text: str) -> None:
        """Record the description that MLflow shows above the details of the run."""
        self._note = text
        self.tags({NOTE: text})

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file at the root of the run's artifacts, or in a folder of them."""
        self._journal.write("artifact", path=self._below(path), folder=folder)

    def dataset(self, split: DatasetInfo) -> None:
        """Record a dataset input of the run; metrics of models name it."""
        self._datasets[split.split] = (split.name, split.digest)
        self._journal.write("dataset", **asdict(split))

    def model(self, model: ModelInfo) -> None:
        """Record the final model, registered if requested."""
        if self._options.log_models:
            name, alias = self._options.registered_model_name, self._options.registered_model_alias
            self._write_model(model, self._name, is_kept=True, registered_name=name, alias=alias)

    def failed(self, error: Exception) -> None:
        """Record the traceback as an artifact, and its last line as the tag `error`."""
        self._error = {"error": f"{type(error).__name__}: {one_line(error)}"}
        with optional_record(TRACEBACK):  # the disk may be what failed
            path = self._journal.directory / TRACEBACK
            write_text(path, str(redact("".join(traceback.format_exception(error)))))
            self.artifact(path)
        self.tags({**self._error, NOTE: failed_note(self._error["error"], self._resume, self._note)})

    def interrupted(self) -> None:
        """Record how to continue."""
        self.tags({NOTE: interrupted_note(self._resume, self._note)})

    def link(self) -> str | None:
        """Return the `hydratune ui` command for this run."""
        return shlex.join([cli_path(), "ui", os.path.relpath(self._journal.directory)])

    def is_blocked(self) -> bool:
        """Return whether the run or its experiment was deleted in MLflow, so that it takes no entries."""
        return self._sender.is_blocked

    def close(self, status: str) -> None:
        """Record the end and wait for its upload; log how to upload the rest later."""
        if self._system:
            self._system.close()
        ended = max(clock.milliseconds(), self._journal.began)  # a resumed run began in another process
        self._journal.write("status", status=status, ended=ended)
        if not self._waits:
            self._sender.detach()
            return
        is_delivered = self._sender.close()
        if self._journal.is_incomplete:
            self._sender.end_run(status, {name: value[:_LONGEST_TAG] for name, value in self._error.items()})
        elif not is_delivered:
            command = shlex.join([cli_path(), "sync", os.path.relpath(self._journal.directory)])
            log.warning("tracking: the upload to MLflow is incomplete; finish it with: %s", command)

    def _checkpoint(self, model: ModelInfo) -> None:
        self._write_model(model, f"{self._name} {model.name}", is_kept=False)

    def _write_model(self, model: ModelInfo, name: str, is_kept: bool, **more: Any) -> None:
        folder = logged_models.package_model(
            model, self._journal.directory / logged_models.STAGED / model.name, is_kept
        )
        self._journal.write(
            "model",
            folder=self._below(folder),
            staged=folder != model.folder,
            name=_NOT_IN_MODEL_NAMES.sub("-", name)[:_LONGEST_KEY],
            step=model.step,
            metrics=[p for name, v in _numbers(model.metrics).items() if (p := self._journal.point(name, v))],
            params={name: str(value) for name, value in model.params.items()},
            datasets={prefix: self._datasets[split] for prefix, split in _SPLITS.items() if split in self._datasets},
            **more,
        )

    def _below(self, path: Path) -> str:
        return str(path.relative_to(self._journal.directory))


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among what Trainer logs, under MLflow's names."""
    metrics = {mlflow_metric_name(name): value for name, value in values.items() if name not in _UNSHOWN}
    return {
        _key(name): float(v) for name, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)
    }


def _key(name: str) -> str:
    """Return a name that MLflow accepts, e.g. without brackets."""
    return _NOT_IN_KEYS.sub("_", name)[:_LONGEST_KEY]


def _cut(name: str, value: str, limit: int) -> str:
    """Return a value that MLflow accepts; log a warning and end it with dots if it is too long."""
    if len(value) <= limit:
        return value
    log.warning(
        "tracking: %s has %d characters and is truncated to %d in MLflow; config.yaml has the full value",
        name,
        len(value),
        limit,
    )
    return value[: limit - 3] + "..."
