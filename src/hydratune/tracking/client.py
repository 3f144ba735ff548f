"""Addresses of MLflow stores, and the clients that connect to them."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import servers
from hydratune.tracking.relocation import ARTIFACTS, COLUMNS, relocate_artifacts, relocated
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line, similar
from hydratune.utils.files import (
    PRIVATE_FOLDER,
    PathEscapeError,
    atomic_write,
    create_private,
    expand_home,
    file_lock,
    is_inside,
    links_outside,
    make_directory,
)
from hydratune.utils.places import check_place
from hydratune.utils.provenance import redact, text_hash
from hydratune.utils.sqlite_files import journal_problem, schema_problem

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

log = logging.getLogger(__name__)

SCHEMES = ("databricks", "http", "https", "mssql", "mysql", "postgresql", "sqlite")
_SQLITE = "sqlite:///"
_SCHEME = re.compile(r"([a-z]+)(\+\w+)?:")  # group 1 has no driver, as in `postgresql+psycopg`
# Artifact locations at hosts of a cloud. For other hosts, MLflow's client would send a token of Azure to them too.
_BUCKETS = ("gs", "s3")
_AZURE = re.compile(r"[\w$-]+@[\w-]+\.(blob|dfs)\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)")
_OF_THE_SERVER = ("dbfs", "mlflow-artifacts")  # without a host, the store itself
_LONGEST_FOLDER = 200  # characters; file systems allow 255 bytes
_DELETED = "deleted"  # MLflow's lifecycle stage
# Indexes of a table that contain a column, or an expression.
_INDEXES_OF_COLUMN = """
SELECT list.name FROM pragma_index_list(?) AS list, pragma_index_xinfo(list.name) AS part
WHERE part.cid = -2 OR part.name = ? COLLATE NOCASE
"""
# Whether SQLite itself sets the values of a column, by an expression or by an action of a foreign key.
_IS_COMPUTED = """
SELECT 1 FROM pragma_table_xinfo(:table) WHERE hidden > 1 AND name = :column COLLATE NOCASE
UNION ALL SELECT 1 FROM pragma_foreign_key_list(:table) WHERE "from" = :column COLLATE NOCASE
AND (on_update NOT IN ('NO ACTION', 'RESTRICT') OR on_delete NOT IN ('CASCADE', 'NO ACTION', 'RESTRICT'))
"""
_LOCKED, _LONGEST_LOCK = "database is locked", 120  # SQLite's message after 5 s, and the seconds of retries


def typed_uri(uri: str) -> str:
    """Return the absolute form of an address that the user typed, with `${oc.env:NAME}` read from the environment.

    So a password need not be typed. Addresses from files are never resolved: someone else's journal would read the
    environment.

    Raises:
        ConfigError: The environment has no such variable.
    """
    try:
        return absolute_uri(str(OmegaConf.create({"uri": uri}).uri))
    except OmegaConfBaseException as error:
        missing = re.search(r"Environment variable '.*?' not found", str(error))
        reason = missing[0].replace("E", "e", 1) if missing else one_line(str(error).partition("\n")[0], 300)
        raise ConfigError(Problem("--uri", f"cannot resolve {KEY} {uri!r}: {reason}")) from error


def absolute_uri(uri: str) -> str:
    """Return an address with an absolute path if it is one of SQLite, so that it holds in another directory."""
    if not uri.startswith(_SQLITE):
        return uri
    return _SQLITE + str(expand_home(uri.removeprefix(_SQLITE)).absolute())


def stored_uri(uri: str, directory_before: str, directory: Path) -> str:
    """Return the address that a run recorded; that of a SQLite store follows a run directory that was moved."""
    path = sqlite_path(uri)
    return uri if path is None else _SQLITE + str(relocated(path, directory_before, directory))


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an absolute SQLite address; None for any other address."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def address_problem(uri: str, key: str) -> Problem | None:
    """Return an error if the form of an absolute address is invalid, else None."""
    scheme = _SCHEME.match(uri)
    name = scheme[1] if scheme else uri.partition(":")[0]
    is_file = name == "sqlite"
    if name in SCHEMES and not (is_file and (not uri.startswith(_SQLITE) or servers.sqlite_has_parameters(uri))):
        return None
    hint = f"set {KEY}=sqlite:///outputs/mlflow.db"
    if is_file:
        return Problem(key, f"the MLflow store {redact(uri)!r} must be sqlite:///PATH without parameters", hint)
    text = f"the MLflow store {redact(uri)!r} must start with {', '.join(SCHEMES[:-1])}, or {SCHEMES[-1]}"
    return Problem(key, text, similar("scheme", name, SCHEMES, hint))


def existing(uri: str, key: str, hint: str) -> MlflowClient:
    """Return a client of an absolute address; raise ConfigError for `key` if connecting would create a SQLite store."""
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise ConfigError(Problem(key, f"MLflow store not found: {str(path)!r}", hint))
    return connect(uri)


def connect(uri: str) -> MlflowClient:
    """Return a client of an absolute address; the first process creates a SQLite store.

    Raises:
        ConfigError: The store does not answer, or is a server that must not receive the user's credentials.
    """
    path = sqlite_path(uri)
    if wrong := (
        address_problem(uri, "tracking.uri")
        or servers.problem(uri, "tracking.uri")
        or (path and journal_problem(path, "tracking.uri"))
    ):
        raise ConfigError(wrong)
    if path:
        for place in (path, path.parent / ARTIFACTS):
            check_place("tracking.uri", place)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run, inside our table
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the uploader retries; MLflow would block it
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds
    for logger_name in ("alembic", "mlflow"):  # importing mlflow resets its level
        logging.getLogger(logger_name).setLevel(logging.WARNING)
    # It logs each error of a SQLite store with tracebacks, in addition to the exception, which the caller reports.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        if path is None:
            return _answering(uri)
        make_directory(path.parent)
        # Two processes that create the schema simultaneously would break it, since alembic has no lock.
        with file_lock(Path(f"{path}.lock")):
            _create(path)
            client = _unlocked(uri)
            wrong = schema_problem(path, "tracking.uri")
            if not wrong:
                relocate_artifacts(path)
                return client
    except Exception as error:  # each store raises its own kind: MlflowException, sqlalchemy's, OSError
        text = f"cannot open the MLflow store {redact(uri)!r}: {one_line(error, 300)}"
        hint = f"{'start the server' if path is None else 'fix the file'}, set another {KEY}, or set tracking=none"
        raise ConfigError(Problem("tracking.uri", text, hint)) from error
    raise ConfigError(wrong)


def _create(path: Path) -> None:
    """Create a SQLite store in one step, unless it exists.

    MLflow creates the tables one by one, and could not open a store again if a kill or a full disk interrupted it.
    """
    if path.is_file() and path.stat().st_size:
        return
    with atomic_write(Path(os.path.realpath(path))) as temp_path:  # keeps a link
        create_private(temp_path)
        _answering(f"{_SQLITE}{temp_path}")


def _unlocked(uri: str) -> MlflowClient:
    """Return a client of a SQLite store once no other process, e.g. a backup, locks all of it."""
    began = time.monotonic()
    while True:
        try:
            return _answering(uri)
        except Exception as error:
            waited = time.monotonic() - began
            if _LOCKED not in str(error) or waited > _LONGEST_LOCK:
                raise
            log.warning("tracking: %s is locked by another process, waiting for %d s so far", uri, waited)


def _answering(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


class TrackingUnavailableError(Exception):
    """Error for an entry that the store did not take, but may take later."""


class DeletedError(TrackingUnavailableError):
    """Error for a run that was deleted in MLflow, or whose experiment was.

    MLflow refuses every entry until a user restores it.
    """


def artifact_repository(uri: str, location: str) -> ArtifactRepository:
    """Return the place for files at the artifact location that a store names.

    MLflow's client would read the location from the store again, and a SQLite file of someone else, e.g. with a view in
    place of a table, could then name another one.

    Args:
        uri: The store.
        location: Artifact location of a run or a logged model.

    Raises:
        PathEscapeError: The location is not allowed.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

    check_artifacts(uri, location)
    return get_artifact_repository(add_databricks_profile_info_to_artifact_uri(location, uri), tracking_uri=uri)


def check_artifacts(uri: str, location: str) -> None:
    """Raise PathEscapeError unless files may be uploaded to the artifact location that a store names.

    Someone else may have written the location into a SQLite file or a server. A SQLite file has its artifacts next to
    it, unless the user has listed their directory: naming the file does not name other directories. A server that the
    user has named chooses freely. MLflow would write through links among the artifacts.

    Raises:
        PathEscapeError: The location is not allowed.
    """
    check_artifact_host(location)
    path, folder = sqlite_path(uri), local_folder(location)
    if path is not None and folder is not None:
        is_allowed = _is_below(folder, path.parent) or servers.lists_folder(folder)
        hint = f"export {servers.VARIABLE}={shlex.quote(location)}"
    else:
        is_allowed = (path is None and folder is None) or servers.is_confirmed(uri)
        hint = f"name the store: --uri {shlex.quote(str(redact(uri)))}"
    if not is_allowed:
        raise PathEscapeError(f"the store has its artifacts at {location}; if you trust it, {hint}")
    if folder is not None and (link := next(links_outside(folder), None)):
        raise PathEscapeError(f"the link {str(link)!r} leads out of the artifacts at {location}; remove it")


def check_locations(path: Path) -> None:
    """Raise ConfigError if MLflow's pages of a SQLite store would show files of other directories as artifacts.

    Locations must be plain values. An index of someone else's file need not agree with its table, and MLflow may read
    either. What SQLite computes can change after this check, e.g. with the status of a run.
    """
    locations: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        for table, column, condition in COLUMNS:
            if index := connection.execute(_INDEXES_OF_COLUMN, (table, column)).fetchone():
                text = f"the store {str(path)!r} has the index {index[0]!r} of locations, which MLflow does not create"
                raise ConfigError(Problem("--uri", text, "use another store"))
            for name in (column, condition.partition(" ")[0]):  # the condition selects rows by the column `key`
                if connection.execute(_IS_COMPUTED, {"table": table, "column": name}).fetchone():
                    text = f"the store {str(path)!r} computes {table}.{name}, which MLflow stores as a plain value"
                    raise ConfigError(Problem("--uri", text, "use another store"))
            rows = connection.execute(f"SELECT {column} FROM {table} NOT INDEXED WHERE {condition}")  # noqa: S608 (constants)
            locations += dict.fromkeys(str(row[0]) for row in rows if row[0])
    for location in locations:
        folder = local_folder(location)
        is_own = folder is None or any(_is_below(folder, allowed) for allowed in (path.parent, Path.cwd()))
        if folder and not is_own and folder.exists() and not servers.lists_folder(folder):
            text = f"the store {str(path)!r} has artifacts in a directory elsewhere: {str(folder)!r}"
            hint = f"if you trust it, export {servers.VARIABLE}={shlex.quote(folder.as_uri())}"
            raise ConfigError(Problem("--uri", text, hint))


def local_folder(location: str) -> Path | None:
    """Return the directory of an artifact location on this machine; None for a location elsewhere."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    # MLflow's own function: `?` and `#` belong to a path, but end the path of a URL.
    return Path(local_file_uri_to_path(location)) if urlsplit(location).scheme in ("", "file") else None


def check_artifact_host(location: str) -> None:
    """Raise PathEscapeError if MLflow's client would send files or credentials to a host that the user has not named.

    Locations of the store's own server, and in the storage of a cloud, are allowed. Others are not, because their
    schemes name a host (`ftp`, `sftp`, `hdfs`, `r2`), or another run, which names its own location (`runs`, `models`).

    Raises:
        PathEscapeError: The user has not named the host.
    """
    parts = urlsplit(location)
    if parts.scheme in ("", "file", *_BUCKETS) or (parts.scheme in _OF_THE_SERVER and not parts.netloc):
        return
    if parts.scheme in ("abfss", "wasbs") and _AZURE.fullmatch(parts.netloc):
        return
    is_proxy = parts.scheme == "mlflow-artifacts"
    hosts = [f"http://{parts.netloc}", f"https://{parts.netloc}"] if is_proxy else [location]
    for wrong in (servers.problem(host, "tracking.uri") for host in hosts):
        if wrong:
            raise PathEscapeError(
                f"the store has its artifacts at {redact(location)}, a server that you have not named"
            )


def _is_below(path: Path, folder: Path) -> bool:
    """Return whether a directory is below another one, and not in a hidden one, e.g. `.git/hooks`."""
    if not path.is_absolute() or not is_inside(path, folder):
        return False
    return not any(part.startswith(".") for part in path.resolve().relative_to(folder.resolve()).parts)


def restore_command(uri: str, kind: str, number: str) -> str:
    """Return the shell command that restores a deleted experiment or run.

    Args:
        uri: The store.
        kind: `experiment` or `run`.
        number: Its ID.
    """
    address = shlex.quote(str(redact(uri)))
    return f"MLFLOW_TRACKING_URI={address} mlflow {kind}s restore --{kind}-id {number}"


def check_experiment(client: MlflowClient, uri: str, name: str) -> None:
    """Raise ConfigError if the experiment called `name` was deleted."""
    experiment = client.get_experiment_by_name(name)
    if experiment and experiment.lifecycle_stage == _DELETED:
        command = restore_command(uri, "experiment", experiment.experiment_id)
        hints = f"restore it: {command}\nor use another experiment: {KEY}=NAME"
        raise ConfigError(Problem("tracking.experiment_name", f"the MLflow experiment {name!r} was deleted", hints))


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    """Return a run of the store, deleted or not; None without one."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def check_not_deleted(client: MlflowClient, uri: str, run_id: str) -> None:
    """Raise DeletedError if a run or its experiment was deleted."""
    run = client.get_run(run_id)
    experiment = client.get_experiment(run.info.experiment_id)
    if experiment.lifecycle_stage == _DELETED:
        raise _deleted_experiment(uri, experiment)
    if run.info.lifecycle_stage == _DELETED:
        command = restore_command(uri, "run", run_id)
        raise DeletedError(f"the MLflow run {run.info.run_name!r} was deleted; restore it with: {command}")


def _deleted_experiment(uri: str, experiment: Experiment) -> DeletedError:
    command = restore_command(uri, "experiment", experiment.experiment_id)
    return DeletedError(f"the MLflow experiment {experiment.name!r} was deleted; restore it with: {command}")


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Return the ID of the experiment called `name`, created if necessary; a local store has its artifacts next to it.

    Raises:
        DeletedError: If the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    if experiment := client.get_experiment_by_name(name):
        if experiment.lifecycle_stage == _DELETED:
            raise _deleted_experiment(uri, experiment)
        return str(experiment.experiment_id)
    path = sqlite_path(uri)
    if path:
        make_directory(path.parent / ARTIFACTS, PRIVATE_FOLDER)
    location = (path.parent / ARTIFACTS / _folder_name(name)).as_uri() if path else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:  # another process was first
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def _folder_name(experiment: str) -> str:
    """Return the name of the folder with the artifacts of an experiment; a long name ends with a hash."""
    folder = re.sub(r"^\.", "%2E", quote(experiment, safe=" "))  # artifacts in hidden directories are not read
    if len(folder) <= _LONGEST_FOLDER:
        return folder
    return f"{folder[:_LONGEST_FOLDER].rpartition('%')[0] or folder[:_LONGEST_FOLDER]}-{text_hash(experiment)[:16]}"
