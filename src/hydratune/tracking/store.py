"""Where MLflow keeps its runs: addresses, made absolute and made ready."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.errors import ConfigError, Mistake, one_line
from hydratune.files import PRIVATE, PRIVATE_FOLDER
from hydratune.provenance import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

SCHEMES = ("databricks", "http", "https", "mssql", "mysql", "postgresql", "sqlite")
_SQLITE = "sqlite:///"
_LOCKED, _LONGEST_LOCK = "database is locked", 120  # what sqlite says after 5 s, and seconds that it is tried again


def absolute_uri(uri: str) -> str:
    """The address with a relative sqlite path made absolute, so that it holds in another directory.

    `${oc.env:NAME}` in it is read from the environment, so that a password need not be typed.

    Raises:
        ConfigError: Where the environment has no such variable.
    """
    try:
        uri = str(OmegaConf.create({"uri": uri}).uri)
    except OmegaConfBaseException as error:
        fix = "Set the variable."
        raise ConfigError(Mistake("--uri", "an address", one_line(error)[:300], fix)) from error
    if not uri.startswith(_SQLITE):
        return uri
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).expanduser().absolute())


def sqlite_path(uri: str) -> Path | None:
    """The file of an absolute sqlite address; None for any other."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def scheme(uri: str) -> str:
    """`sqlite`, `http`, ...; the driver in `postgresql+psycopg` is left out."""
    return urlsplit(uri).scheme.partition("+")[0]


def existing(uri: str, key: str, fix: str) -> MlflowClient:
    """A client of an absolute address; raises ConfigError for `key` where connecting would make a new sqlite store."""
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise ConfigError(Mistake(key, "a store that exists", repr(str(path)), fix))
    return connect(uri)


def connect(uri: str) -> MlflowClient:
    """A client of an absolute address whose store exists; the first to come makes a sqlite store.

    Raises:
        ConfigError: Where the store does not answer.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run, into our table
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the sender tries again; MLflow would block on it
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds
    from filelock import FileLock

    for noisy in ("alembic", "mlflow"):  # importing mlflow sets its level anew
        logging.getLogger(noisy).setLevel(logging.WARNING)
    path = sqlite_path(uri)
    try:
        if path is None:
            return _answering(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=PRIVATE)
        # Two processes that make the schema at once break each other (alembic has no lock of its own).
        with FileLock(f"{path}.lock"):
            return _unlocked(uri)
    except Exception as error:  # each store raises its own kind: MlflowException, sqlalchemy's, OSError
        reason = str(redact(one_line(error)))[:300]
        fix = "Start the server, correct tracking.uri, or set tracking=none."
        raise ConfigError(Mistake("tracking.uri", f"an MLflow store at {redact(uri)!r}", reason, fix)) from error


def _unlocked(uri: str) -> MlflowClient:
    """A client of a sqlite store, once no other process holds the whole of it, as a backup may."""
    began = time.monotonic()
    while True:
        try:
            return _answering(uri)
        except Exception as error:
            waited = time.monotonic() - began
            if _LOCKED not in str(error) or waited > _LONGEST_LOCK:
                raise
            log.warning("tracking: waiting for %s, which another process holds, for %d s now", uri, waited)


def _answering(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment called `name`, made if need be; a local store keeps its artifacts beside it."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    path = sqlite_path(uri)
    if path:
        (path.parent / "mlartifacts").mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    location = (path.parent / "mlartifacts" / quote(name, safe=" ")).as_uri() if path else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:  # another process was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)
