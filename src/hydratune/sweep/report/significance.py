"""Test of the difference between the best two trials of a sweep."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydratune.config import allowlist
from hydratune.evaluation.compare.best_two import Significance, sentence_of, significance
from hydratune.evaluation.compare.runs import Run, open_run
from hydratune.evaluation.compare.seeds import compare_groups
from hydratune.evaluation.compare.wording import Group, Unit
from hydratune.sweep.plan import Plan
from hydratune.sweep.report import results
from hydratune.sweep.retraining import retrained
from hydratune.tasks.metrics.metric import LOSS, Metric
from hydratune.tracking.client import existing
from hydratune.tracking.delivery import checked_pointer
from hydratune.tracking.journal import not_tracked
from hydratune.utils.errors import ConfigError, one_line
from hydratune.utils.provenance import cli_path
from hydratune.utils.short_forms import metric_name
from hydratune.utils.stats import MIN_SEEDS

if TYPE_CHECKING:
    from mlflow import MlflowClient


def best_two_trials(plan: Plan, rows: Sequence[results.TrialRow]) -> Significance:
    """Return the second best trial, and whether the best one is significantly better.

    If both were retrained by `sweep finish`, they are compared on test. Otherwise, they are compared on validation over
    the seeds of the sweep, adjusted for all pairs of trials, since validation has selected them.
    """
    ranked = results.ranked(plan, rows)
    if len(plan.objectives) > 1 or len(ranked) < 2:
        return Significance([], {})
    best, second, *_ = ranked
    lead = f"Second best: {results.scores_text(plan, second)} (trial {second.number}: {second.name})"
    missing = [row for row in (best, second) if not retrained(plan.directory, row.number)]
    if not missing:
        try:
            found = significance(_runs(plan, best), _runs(plan, second))
        except ConfigError as error:
            found = Significance([f"Significance not tested: {one_line(error, 200)}"], {})
    elif plan.seeds and not plan.folds and len(plan.seeds) >= MIN_SEEDS:
        found = Significance([_over_seeds(plan, ranked)], {})
    else:
        names = " and ".join(str(row.number) for row in missing)
        reason = f"a sweep saves no predictions for test rows, and trial {names} {_be(missing)} not retrained"
        found = Significance([f"Significance not tested: {reason}"], {})
    finish = [cli_path(), "sweep", "finish", os.path.relpath(plan.directory)]
    numbers = {row.number: [] if row is best else ["--trial", str(row.number)] for row in missing}
    commands = {f"retrain and test trial {number}": shlex.join([*finish, *flag]) for number, flag in numbers.items()}
    return Significance([lead, *found.sentences], found.commands | commands)


def _be(rows: Sequence[object]) -> str:
    return "was" if len(rows) == 1 else "were"


def _runs(plan: Plan, row: results.TrialRow) -> list[Run]:
    """Return the retrained runs of a trial; raise ConfigError if one is not in a store."""
    clients: dict[str, MlflowClient] = {}
    runs = []
    for directory in retrained(plan.directory, row.number):
        if (pointer := checked_pointer(directory)) is None:
            raise ConfigError(not_tracked(directory))
        client = clients.setdefault(pointer["uri"], existing(pointer["uri"], "tracking.uri", ""))
        runs.append(open_run(f"trial {row.number}", client, pointer["run_id"], directory))
    return runs


def _over_seeds(plan: Plan, ranked: Sequence[results.TrialRow]) -> str:
    """Return the comparison of the best two trials over their seeds, adjusted for all pairs of completed trials."""
    objective, direction = next(iter(plan.objectives.items()))
    name = metric_name(objective)
    kind: Any = allowlist.load(str(plan.identity["task._target_"]), "task._target_")
    known: dict[str, Metric] = {metric.name: metric for metric in (LOSS, *getattr(kind, "known_metrics", ()))}
    definition = known.get(objective.removeprefix("eval_"))
    is_share = bool(definition and definition.is_share)
    unit = Unit(name, is_share, results.scale(plan, objective.removeprefix("eval_"), None), direction == "maximize")
    groups = []
    for row in ranked:
        values = dict(zip(map(str, plan.seeds), row.by_seed[objective], strict=False))
        interval = results.mean_of_seeds(plan, row, objective)
        groups.append(Group(f"trial {row.number}", values, name, "eval", interval))
    comparisons, _ = compare_groups(groups, unit)
    pair = [groups[0].name, groups[1].name]
    sentence = next((sentence_of(one) for one in comparisons if [one.first, one.second] == pair), "")
    return sentence or "Significance not tested: the scores of both do not vary from seed to seed"
