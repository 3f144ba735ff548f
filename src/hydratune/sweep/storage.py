"""Database of a study: connections, retries while it is down, locks, and heartbeats of workers on other machines."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hydratune.config import servers
from hydratune.utils import files
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.files import create_private
from hydratune.utils.places import check_place
from hydratune.utils.provenance import redact
from hydratune.utils.sqlite_files import journal_problem, schema_problem

if TYPE_CHECKING:
    from filelock import FileLock
    from optuna.storages import RDBStorage

log = logging.getLogger(__name__)
T = TypeVar("T")

BEAT, GRACE = 15, 120  # seconds between two heartbeats; seconds without one after which a worker elsewhere is dead
_SQLITE_WAIT = 600  # seconds to wait for a lock that another process holds
_PATIENCE = 900  # seconds to wait for a database that does not answer
_LONGEST_PAUSE = 30  # maximum seconds between two tries
# Module of a database driver -> package to install.
_DRIVERS = {"psycopg": "'hydratune[postgresql]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
_SILENT_TRIES = 3  # failed tries until a warning; a busy database causes fewer


class StudyUnavailableError(RuntimeError):
    """Error for a study's database that stays unavailable; the configuration of the trial is not the cause."""


def connect(url: str, *, waits: bool = False) -> RDBStorage:
    """Return the storage at an address.

    Several processes may create its tables at the same time: one succeeds, and the others try again.

    Args:
        url: Address of the database.
        waits: Whether to try for longer, see `retry`.

    Raises:
        ConfigError: If the database does not answer, without `waits`.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if waits:
        return retry(lambda: _open(url))
    tries = 5
    for tries_left in reversed(range(tries)):
        try:
            return _open(url)
        except (SQLAlchemyError, ImportError) as error:
            if not tries_left or isinstance(error, ImportError):
                raise ConfigError(_unavailable(url, error)) from error
            time.sleep(0.3)
    raise AssertionError("unreachable")


def _unavailable(url: str, error: Exception) -> Problem:
    key, address = "sweep.storage", redact(url)
    if isinstance(error, ImportError):
        name = getattr(error.__cause__ or error, "name", None)  # optuna's own message names no package
        package = _DRIVERS.get(str(name), str(name))
        return Problem(key, f"the database {address} needs the package {name}", f"pip install {package}")
    hint = "" if file_lock(url) else f"start the database, or leave out {key} to use a file in the sweep's directory"
    reason = one_line(getattr(error, "orig", None) or error, 300)  # SQLAlchemy adds its statement and a link
    return Problem(key, f"cannot open the sweep's database {address}: {reason}", hint)


@contextmanager
def untested_warnings_off() -> Iterator[None]:
    """Suppress optuna's warnings about experimental features, since our version is pinned and tested."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _open(url: str) -> RDBStorage:
    import optuna
    from sqlalchemy.engine import make_url

    if wrong := servers.problem(url, "sweep.storage"):
        raise ConfigError(wrong)
    parsed_url = make_url(url)
    if parsed_url.drivername == "postgresql":  # its default driver is psycopg2, and we require psycopg 3
        parsed_url = parsed_url.set(drivername="postgresql+psycopg")
    kwargs: dict[str, Any] = {"pool_pre_ping": True}
    if parsed_url.get_backend_name() == "sqlite":
        path = Path(str(parsed_url.database))
        check_place("sweep.storage", path)
        if wrong := journal_problem(path, "sweep.storage"):
            raise ConfigError(wrong)
        if path.parent.is_dir():
            create_private(path)
        if path.is_file() and (wrong := schema_problem(path, "sweep.storage")):
            raise ConfigError(wrong)
        kwargs = {"connect_args": {"timeout": _SQLITE_WAIT}}
    with untested_warnings_off():
        return optuna.storages.RDBStorage(parsed_url.render_as_string(hide_password=False), engine_kwargs=kwargs)


def retry(call: Callable[[], T]) -> T:
    """Return the result of a call to the storage, with retries for up to 15 minutes.

    A try may have succeeded although its answer was lost, so the call must be idempotent.

    Raises:
        StudyUnavailableError: If the database does not answer for 15 minutes.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    began, pause, tries = time.monotonic(), 0.2, 0
    while True:
        try:
            result = call()
        except (DBAPIError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error  # optuna's message says less
            if not _may_pass(cause):
                raise
            reason = one_line(getattr(cause, "orig", None) or error, 300)
            if time.monotonic() - began > _PATIENCE:
                raise StudyUnavailableError(
                    f"the sweep's database did not answer for {_PATIENCE} s: {reason}"
                ) from error
            tries += 1
            if tries == _SILENT_TRIES:
                log.warning("sweep: the database does not answer; waiting up to %d min: %s", _PATIENCE // 60, reason)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            if tries >= _SILENT_TRIES:
                log.warning("sweep: the database answers again")
            return result


def _may_pass(cause: BaseException | None) -> bool:
    """Return whether an error means that the database is down or busy, and not e.g. that permissions are missing."""
    from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

    return isinstance(cause, InterfaceError | InternalError | OperationalError)


# --- locks -----------------------------------------------------------------------------------------------


def lock(storage: RDBStorage, url: str, study: str) -> AbstractContextManager[Any]:
    """Return a lock among all processes that share a study; a dead process does not hold it."""
    return file_lock(url) or _row_lock(storage, study[:250])


def file_lock(url: str) -> FileLock | None:
    """Return a lock file next to a database that is a file, or None for a database server."""
    path = url.partition("sqlite:///")[2]
    if not path:
        return None
    check_place("sweep.storage", Path(path))
    return files.file_lock(Path(f"{path}.lock"))


@contextmanager
def _row_lock(storage: RDBStorage, study: str) -> Iterator[None]:
    """Lock a row of our own table on a database server, since optuna locks rows of its tables."""
    import sqlalchemy as sql

    locks = sql.Table("hydratune_locks", sql.MetaData(), sql.Column("study", sql.String(250), primary_key=True))
    condition = locks.c.study == study
    with contextlib.suppress(sql.exc.SQLAlchemyError):  # another process creates it at the same time
        locks.create(storage.engine, checkfirst=True)
    with contextlib.suppress(sql.exc.IntegrityError), storage.engine.begin() as connection:
        if connection.execute(sql.select(locks).where(condition)).first() is None:
            connection.execute(locks.insert().values(study=study))
    with storage.engine.begin() as connection:
        connection.execute(sql.select(locks).where(condition).with_for_update())
        yield


# --- heartbeats ------------------------------------------------------------------------------------------


class HeartbeatMonitor:
    """Detector of processes that no longer send heartbeats.

    A process is silent if its last heartbeat has not changed for `GRACE` seconds of the monotonic clock of this
    process. Times in the database are only compared with each other. A system clock that jumps therefore cannot make
    a live worker look dead.
    """

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[Any, float]] = {}  # process -> its last heartbeat, and when it was first seen

    def is_silent(self, who: Any, sign: Any) -> bool:
        """Return whether the last heartbeat has not changed for more than `GRACE` seconds."""
        now = time.monotonic()
        if who not in self._seen or self._seen[who][0] != sign:
            self._seen[who] = (sign, now)
        return now - self._seen[who][1] > GRACE


def sign_of_life(storage: RDBStorage, trial_id: int) -> Any:
    """Return the last heartbeat of the worker of a trial."""
    import sqlalchemy as sql
    from optuna.storages._rdb.models import TrialHeartbeatModel

    column = TrialHeartbeatModel.heartbeat
    with storage.engine.connect() as connection:
        return connection.execute(sql.select(column).where(TrialHeartbeatModel.trial_id == trial_id)).scalar()
