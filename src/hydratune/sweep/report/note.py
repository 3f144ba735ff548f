"""Note of a sweep's run in MLflow: the best trial, how to test it, the search space, and the trials after the best."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from hydratune.sweep.plan import Plan, values_of
from hydratune.sweep.report import results
from hydratune.sweep.report.significance import best_two_trials
from hydratune.sweep.report.tables import summary
from hydratune.tracking.notes import note
from hydratune.tracking.run_directories import finish_command, retrained
from hydratune.training.results import read_metrics
from hydratune.utils.errors import ConfigError
from hydratune.utils.short_forms import metric_name, number_text

if TYPE_CHECKING:
    from hydratune.evaluation.compare.best_two import Significance
    from hydratune.sweep.study import Study

_TOP = 5  # trials


def sweep_note(study: Study, rows: Sequence[results.TrialRow], verdict: Significance | None = None) -> str:
    """Return the note of a sweep in its current state.

    Args:
        study: Study of the sweep.
        rows: Rows of its trials.
        verdict: Comparison of the best two trials; None to compute it.
    """
    plan = study.plan
    verdict = verdict or best_two_trials(plan, rows)
    steps = commands(plan, rows, verdict)
    lines = [*best_sentences(plan, rows)]
    lines[1:1] = verdict.sentences
    lines += [f"To {purpose}: {command}" for purpose, command in [*steps.items()][:1]] if lines else []
    lines += [summary(plan, rows, study.total(), study.options.workers)]
    facts = {**steps, **space_facts(study)}
    top = results.ranked(plan, rows)[:_TOP]
    facts |= {
        f"{i}. {results.scores_text(plan, row)}": f"trial {row.number}: {row.name}" for i, row in enumerate(top, 1)
    }
    return note(lines, facts | {"directory": os.path.relpath(plan.directory), "table and plots": "artifacts, report/"})


def best_command(plan: Plan, rows: Sequence[results.TrialRow]) -> str:
    """Return the command that retrains and tests the best trial; empty if no trial is done.

    With several objectives, `sweep finish` requires the number of a trial of the Pareto front.
    """
    front = results.pareto_front(plan, rows)
    number = front[0].number if front and len(plan.objectives) > 1 else None
    return finish_command(plan.directory, number) if front else ""


def commands(plan: Plan, rows: Sequence[results.TrialRow], verdict: Significance) -> dict[str, str]:
    """Return what it does -> a command, first the one that retrains and tests the best trial."""
    best = [row for row in results.pareto_front(plan, rows)[:1] if not retrained(plan.directory, row.number)]
    return {f"retrain and test trial {row.number}": best_command(plan, rows) for row in best} | verdict.commands


def space_facts(study: Study) -> dict[str, object]:
    """Return name -> value of what the sweep searches, and with which budget."""
    plan = study.plan
    facts: dict[str, object] = {f"space: {plan.short_names[p.name]}": values_of(p) for p in plan.space.parameters}
    facts |= {"folds": f"{plan.folds} x {plan.repeats}"} if plan.folds else {}
    return facts | {"trials": study.total(), "pruner": study.options.pruner, "seeds": ", ".join(map(str, plan.seeds))}


def best_sentences(plan: Plan, rows: Sequence[results.TrialRow]) -> Iterator[str]:
    """Yield the values and the settings of the best trial, and how they are to be read."""
    for row in results.pareto_front(plan, rows)[:1]:
        yield f"Best: {results.scores_text(plan, row)} (trial {row.number}: {row.name}{results.ties(plan, rows, row)})"
        yield "The score of the best trial is biased upwards, because validation selected it."
        name, runs = next(iter(plan.objectives)).removeprefix("eval_"), retrained(plan.directory, row.number)
        scores: dict[str, float] = {}
        for run in runs:
            with suppress(ConfigError):  # a malformed file
                scores[run.name] = read_metrics(run, f"test_{name}")[f"test_{name}"]
        if texts := [f"{number_text(score)} ({seed})" for seed, score in scores.items()]:
            yield f"Retrained and tested: {metric_name(name)} {', '.join(texts)}."
