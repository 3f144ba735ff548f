"""The study that all workers of a sweep share: which trial is whose, and what is left to do.

A trial is one configuration. Its directory, its checkpoints and its MLflow runs are its own for good: a trial whose
worker is gone is not begun anew under another number but taken over, so that a sweep that was killed ends with the
same trials as one that was not. Whatever is decided is decided under a lock.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from hydratune.errors import ConfigError, Mistake, one_line
from hydratune.provenance import redact
from hydratune.sweep.options import Sweep
from hydratune.sweep.plan import Plan, check_same
from hydratune.tracking import process

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)
T = TypeVar("T")

IDENTITY, PARENT, ROWS = "hydratune.identity", "hydratune.parent", "hydratune.rows"  # attributes of a study
OWNER, FAILURES, SECONDS = "owner", "failures", "seconds"  # of a trial
ERROR, TRACEBACK = "error", "traceback"
VALUES, METRICS, PROGRESS, FOLDER, AGAIN = "values", "metrics", "progress", "folder", "again"
_BEAT, _GRACE = 15, 120  # seconds between two signs of life; without one that long a worker elsewhere is gone
_SQLITE_WAIT = 600  # seconds for a lock that another process holds
_LONGEST_ERROR = 3000  # characters
_PATIENCE = 900  # seconds for a storage that does not answer


class ChangedDataError(ConfigError):
    """The data of a sweep are no longer those of its first trials, so that values cannot be compared."""


@dataclass(frozen=True)
class Claim:
    """A trial that this worker trains.

    Args:
        trial: Of the study.
        point: Parameter -> label.
        directory: Of its files.
    """

    trial: Trial
    point: Mapping[str, Any]
    directory: Path

    def run_directory(self, seed: int | None) -> Path:
        """Of the files of its run with this seed."""
        return self.directory if seed is None else self.directory / f"seed={seed}"


class Study:
    """One sweep's study in its storage."""

    def __init__(self, plan: Plan, options: Sweep) -> None:
        """Opens the study, or makes it.

        Raises:
            ConfigError: Where the storage cannot be opened, or has another sweep under this name.
        """
        import optuna

        self.plan, self.options = plan, options
        self.url = options.storage or default_storage(plan.directory)
        self._me = uuid.uuid4().hex
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._file_lock() or contextlib.nullcontext():
            self.storage = _answering(self.url)
            with _untested_warnings_off():
                pruner = options.optuna_pruner()
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=plan.name,
                directions=[*plan.objectives.values()],  # type: ignore[list-item]
                pruner=pruner,
                load_if_exists=True,
            )
            known = self.study.user_attrs.get(IDENTITY)
            if known is None:
                self.study.set_user_attr(IDENTITY, dict(plan.identity))
                with _untested_warnings_off():
                    self.study.set_metric_names(list(plan.objectives))
            else:
                check_same(plan, known, redact(self.url) if options.storage else str(plan.directory))

    # --- what there is ---

    def trials(self) -> list[FrozenTrial]:
        """All trials that count: of those that were tried again after they had failed, the last."""
        trials = patiently(lambda: self.study.get_trials(deepcopy=False))
        again = {trial.user_attrs[AGAIN] for trial in trials if AGAIN in trial.user_attrs}
        return [trial for trial in trials if trial.number not in again]

    def total(self) -> int | None:
        """How many trials there will be; None where hours count alone."""
        if self.options.sampler is not None:
            return self.options.n_trials
        points = len(self._grid)
        return min(points, self.options.n_trials or points)

    @cached_property
    def _grid(self) -> list[dict[str, Any]]:
        """The points of a grid in the order in which they are tried."""
        return self.options.in_order(self.plan.space.grid())

    def is_done(self) -> bool:
        """Whether every trial has ended and none is left to begin."""
        trials = self.trials()
        return all(trial.state.is_finished() for trial in trials) and self._next(trials) is None

    def has_work(self) -> bool:
        """Whether a worker would find a trial to train now."""
        return self._next(self.trials()) is not None

    def directory(self, trial: FrozenTrial) -> Path:
        """Of a trial's files."""
        return self.plan.directory / str(trial.user_attrs.get(FOLDER, trial.number))

    def _is_worth_another(self, trial: FrozenTrial) -> bool:
        """Whether a trial failed, and may be tried again."""
        return trial.state.name == "FAIL" and trial.user_attrs.get(FAILURES, 1) <= self.options.retries

    def _may_begin(self, trials: Sequence[FrozenTrial]) -> bool:
        total = self.total()
        spent = sum(trial.user_attrs.get(SECONDS, 0) for trial in trials)
        in_time = self.options.hours is None or spent < self.options.hours * 3600
        return (total is None or len(trials) < total) and in_time

    def check_rows(self, name: str, digests: Mapping[str, str]) -> None:
        """Raises ChangedDataError where the sweep has seen other rows of these data before."""
        key = f"{ROWS}.{name[:16]}"
        before = patiently(lambda: self.study.user_attrs).get(key)
        if before is None:
            patiently(lambda: self.study.set_user_attr(key, dict(digests)))
        elif changed := [split for split in before if before[split] != digests.get(split)]:
            fix = "Bring the rows back, or set sweep.name=NAME for a new sweep."
            raise ChangedDataError(
                Mistake("dataset", "the rows that the sweep began with", f"others in {', '.join(changed)}", fix)
            )

    # --- what a worker does ---

    def claim(self) -> Claim | None:
        """The next trial to train: one whose worker is gone, a new one, or one that failed; None where none is left."""
        with self._lock():
            take = self._next(self.trials())
            return take() if take else None

    def finish(self, claim: Claim, values: Sequence[float] | None, metrics: Mapping[str, Any]) -> None:
        """Tells the study what a trial came to; `values` is None for one that was pruned."""
        if any(not math.isfinite(value) for value in values or ()):
            self.fail(claim, f"the objective is {list(values or ())}")
            return
        with self._lock():
            if self._is_mine(claim):
                numbers = {name: v for name, v in metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
                self.note(claim, METRICS, numbers)
                from optuna.trial import TrialState

                state = TrialState.PRUNED if values is None else TrialState.COMPLETE
                self._tell(claim, state, values)

    def fail(self, claim: Claim, error: str, trace: str = "") -> None:
        """Remembers a failure; the trial is free to be tried again, or has failed for good."""
        from optuna.trial import TrialState

        with self._lock():
            if self._is_mine(claim):
                failures = claim.trial.user_attrs.get(FAILURES, 0) + 1
                self.note(claim, ERROR, error[:_LONGEST_ERROR])
                self.note(claim, TRACEBACK, trace[-_LONGEST_ERROR:])
                self.note(claim, FAILURES, failures)
                self.note(claim, OWNER, None)
                if failures > self.options.retries:
                    self._tell(claim, TrialState.FAIL, None)

    def release(self, claim: Claim) -> None:
        """Leaves a trial that was cut off to whoever comes next."""
        with contextlib.suppress(Exception), self._lock():
            if self._is_mine(claim):
                self.note(claim, OWNER, None)

    def note(self, claim: Claim, name: str, value: Any) -> None:
        """Writes an attribute of a trial down."""
        patiently(lambda: claim.trial.set_user_attr(name, value))

    @contextmanager
    def beating(self, claim: Claim) -> Iterator[None]:
        """Gives signs of life of a trial, for workers on other machines."""
        ended = threading.Event()

        def beat() -> None:
            while True:
                with contextlib.suppress(Exception):
                    self.storage.record_heartbeat(claim.trial._trial_id)
                if ended.wait(_BEAT):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _next(self, trials: Sequence[FrozenTrial]) -> Callable[[], Claim] | None:
        """How to take the next trial; those that failed come last."""
        free = [trial for trial in trials if not trial.state.is_finished() and self._is_free(trial)]
        if cut_off := [trial for trial in free if not trial.user_attrs.get(FAILURES)]:
            return lambda: self._own(cut_off[0])
        if self._may_begin(trials):
            return lambda: self._begin(len(trials))
        if free:
            return lambda: self._own(free[0])
        if failed := [trial for trial in trials if self._is_worth_another(trial)]:
            return lambda: self._again(failed[0])
        return None

    def _begin(self, number: int) -> Claim:
        """A new trial: the next point of the grid, or what the sampler says."""
        if self.options.sampler is None:
            self.study.enqueue_trial(self._grid[number])
        return self._own(None, number)

    def _again(self, failed: FrozenTrial) -> Claim:
        """A trial like one that the study has as failed, in its directory; it takes its place."""
        kept = {FOLDER: self.directory(failed).name, AGAIN: failed.number}
        more = {name: failed.user_attrs[name] for name in (FAILURES, SECONDS) if name in failed.user_attrs}
        self.study.enqueue_trial(failed.params, user_attrs={**kept, **more})
        return self._own(None, failed.number)

    def _own(self, found: FrozenTrial | None, number: int = 0) -> Claim:
        import optuna

        with _untested_warnings_off():
            self.study.sampler = self.options.optuna_sampler(found.number if found else number)
        if found is None or found.state.name == "WAITING":
            trial = patiently(self.study.ask)
        else:
            trial = optuna.trial.Trial(self.study, found._trial_id)
        self.storage.record_heartbeat(trial._trial_id)  # first: an owner without one would be alive for ever
        patiently(lambda: trial.set_user_attr(OWNER, {**process.tags(), "worker": self._me}))
        point = self.plan.space.suggest(trial)
        frozen = self.storage.get_trial(trial._trial_id)
        return Claim(trial, point, self.directory(frozen))

    def _is_free(self, trial: FrozenTrial) -> bool:
        """Whether a trial that is not finished has no worker."""
        owner = trial.user_attrs.get(OWNER)
        if not owner or process.is_gone(owner):
            return True
        return not process.is_here(owner) and trial._trial_id in self._stale()

    def _stale(self) -> set[int]:
        """Trials without a sign of life, by the storage's own clock."""
        return set(self._watching._get_stale_trial_ids(self.study._study_id))

    @cached_property
    def _watching(self) -> optuna.storages.RDBStorage:
        """The storage once more, since optuna warns where one with these settings is asked for a trial."""
        return _open(self.url, heartbeat_interval=_BEAT, grace_period=_GRACE, skip_table_creation=True)

    def _is_mine(self, claim: Claim) -> bool:
        """Whether nobody took the trial over, who thought that this worker was gone."""
        now = patiently(lambda: self.storage.get_trial(claim.trial._trial_id))
        mine = (now.user_attrs.get(OWNER) or {}).get("worker") == self._me and not now.state.is_finished()
        if not mine:
            log.warning("sweep: trial %d belongs to another worker by now", claim.trial.number)
        return mine

    def _tell(self, claim: Claim, state: Any, values: Sequence[float] | None) -> None:
        patiently(lambda: self.study.tell(claim.trial, values, state, skip_if_finished=True))

    # --- the lock ---

    def _lock(self) -> AbstractContextManager[Any]:
        """One decision at a time, among all processes that share the storage; a dead one holds nothing."""
        return self._file_lock() or self._row_lock()

    def _file_lock(self) -> FileLock | None:
        """For a database that is a file: a lock beside it."""
        path = self.url.partition("sqlite:///")[2]
        return FileLock(f"{path}.lock") if path else None

    @contextmanager
    def _row_lock(self) -> Iterator[None]:
        """For a server: a row of a table of ours, since optuna locks its own."""
        import sqlalchemy as sql

        locks = sql.Table("hydratune_locks", sql.MetaData(), sql.Column("study", sql.String(250), primary_key=True))
        mine = locks.c.study == self.plan.name[:250]
        with contextlib.suppress(sql.exc.SQLAlchemyError):  # another process made it at the same time
            locks.create(self.storage.engine, checkfirst=True)
        with contextlib.suppress(sql.exc.IntegrityError), self.storage.engine.begin() as connection:
            if connection.execute(sql.select(locks).where(mine)).first() is None:
                connection.execute(locks.insert().values(study=self.plan.name[:250]))
        with self.storage.engine.begin() as connection:
            connection.execute(sql.select(locks).where(mine).with_for_update())
            yield


def default_storage(directory: Path) -> str:
    """A file in the sweep's directory."""
    return f"sqlite:///{directory.absolute()}/study.db"


def _answering(url: str) -> optuna.storages.RDBStorage:
    """The storage at an address; several processes may make its tables at the same time, of which one wins."""
    from sqlalchemy.exc import SQLAlchemyError

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
def _untested_warnings_off() -> Iterator[None]:
    """Without optuna's notes that something may change in its next version; ours is pinned and tested."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _open(url: str, **more: Any) -> optuna.storages.RDBStorage:
    import optuna
    from sqlalchemy.engine import make_url

    full = make_url(url)
    if full.drivername == "postgresql":  # whose default is the driver before the one that we ask for
        full = full.set(drivername="postgresql+psycopg")
    kwargs: dict[str, Any] = {"pool_pre_ping": True}
    if full.get_backend_name() == "sqlite":
        kwargs = {"connect_args": {"timeout": _SQLITE_WAIT}}
    with _untested_warnings_off():
        return optuna.storages.RDBStorage(full.render_as_string(hide_password=False), engine_kwargs=kwargs, **more)


def patiently(call: Callable[[], T]) -> T:
    """What a call to the storage returns, for which it may be tried for a quarter of an hour."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DatabaseError

    began, pause = time.monotonic(), 0.2
    while True:
        try:
            return call()
        except (DatabaseError, StorageInternalError) as error:
            if time.monotonic() - began > _PATIENCE:
                raise
            if pause > 1:
                log.warning("sweep: the storage does not answer, trying again: %s", str(error).splitlines()[0])
            time.sleep(pause)
            pause = min(2 * pause, 30)
