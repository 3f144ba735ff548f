"""Test of the difference between the best two trials of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydratune.config import allowlist
from hydratune.evaluation.compare.best_two import Significance, not_tested, significance, significance_of
from hydratune.evaluation.compare.runs import Run, open_run
from hydratune.evaluation.compare.seeds import compare_groups
from hydratune.evaluation.compare.verdict import SEED
from hydratune.evaluation.compare.wording import Group, Unit
from hydratune.sweep.plan import Plan
from hydratune.sweep.report import results
from hydratune.tasks.metrics.metric import Metric
from hydratune.tracking.client import existing
from hydratune.tracking.delivery import checked_pointer
from hydratune.tracking.journal import not_tracked
from hydratune.tracking.run_directories import finish_command, retrained
from hydratune.utils.errors import ConfigError, one_line
from hydratune.utils.short_forms import metric_name
from hydratune.utils.stats import MIN_SEEDS

if TYPE_CHECKING:
    from mlflow import MlflowClient


def best_two_trials(plan: Plan, rows: Sequence[results.TrialRow]) -> Significance:
    """Return the second best trial with another setting than the seed, and whether the best trial is better.

    If both were retrained by `sweep finish`, they are compared on test. Otherwise, they are compared on validation over
    the seeds of the sweep, adjusted for all pairs of trials, since validation has selected them.
    """
    ranked = results.ranked(plan, rows)
    settings = [{key: value for key, value in row.point.items() if key != SEED} for row in ranked]
    others = [row for row, own in zip(ranked, settings, strict=True) if own != settings[0]]
    if len(plan.objectives) > 1 or not others:
        return Significance([], {})
    best, second = ranked[0], others[0]
    lead = f"Second best: {results.scores_text(plan, second)} (trial {second.number}: {second.name})"
    missing = [row for row in (best, second) if not retrained(plan.directory, row.number)]
    if not missing:
        try:
            verdict = significance(_runs(plan, best), _runs(plan, second))
        except ConfigError as error:
            verdict = not_tested(one_line(error, 200))
    elif plan.seeds and not plan.folds and len(plan.seeds) >= MIN_SEEDS:
        verdict = _over_seeds(plan, ranked, second)
    else:
        trials = f"trial {missing[0].number} was" if len(missing) == 1 else "both trials were"
        verdict = not_tested(f"a sweep saves no predictions for test rows, and {trials} not retrained")
    commands = {
        f"retrain and test trial {row.number}": finish_command(plan.directory, None if row is best else row.number)
        for row in missing
    }
    return replace(verdict, sentences=[lead, *verdict.sentences], commands=verdict.commands | commands)


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


def _over_seeds(plan: Plan, ranked: Sequence[results.TrialRow], second: results.TrialRow) -> Significance:
    """Return the comparison of two trials over their seeds, adjusted for all pairs of completed trials."""
    objective, direction = next(iter(plan.objectives.items()))
    name, bare_name = metric_name(objective), objective.removeprefix("eval_")
    task: Any = allowlist.load(str(plan.identity["task._target_"]), "task._target_")
    metrics: Sequence[Metric] = getattr(task, "known_metrics", ())
    is_share = any(metric.is_share for metric in metrics if metric.name == bare_name)
    unit = Unit(name, is_share, results.scale(plan, bare_name, None), direction == "maximize")
    scored = [row for row in ranked if objective in row.by_seed]  # someone may have changed the study
    if ranked[0] not in scored or second not in scored:
        return not_tested("the scores of each seed are missing")
    groups = []
    for row in scored:
        values = dict(zip(map(str, plan.seeds), row.by_seed[objective], strict=False))
        interval = results.mean_of_seeds(plan, row, objective)
        groups.append(Group(f"trial {row.number}", values, name, "eval", interval))
    comparisons, _ = compare_groups(groups, unit)
    pair = [f"trial {row.number}" for row in (ranked[0], second)]
    verdicts = (significance_of(pairing) for pairing in comparisons if [pairing.first, pairing.second] == pair)
    return next(verdicts, not_tested("the scores of both trials do not vary from seed to seed"))
