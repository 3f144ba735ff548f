"""The database of a study: opened, waited for while it is down, and read for the signs of life of workers elsewhere."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from hydratune.utils.errors import ConfigError, Mistake, one_line
from hydratune.utils.provenance import redact

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

log = logging.getLogger(__name__)
T = TypeVar("T")

BEAT, GRACE = 15, 120  # seconds between two signs of life; a worker elsewhere that shows none that long is gone
_SQLITE_WAIT = 600  # seconds for a lock that another process holds
_PATIENCE = 900  # seconds for a storage that does not answer
_LONGEST_PAUSE = 30  # seconds between two tries
_SILENT_TRIES = 3  # that nobody hears of: a busy database


class StudyUnavailableError(RuntimeError):
    """A study's database did not come back; no fault of any configuration."""


def connect(url: str, *, waits: bool = False) -> RDBStorage:
    """The storage at an address; several processes may make its tables at the same time, of which one wins.

    Raises:
        ConfigError: Where it does not answer; one that `waits` tries for longer.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if waits:
        return retry(lambda: _open(url))
    tries = 5
    for left in reversed(range(tries)):
        try:
            return _open(url)
        except (SQLAlchemyError, ImportError) as error:
            if not left or isinstance(error, ImportError):
                got = f"{redact(url)!r}: {one_line(error)[:300]}"
                fix = "Start it, or leave sweep.storage out; PostgreSQL needs pip install 'hydratune[postgresql]'."
                raise ConfigError(Mistake("sweep.storage", "a database that answers", got, fix)) from error
            time.sleep(0.3)
    raise AssertionError("unreachable")


@contextmanager
def untested_warnings_off() -> Iterator[None]:
    """Without optuna's notes that something may change in its next version; ours is pinned and tested."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _open(url: str) -> RDBStorage:
    import optuna
    from sqlalchemy.engine import make_url

    full = make_url(url)
    if full.drivername == "postgresql":  # whose default is the driver before the one that we ask for
        full = full.set(drivername="postgresql+psycopg")
    kwargs: dict[str, Any] = {"pool_pre_ping": True}
    if full.get_backend_name() == "sqlite":
        kwargs = {"connect_args": {"timeout": _SQLITE_WAIT}}
    with untested_warnings_off():
        return optuna.storages.RDBStorage(full.render_as_string(hide_password=False), engine_kwargs=kwargs)


def retry(call: Callable[[], T]) -> T:
    """What a call to the storage returns, for which it may be tried for a quarter of an hour.

    A try may have done its work although its answer was lost, so the call must be one that can be made twice.

    Raises:
        StudyUnavailableError: After that.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    began, pause, tries = time.monotonic(), 0.2, 0
    while True:
        try:
            found = call()
        except (DBAPIError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error  # optuna's words say less
            if not _may_pass(cause):
                raise
            reason = str(redact(one_line(getattr(cause, "orig", None) or error)))[:300]
            if time.monotonic() - began > _PATIENCE:
                raise StudyUnavailableError(
                    f"the study's database did not answer for {_PATIENCE} s: {reason}"
                ) from error
            tries += 1
            if tries == _SILENT_TRIES:
                log.warning("sweep: waiting for the study's database, up to %d minutes: %s", _PATIENCE // 60, reason)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            if tries >= _SILENT_TRIES:
                log.warning("sweep: the study's database answers again")
            return found


def _may_pass(cause: BaseException | None) -> bool:
    """Whether an error is that of a database that is down or busy, and not e.g. of rights that are missing."""
    from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

    return isinstance(cause, InterfaceError | InternalError | OperationalError)


# --- one decision at a time ------------------------------------------------------------------------------


def lock(storage: RDBStorage, url: str, study: str) -> AbstractContextManager[Any]:
    """A lock among all processes that share a study; a dead one holds nothing."""
    return file_lock(url) or _row_lock(storage, study[:250])


def file_lock(url: str) -> FileLock | None:
    """For a database that is a file: a lock beside it."""
    path = url.partition("sqlite:///")[2]
    return FileLock(f"{path}.lock") if path else None


@contextmanager
def _row_lock(storage: RDBStorage, study: str) -> Iterator[None]:
    """For a server: a row of a table of ours, since optuna locks its own."""
    import sqlalchemy as sql

    locks = sql.Table("hydratune_locks", sql.MetaData(), sql.Column("study", sql.String(250), primary_key=True))
    mine = locks.c.study == study
    with contextlib.suppress(sql.exc.SQLAlchemyError):  # another process made it at the same time
        locks.create(storage.engine, checkfirst=True)
    with contextlib.suppress(sql.exc.IntegrityError), storage.engine.begin() as connection:
        if connection.execute(sql.select(locks).where(mine)).first() is None:
            connection.execute(locks.insert().values(study=study))
    with storage.engine.begin() as connection:
        connection.execute(sql.select(locks).where(mine).with_for_update())
        yield


# --- signs of life ---------------------------------------------------------------------------------------


class HeartbeatMonitor:
    """Tells who gives no sign of life any more.

    Somebody is silent once the last sign has not changed while this process looked, by a clock that nobody sets. Times
    in the database are only compared with each other: a clock that jumps makes no dead worker of a live one.
    """

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[Any, float]] = {}  # who -> the last sign, and when it was first seen

    def is_silent(self, who: Any, sign: Any) -> bool:
        """Whether somebody's last sign of life is as old as it may be, or older."""
        now = time.monotonic()
        if who not in self._seen or self._seen[who][0] != sign:
            self._seen[who] = (sign, now)
        return now - self._seen[who][1] > GRACE


def sign_of_life(storage: RDBStorage, trial_id: int) -> Any:
    """The last one of the worker of a trial."""
    import sqlalchemy as sql
    from optuna.storages._rdb.models import TrialHeartbeatModel

    column = TrialHeartbeatModel.heartbeat
    with storage.engine.connect() as connection:
        return connection.execute(sql.select(column).where(TrialHeartbeatModel.trial_id == trial_id)).scalar()
