"""Study that all workers of a sweep share: it assigns trials to workers, and knows which trials remain.

A trial is one configuration, with its own directory, checkpoints, and MLflow runs. If its worker dies, another worker
takes the trial over under the same number. An interrupted sweep therefore ends with the same trials as an
uninterrupted one. All decisions are made under a lock.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.sweep import storage, stored_trials
from hydratune.sweep.config import Sweep
from hydratune.sweep.plan import Plan
from hydratune.sweep.replicates import Replicate
from hydratune.sweep.storage import BEAT, retry, untested_warnings_off
from hydratune.sweep.stored_plan import check_same
from hydratune.utils import process
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import CHECKPOINTS
from hydratune.utils.provenance import redact

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)

IDENTITY, PARENT, ROWS = "hydratune.identity", "hydratune.parent", "hydratune.rows"  # attributes of a study
OWNER, FAILURES, INTERRUPTIONS, SECONDS = "owner", "failures", "interruptions", "seconds"  # attributes of a trial
ERROR, TRACEBACK = "error", "traceback"
EVALUATIONS = "evaluations"  # attribute of a trial: the number of evaluations of each completed run
VALUES, METRICS, PROGRESS, FOLDER, AGAIN = "values", "metrics", "progress", "folder", "again"
_LONGEST_ERROR = 3000  # characters


class ChangedDataError(ConfigError):
    """Error for data that differ from those of the first trials of a sweep, so that values are not comparable."""


@dataclass(frozen=True)
class ClaimedTrial:
    """Trial that this worker trains.

    Args:
        trial: Trial of the study.
        point: Parameter -> label.
        directory: Directory of its files.
    """

    trial: Trial
    point: Mapping[str, Any]
    directory: Path

    def run_directory(self, replicate: Replicate) -> Path:
        """Return the directory of the run of a replicate; the trial's own if it is the only one."""
        return self.directory / replicate.folder


class Study:
    """Study of one sweep in its storage."""

    def __init__(self, plan: Plan, options: Sweep, *, waits: bool = False) -> None:
        """Open or create the study; `waits` says that the storage existed before, so that it will come back.

        Raises:
            ConfigError: If the storage cannot be opened, or has a different sweep of this name.
        """
        import optuna

        self.plan, self.options = plan, options
        self.url = options.storage or default_storage(plan.directory)
        self.me = uuid.uuid4().hex
        self._claimed: set[int] = set()
        self._watch = storage.HeartbeatMonitor()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with storage.file_lock(self.url) or contextlib.nullcontext():
            self.storage = storage.connect(self.url, waits=waits)
            self.study = retry(self._open)

    def _open(self) -> optuna.Study:
        import optuna

        plan, options = self.plan, self.options
        with untested_warnings_off():
            pruner = options.optuna_pruner()
        study = optuna.create_study(
            storage=self.storage,
            study_name=plan.name,
            directions=[*plan.objectives.values()],  # type: ignore[list-item]
            pruner=pruner,
            load_if_exists=True,
        )
        identity = stored_trials.read_attributes(study).get(IDENTITY)
        if identity is None:
            study.set_user_attr(IDENTITY, dict(plan.identity))
            with untested_warnings_off():
                study.set_metric_names(list(plan.objectives))
        else:
            check_same(plan, identity, redact(self.url) if options.storage else str(plan.directory))
        return study

    # --- state ---

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that count: of a failed trial and its retries, only the last one."""
        return retry(self._trials)

    def all_trials(self) -> list[FrozenTrial]:
        """Return all trials, with those that a retry has replaced."""
        return stored_trials.read_trials(self.study, [parameter.name for parameter in self.plan.space.parameters])

    def _trials(self) -> list[FrozenTrial]:
        trials = self.all_trials()
        retried = {trial.user_attrs[AGAIN] for trial in trials if AGAIN in trial.user_attrs}
        return [trial for trial in trials if trial.number not in retried]

    def total(self) -> int | None:
        """Return the number of trials in the whole sweep; None if only `hours` limits it."""
        if self.options.sampler is not None:
            return self.options.n_trials
        points = len(self._grid)
        return min(points, self.options.n_trials or points)

    @cached_property
    def _grid(self) -> list[dict[str, Any]]:
        """Points of a grid, in the order of the trials."""
        return self.options.in_order(self.plan.space.grid())

    def is_done(self) -> bool:
        """Return whether every trial has ended and none is left to start."""
        trials = self.trials()
        return all(trial.state.is_finished() for trial in trials) and self._next(trials) is None

    def has_work(self) -> bool:
        """Return whether a worker would find a trial to train now."""
        return retry(self._has_work)

    def _has_work(self) -> bool:
        with self._lock():
            self._free_the_silent()
            return self._next(self._trials()) is not None

    def attributes(self) -> Mapping[str, Any]:
        """Return the attributes of the study."""
        return retry(lambda: stored_trials.read_attributes(self.study))

    def replace(self, name: str, known: Any, new: Any) -> bool:
        """Set an attribute of the study to `new` if it is `known`; return whether it is `new` now: one process wins."""

        def swap() -> bool:
            with self._lock():
                if self.study.user_attrs.get(name) not in (known, new):
                    return False
                self.study.set_user_attr(name, new)
                return True

        return retry(swap)

    def directory(self, trial: FrozenTrial | Trial) -> Path:
        """Return the directory of a trial's files."""
        return self.plan.directory / folder_of(trial)

    def checkpoints(self, directory: Path) -> list[Path]:
        """Return the existing checkpoint folders of the runs of a trial, given the trial's directory."""
        runs = (directory / replicate.folder for replicate in self.plan.replicates)
        return [run / CHECKPOINTS for run in runs if (run / CHECKPOINTS).is_dir()]

    def _is_worth_another(self, trial: FrozenTrial) -> bool:
        return trial.state.name == "FAIL" and trial.user_attrs.get(FAILURES, 1) <= self.options.max_retries

    def _may_begin(self, trials: Sequence[FrozenTrial]) -> bool:
        total = self.total()
        spent = sum(trial.user_attrs.get(SECONDS, 0) for trial in trials)
        in_time = self.options.max_hours is None or spent < self.options.max_hours * 3600
        return (total is None or len(trials) < total) and in_time

    def check_rows(self, name: str, digests: Mapping[str, str]) -> None:
        """Raise ChangedDataError if earlier trials of the sweep used other rows of this dataset."""
        key = f"{ROWS}.{name[:16]}"
        before = self.attributes().get(key)
        if before is None:
            retry(lambda: self.study.set_user_attr(key, dict(digests)))
        elif changed := [split for split in before if before[split] != digests.get(split)]:
            text = f"the {' and '.join(changed)} rows have changed since the sweep began"
            raise ChangedDataError(Problem("dataset", text, "restore the rows, or set sweep.name=NAME for a new sweep"))

    # --- operations of a worker ---

    def claim(self) -> ClaimedTrial | None:
        """Return the next trial to train: an interrupted one, a new one, or a failed one; None if none is left."""
        claim = retry(self._claim)
        if claim:
            self._claimed.add(claim.trial._trial_id)
        return claim

    def _claim(self) -> ClaimedTrial | None:
        with self._lock():
            self._free_the_silent()
            claim_next = self._next(self._trials())
            return claim_next() if claim_next else None

    def finish(self, claim: ClaimedTrial, values: Sequence[float] | None, metrics: Mapping[str, Any]) -> bool:
        """Report the result of a trial if this worker still owns it, and return whether the study accepted it.

        `values` is None for a pruned trial. Values that are not finite make the trial fail.
        """
        if any(not math.isfinite(value) for value in values or ()):
            self.fail(claim, f"the objective is not finite: {list(values or ())}")
            return False
        numbers = {name: v for name, v in metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
        return self._end(claim, {METRICS: numbers}, "PRUNED" if values is None else "COMPLETE", values)

    def fail(self, claim: ClaimedTrial, error: str, trace: str = "") -> None:
        """Record a failure; the trial is released for a retry, or fails permanently if no retry is left."""
        failures = self.noted(claim).get(FAILURES, 0) + 1
        attributes = {ERROR: error[:_LONGEST_ERROR], TRACEBACK: trace[-_LONGEST_ERROR:], FAILURES: failures}
        self._end(claim, attributes, "FAIL" if failures > self.options.max_retries else None, None)

    def _end(
        self, claim: ClaimedTrial, attributes: Mapping[str, Any], state: str | None, values: Sequence[float] | None
    ) -> bool:
        """Record the end of a trial if this worker still owns it; without a state, release the trial for a retry."""
        from optuna.trial import TrialState

        def end() -> bool:
            with self._lock():
                if not self._is_mine(claim):
                    return False
                for name, value in attributes.items():
                    claim.trial.set_user_attr(name, value)
                if state:
                    self.study.tell(claim.trial, values, TrialState[state], skip_if_finished=True)
                else:
                    claim.trial.set_user_attr(OWNER, None)
                return True

        ended = retry(end)
        self._claimed.discard(claim.trial._trial_id)
        return ended

    def release(self, claim: ClaimedTrial, *, is_interrupted: bool) -> None:
        """Release an unfinished trial for another worker.

        Args:
            claim: The trial.
            is_interrupted: Whether a signal ended the worker: neither a success nor a failure of the trial.
        """
        with contextlib.suppress(Exception), self._lock():
            if self._is_mine(claim):
                if is_interrupted:
                    claim.trial.set_user_attr(INTERRUPTIONS, claim.trial.user_attrs.get(INTERRUPTIONS, 0) + 1)
                claim.trial.set_user_attr(OWNER, None)

    def noted(self, claim: ClaimedTrial) -> Mapping[str, Any]:
        """Return the attributes of a trial."""
        return retry(lambda: claim.trial.user_attrs)

    def note(self, claim: ClaimedTrial, name: str, value: Any) -> None:
        """Set an attribute of a trial."""
        retry(lambda: claim.trial.set_user_attr(name, value))

    @contextmanager
    def heartbeat(self, claim: ClaimedTrial) -> Iterator[None]:
        """Send heartbeats of a trial, for workers on other machines."""
        ended = threading.Event()

        def beat() -> None:
            while True:
                with contextlib.suppress(Exception):
                    self.storage.record_heartbeat(claim.trial._trial_id)
                if ended.wait(BEAT):
                    return

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _next(self, trials: Sequence[FrozenTrial]) -> Callable[[], ClaimedTrial] | None:
        """Return a function that claims the next trial, or None if none is left; failed trials come last."""
        free = [trial for trial in trials if not trial.state.is_finished() and self._is_free(trial)]
        if interrupted := [trial for trial in free if not trial.user_attrs.get(FAILURES)]:
            return lambda: self._own(interrupted[0])
        if self._may_begin(trials):
            return lambda: self._begin(len(trials))
        if free:
            return lambda: self._own(free[0])
        if failed := [trial for trial in trials if self._is_worth_another(trial)]:
            return lambda: self._again(failed[0])
        return None

    def _begin(self, number: int) -> ClaimedTrial:
        """Claim a new trial: the next point of the grid, or a point that the sampler draws."""
        if self.options.sampler is None:
            return self._make(self._grid[number], {})
        return self._own(None, number)

    def _again(self, failed: FrozenTrial) -> ClaimedTrial:
        """Claim a retry of a trial that failed permanently: a new trial that replaces it, in the same directory."""
        attributes = {FOLDER: self.directory(failed).name, AGAIN: failed.number}
        counters = {name: failed.user_attrs[name] for name in (FAILURES, SECONDS) if name in failed.user_attrs}
        return self._make(failed.params, {**attributes, **counters})

    def _make(self, point: Mapping[str, Any], attributes: Mapping[str, Any]) -> ClaimedTrial:
        """Create a trial of a known point, owned from the start: one commit, where a sampler takes many."""
        from optuna.trial import FixedTrial, Trial, TrialState, create_trial

        fixed_trial = FixedTrial(dict(point))
        self.plan.space.suggest(fixed_trial)
        trial = create_trial(
            state=TrialState.RUNNING,
            params=fixed_trial.params,
            distributions=fixed_trial.distributions,
            user_attrs={**attributes, OWNER: self._owner()},
        )
        return self._as_claim(Trial(self.study, self.storage.create_new_trial(self.study._study_id, trial)))

    def _own(self, frozen: FrozenTrial | None, number: int = 0) -> ClaimedTrial:
        from optuna.trial import Trial

        with untested_warnings_off():
            self.study.sampler = self.options.optuna_sampler(frozen.number if frozen else number)
        if frozen is None or frozen.state.name == "WAITING":
            trial = self.study.ask()
        else:
            trial = Trial(self.study, frozen._trial_id)
        self.storage.record_heartbeat(trial._trial_id)  # first, since the heartbeat of the previous worker is old
        trial.set_user_attr(OWNER, self._owner())
        return self._as_claim(trial)

    def _owner(self) -> Mapping[str, Any]:
        return {**process.tags(), "worker": self.me}

    def _as_claim(self, trial: Trial) -> ClaimedTrial:
        return ClaimedTrial(trial, self.plan.space.suggest(trial), self.directory(trial))

    def _is_free(self, trial: FrozenTrial) -> bool:
        """Return whether an unfinished trial has no worker."""
        owner = trial.user_attrs.get(OWNER)
        if not owner or process.is_gone(owner):
            return True
        # This worker owns the trial but does not train it: the storage failed during the claim.
        return owner["worker"] == self.me and trial._trial_id not in self._claimed

    def _free_the_silent(self) -> None:
        """Release the trials whose workers on other machines are silent."""
        for trial in self._trials():
            owner = None if trial.state.is_finished() else trial.user_attrs.get(OWNER)
            if not owner or process.is_here(owner):
                continue
            if self._watch.is_silent(trial._trial_id, storage.sign_of_life(self.storage, trial._trial_id)):
                log.warning("sweep: trial %d: released, since %s sends no heartbeat", trial.number, owner[process.HOST])
                self.storage.set_trial_user_attr(trial._trial_id, OWNER, None)

    def _is_mine(self, claim: ClaimedTrial) -> bool:
        """Return whether a trial is unfinished, and no other worker, to which this one seemed dead, took it over."""
        trial = self.storage.get_trial(claim.trial._trial_id)
        owner = (trial.user_attrs.get(OWNER) or {}).get("worker")
        if owner not in (self.me, None):
            log.warning("sweep: trial %d: another worker has taken it over", claim.trial.number)
        return owner == self.me and not trial.state.is_finished()

    def _lock(self) -> AbstractContextManager[Any]:
        return storage.lock(self.storage, self.url, self.plan.name)


def folder_of(trial: FrozenTrial | Trial) -> str:
    """Return the name of the folder of a trial's files: its number, or that of the trial that it replaces.

    Raises:
        ConfigError: If the study, which may come from someone else, has another text there, e.g. a path.
    """
    folder = str(trial.user_attrs.get(FOLDER, trial.number))
    if not re.fullmatch(r"[0-9]{1,9}", folder, re.ASCII):
        text = f"the sweep's database is invalid: {folder!r} as the folder of a trial"
        raise ConfigError(Problem("SWEEP", text, "restore the database, or start a new sweep"))
    return folder


def default_storage(directory: Path) -> str:
    """Return the address of an SQLite file in the sweep's directory."""
    return f"sqlite:///{directory.absolute()}/study.db"
