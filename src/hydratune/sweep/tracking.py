"""MLflow run of a whole sweep, with its trials nested below: the best trial, counts of states, and the report."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Self

from omegaconf import DictConfig

from hydratune.config.instantiate import build
from hydratune.sweep.plan import values_of
from hydratune.sweep.report import page, results
from hydratune.sweep.report.note import sweep_note
from hydratune.sweep.storage import BEAT, HeartbeatMonitor, retry
from hydratune.sweep.study import PARENT, Study
from hydratune.tracking.base import NoTracking, RunInfo, RunLog, Tracking
from hydratune.tracking.journal import Journal
from hydratune.tracking.runs_view import DIRECTION, OBJECTIVE
from hydratune.training.job import GROUPS
from hydratune.utils import process
from hydratune.utils.files import OUT_OF_FOLD
from hydratune.utils.short_forms import setting_text

log = logging.getLogger(__name__)

SIGN = "hydratune.sign"  # attribute of a study: the last heartbeat of the process that records it


class TrialsFailedError(RuntimeError):
    """Error for failed trials of a sweep; the other trials remain valid."""


class SweepRun:
    """Context manager that records a sweep.

    Args:
        study: Study of the sweep.
        cfg: Config that its trials share; None if another process records the sweep.
    """

    def __init__(self, study: Study, cfg: DictConfig | None) -> None:
        self._study, self._cfg = study, cfg
        self._tracking: Tracking = build(cfg.tracking) if cfg else NoTracking()
        self._log = RunLog()
        self._context: AbstractContextManager[RunLog] | None = None
        self._last: object = None
        self._seen_states: set[str] = set()  # a chart of a state that never occurs would be a flat line
        self._watch, self._looked = HeartbeatMonitor(), time.monotonic()

    def __enter__(self) -> Self:
        directory, parent = self._study.plan.directory, self._study.attributes().get(PARENT)
        is_local = parent is None or (process.is_here(parent) and parent["directory"] == str(directory))
        if (not is_local or Journal(directory).has_ended()) and self._study.is_done():
            return self
        if is_local or process.is_gone(parent or {}):
            self._begin(parent)
        return self

    def _begin(self, parent: Mapping[str, Any] | None) -> None:
        """Record the sweep from now on, in the run that `parent` describes, unless another process was faster."""
        if self._cfg is None:
            return
        directory = self._study.plan.directory
        key = parent["key"] if parent else Journal(directory).key or uuid.uuid4().hex
        new_parent = {"key": key, **process.tags(), "directory": str(directory)}
        if isinstance(self._tracking, NoTracking) or self._study.replace(PARENT, parent, new_parent):
            self._context = self._tracking.start(_facts(self._study, self._cfg, key))
            self._log = self._context.__enter__()

    def _give_sign(self) -> None:
        """Send a heartbeat to other machines, or take over from a recording process that is silent."""
        if time.monotonic() - self._looked < BEAT:
            return
        self._looked = time.monotonic()
        attributes = self._study.attributes()
        if self._context is not None:
            retry(lambda: self._study.study.set_user_attr(SIGN, self._looked))
        elif PARENT in attributes and self._watch.is_silent(PARENT, attributes.get(SIGN)):
            self._begin(attributes[PARENT])

    def update(self, found: Sequence[results.TrialRow]) -> None:
        """Record the changes since the last call."""
        self._give_sign()
        plan, states = self._study.plan, results.counts(found)
        if self._context is None or states == self._last:
            return
        self._last = states
        self._seen_states |= {state for state, count in states.items() if count}
        values = {f"trials_{state}": float(count) for state, count in states.items() if state in self._seen_states}
        best = results.pareto_front(plan, found)
        if best:
            values |= {
                f"trials_best_{name.removeprefix('eval_')}": value
                for name, value in zip(plan.objectives, best[0].values, strict=True)
            }
            best_tags = {f"best.{plan.short_names[name]}": setting_text(value) for name, value in best[0].point.items()}
            self._log.tags({"best_trial": str(best[0].number), **best_tags})
        self._log.note(sweep_note(self._study, found))
        self._log.metrics(values, step=results.ended(found))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._tracking.deliver(self._study.plan.directory)
        if self._context is None:
            return
        if kind is not None:  # workers have ended with this process
            self._tracking.mark_dead_runs_killed()
        rows = results.rows(self._study.plan, self._study.trials())
        self.update(rows)
        if kind is None:
            self._report()
        failed_rows = [row for row in rows if row.state == results.FAILED]
        if kind is None and failed_rows:
            error = TrialsFailedError(
                f"{len(failed_rows)} of {len(rows)} trials failed; the first: {failed_rows[0].error}"
            )
            with suppress(TrialsFailedError):
                self._context.__exit__(type(error), error, None)
        else:
            self._context.__exit__(kind, error, trace)

    def _report(self) -> None:
        plan = self._study.plan
        for row in results.pareto_front(plan, results.rows(plan, self._study.trials())):
            if (path := plan.directory / row.folder / OUT_OF_FOLD).is_file():
                self._log.artifact(path, f"out_of_fold/trial={row.number}")
        try:
            for path in page.write(self._study):
                self._log.artifact(path, page.REPORT)
        except Exception:  # all results are saved, and `hydratune sweep report` can try again
            log.exception("sweep: no report")


def _facts(study: Study, cfg: DictConfig, key: str) -> RunInfo:
    """Return the name, parameters, and tags of the run of the whole sweep."""
    plan, options = study.plan, study.options
    choices = cfg.hydra.runtime.choices
    swept = {key for parameter in plan.space.parameters for key in parameter.keys}
    params: dict[str, object] = {group: choices[group] for group in GROUPS if choices.get(group) and group not in swept}
    params |= {f"sweep.{plan.short_names[parameter.name]}": values_of(parameter) for parameter in plan.space.parameters}
    params |= {"sweep": choices.get("sweep"), "trials": study.total(), "pruner": options.pruner}
    if plan.seeds:
        params["seeds"] = ",".join(map(str, plan.seeds))
    if plan.folds:
        params |= {"folds": plan.folds, "repeats": plan.repeats}
    name, direction = next(iter(plan.objectives.items()))
    return RunInfo(plan.name, plan.directory, params, {OBJECTIVE: name, DIRECTION: direction[:3]}, key)
