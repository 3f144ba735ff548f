"""The sweep's own run in MLflow, under which its trials are nested: what is best, how many are where, the report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Self

from omegaconf import DictConfig

from hydratune.build import build
from hydratune.facts import GROUPS
from hydratune.sweep import board, report
from hydratune.sweep.plan import values_of
from hydratune.sweep.show import short_name
from hydratune.sweep.space import said, short
from hydratune.sweep.storage import patiently
from hydratune.sweep.study import PARENT, Study
from hydratune.tracking import process
from hydratune.tracking.base import Facts, NoTracking, RunLog, Tracking
from hydratune.tracking.journal import Journal
from hydratune.tracking.view import DIRECTION, OBJECTIVE

log = logging.getLogger(__name__)


class TrialsFailedError(RuntimeError):
    """Some trials of a sweep failed; the others are as good as ever."""


class Recorded:
    """Records a sweep as long as the context lasts; nothing without a config.

    Args:
        study: Of the sweep.
        cfg: What its trials have in common; None where another process records it.
    """

    def __init__(self, study: Study, cfg: DictConfig | None) -> None:
        self._study, self._cfg = study, cfg
        self._tracking: Tracking = build(cfg.tracking) if cfg else NoTracking()
        self._log = RunLog()
        self._context: AbstractContextManager[RunLog] | None = None
        self._last: object = None

    def __enter__(self) -> Self:
        plan, journal = self._study.plan, Journal(self._study.plan.directory)
        known = self._study.attributes().get(PARENT)
        elsewhere = known and not (process.is_here(known) and known["directory"] == str(plan.directory))
        if self._cfg is None or elsewhere or (journal.is_over() and self._study.is_done()):
            return self
        self._context = self._tracking.start(_facts(self._study, self._cfg))
        self._log = self._context.__enter__()
        key = Journal(plan.directory).key
        if known is None and key:
            where = {**process.tags(), "directory": str(plan.directory)}
            patiently(lambda: self._study.study.set_user_attr(PARENT, {"key": key, **where}))
        return self

    def update(self, found: Sequence[board.Row]) -> None:
        """Records what has changed since the last time."""
        plan, states = self._study.plan, board.counts(found)
        if self._context is None or states == self._last:
            return
        if self._last is not None:  # workers train meanwhile
            report.prepare()
        self._last = states
        values = {f"trials_{state}": float(count) for state, count in states.items()}
        best = board.front(plan, found)
        if best:
            values |= {
                f"best_{short_name(name)}": value for name, value in zip(plan.objectives, best[0].values, strict=True)
            }
            told = {f"best.{short(name)}": said(value) for name, value in best[0].point.items()}
            note = f"Best: trial {best[0].number}, {best[0].name}. Table and plots: artifacts, report/."
            self._log.tags({"best_trial": str(best[0].number), **told, "mlflow.note.content": note})
        self._log.metrics(values, step=board.ended(found))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._tracking.deliver(self._study.plan.directory)
        if self._context is None:
            return
        if kind is not None:  # workers were ended with this process
            self._tracking.heal()
        found = board.rows(self._study.plan, self._study.trials())
        self.update(found)
        if kind is None:
            self._report()
        failed = [row for row in found if row.state == board.FAILED]
        if kind is None and failed:
            error = TrialsFailedError(f"{len(failed)} of {len(found)} trials failed; the first: {failed[0].error}")
            with suppress(TrialsFailedError):
                self._context.__exit__(type(error), error, None)
        else:
            self._context.__exit__(kind, error, trace)

    def _report(self) -> None:
        try:
            for path in report.write(self._study):
                self._log.artifact(path, report.REPORT)
        except Exception:  # all that was trained is there, and `hydratune sweep report` tries again
            log.exception("sweep: no report")


def _facts(study: Study, cfg: DictConfig) -> Facts:
    """What the parent's run shows of the sweep."""
    plan, options = study.plan, study.options
    choices = cfg.hydra.runtime.choices
    swept = {key for one in plan.space.parameters for key in one.keys}
    params: dict[str, object] = {group: choices[group] for group in GROUPS if choices.get(group) and group not in swept}
    params |= {f"sweep.{short(one.name)}": values_of(one) for one in plan.space.parameters}
    params |= {"sweep": choices.get("sweep"), "trials": study.total(), "pruner": options.pruner}
    if plan.seeds:
        params["seeds"] = ",".join(map(str, plan.seeds))
    name, direction = next(iter(plan.objectives.items()))
    return Facts(plan.name, plan.directory, params, {OBJECTIVE: name, DIRECTION: direction[:3]})
