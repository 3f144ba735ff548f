"""State and results of a sweep, for tables and the tracker."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.config import allowlist
from hydratune.sweep.plan import Plan, label
from hydratune.sweep.study import ERROR, METRICS, OWNER, PROGRESS, SECONDS, TRACEBACK, VALUES, folder_of
from hydratune.tasks.metrics.metric import LOSS
from hydratune.utils.short_forms import metric_name, number_text, ties_text
from hydratune.utils.stats import PROPORTIONS, Interval, Scale, mean_interval

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

DONE, RUNNING, PRUNED, FAILED, WAITING = "done", "running", "pruned", "failed", "waiting"
STATES = (DONE, RUNNING, PRUNED, FAILED, WAITING)
ENDED = (DONE, PRUNED, FAILED)
_STATE = {"COMPLETE": DONE, "RUNNING": RUNNING, "PRUNED": PRUNED, "FAIL": FAILED, "WAITING": WAITING}


@dataclass(frozen=True)
class TrialRow:
    """State of one trial.

    Args:
        number: Number of the trial.
        name: Readable name of its point.
        point: Parameter -> label.
        state: One of STATES.
        values: Values of the objectives; empty unless the trial is done.
        by_seed: Objective -> its value in each replicate so far, which has its own seed or fold.
        seconds: Training time so far.
        progress: Completed share of training, from 0 to 1.
        error: Last error, on one line.
        trace: End of its traceback.
        folder: Folder of its files, below that of the sweep.
        last: Last value that it reported during training; None before the first.
        samples: Number of validation rows; None until the trial ends, or if it is unknown.
    """

    number: int
    name: str
    point: Mapping[str, Any]
    state: str
    values: tuple[float, ...]
    by_seed: Mapping[str, Sequence[float]]
    seconds: float
    progress: float
    error: str
    trace: str
    folder: str
    last: float | None
    samples: int | None = None


def rows(plan: Plan, trials: Sequence[FrozenTrial]) -> list[TrialRow]:
    """Return a row for each trial, in the order of the trials."""
    trial_rows = []
    for trial in trials:
        attrs, reported = trial.user_attrs, [*trial.intermediate_values.values()]
        state = _STATE[trial.state.name]
        waits = state == RUNNING and attrs.get(OWNER) is None
        point = {p.name: trial.params[p.name] for p in plan.space.parameters if p.name in trial.params}
        trial_rows.append(
            TrialRow(
                number=trial.number,
                name=label(point),
                point=point,
                state=WAITING if waits else state,
                values=tuple(trial.values or ()) if state == DONE else (),
                by_seed=attrs.get(VALUES, {}),
                seconds=float(attrs.get(SECONDS, 0)),
                progress=float(attrs.get(PROGRESS, 0)),
                error=attrs.get(ERROR, ""),
                trace=attrs.get(TRACEBACK, ""),
                folder=folder_of(trial),
                last=reported[-1] if reported else None,
                samples=int(attrs.get(METRICS, {}).get("eval_samples", 0)) or None,
            )
        )
    return trial_rows


def scores_text(plan: Plan, row: TrialRow) -> str:
    """Return the values of the objectives of a trial as text; empty unless it is done."""
    names = map(metric_name, plan.objectives)
    return ", ".join(f"{name} {number_text(value)}" for name, value in zip(names, row.values, strict=False))


def ranked(plan: Plan, found: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the completed trials, best first by the first objective."""
    sign = -1 if next(iter(plan.objectives.values())) == "maximize" else 1
    return sorted((row for row in found if row.state == DONE), key=lambda row: (sign * row.values[0], row.number))


def ties(plan: Plan, found: Sequence[TrialRow], best: TrialRow) -> str:
    """Return how many other trials have the value of the best one, as text; empty with several objectives."""
    return ties_text((row.values[0] for row in ranked(plan, found)), best.values[0]) * (len(plan.objectives) == 1)


def pareto_front(plan: Plan, found: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the completed trials that no other trial dominates; with one objective, only the best trial."""
    signs = [-1 if direction == "maximize" else 1 for direction in plan.objectives.values()]
    completed = ranked(plan, found)

    def beats(row: TrialRow, other: TrialRow) -> bool:
        pairs = [(sign * a, sign * b) for sign, a, b in zip(signs, row.values, other.values, strict=True)]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    best = [row for row in completed if not any(beats(other, row) for other in completed)]
    return best[:1] if len(signs) == 1 else best


def scale(plan: Plan, metric: str, rows: int | None) -> Scale:
    """Return the possible values of a metric, and if it is a proportion, the number of rows that it was measured on."""
    kind: Any = allowlist.load(str(plan.identity["task._target_"]), "task._target_")
    metrics = {m.name: m for m in (LOSS, *getattr(kind, "known_metrics", ()))}
    extra = (plan.identity.get(f"task.extra_metrics.{metric}.{end}") for end in ("low", "high"))
    low, high = (metrics[metric].low, metrics[metric].high) if metric in metrics else extra
    limits = (-math.inf if low is None else low, math.inf if high is None else high)
    return Scale(*limits, rows if metric in PROPORTIONS else None)


def mean_of_seeds(plan: Plan, row: TrialRow, objective: str) -> Interval:
    """Return the mean of an objective over the replicates so far, at least one, with its confidence interval."""
    overlap = 1 / (plan.folds - 1) if plan.folds else 0
    return mean_interval(row.by_seed[objective], scale(plan, objective.removeprefix("eval_"), row.samples), overlap)


def counts(found: Sequence[TrialRow]) -> dict[str, int]:
    """Return state -> number of trials."""
    counted = Counter(row.state for row in found)
    return {state: counted[state] for state in STATES}


def ended(found: Sequence[TrialRow]) -> int:
    """Return the number of trials that have ended: done, pruned, or failed."""
    return sum(row.state in ENDED for row in found)


def seconds_left(found: Sequence[TrialRow], total: int | None, workers: int) -> float | None:
    """Estimate the remaining time from the pace so far; None if no trial has ended, or `total` is unknown."""
    durations = [row.seconds for row in found if row.state in (DONE, PRUNED)]
    if not durations or total is None:
        return None
    n_left = total - ended(found)
    progress = sum(row.progress for row in found if row.state == RUNNING)
    return statistics.fmean(durations) * max(n_left - progress, 0) / max(workers, 1)
