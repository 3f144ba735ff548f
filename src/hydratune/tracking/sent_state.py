"""State that a run in a store has after the upload of a part of its journal.

A store that was restored from a backup lacks what was uploaded after the backup, although the journal says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydratune.tracking.entries import Point
from hydratune.tracking.journal import Journal, Sent
from hydratune.utils import process

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_RUNNING = "RUNNING"  # MLflow's status


@dataclass(frozen=True)
class SentState:
    """State of a run that a part of its journal implies.

    Args:
        params: Names of the params.
        latest: Name of a metric -> its point with the highest step.
        has_ended: Whether the last start of the run has ended.
    """

    params: frozenset[str]
    latest: dict[str, Point]
    has_ended: bool

    def is_in(self, client: MlflowClient, run: Run) -> bool:
        """Return whether a run of the store has this state, or a later one."""
        is_marked_dead = self.has_ended and process.HEALED in run.data.tags
        if is_marked_dead or (self.has_ended and run.info.status == _RUNNING):
            return False
        if not self.params <= run.data.params.keys():
            return False
        # A run that another machine has begun has its values, so that only the steps can be compared.
        others = (point for point in self.latest.values() if not _is_value(run.data.metrics.get(point.name), point))
        return all(
            any(metric.step == point.step for metric in client.get_metric_history(run.info.run_id, point.name))
            for point in others
        )


def sent_state(journal: Journal, sent: Sent) -> SentState:
    """Return the state of a run after the upload of a journal up to `sent`, leaving out what the store rejected."""
    params, latest, has_ended = set[str](), dict[str, Point](), False
    for entry in journal.entries(0):
        if entry.end > sent.end:
            break
        if entry.kind in ("run", "continue", "status"):
            has_ended = entry.kind == "status"
        elif entry.kind == "params" and "params" not in sent.refused:
            params |= entry.values["params"].keys()
        elif entry.kind == "metrics":
            for point in entry.values["points"]:
                is_refused = refused_metric(point.name, point.step) in sent.refused
                if not is_refused and (point.name not in latest or latest[point.name].step <= point.step):
                    latest[point.name] = point
    return SentState(frozenset(params), latest, has_ended)


def refused_metric(name: str, step: int) -> str:
    """Return the description of a point that a store has refused."""
    return f"metric {name} at step {step}"


def _is_value(stored: float | None, point: Point) -> bool:
    """Return whether a stored value is that of a point, as precisely as databases store it."""
    if stored is None:
        return False
    return math.isclose(stored, point.value, rel_tol=1e-6) or (math.isnan(stored) and math.isnan(point.value))
