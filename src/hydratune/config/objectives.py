"""Checks of the objective against the metrics of the task and the validation sets of the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydratune.config.objective_hints import suggest_objective
from hydratune.config.rules import select
from hydratune.utils.errors import KEY, Problem, display_value, invalid_value, one_of


def check_objective(plain: Mapping[str, Any], task: Any, sets: Sequence[str], option: str) -> Iterator[Problem]:
    """Yield an error for an objective that is not computed, and for validation sets that the run cannot evaluate.

    Args:
        plain: Config as plain data.
        task: Task of the config.
        sets: Names of the validation sets; empty for one set without a name.
        option: Option of the dataset that names the sets.
    """
    objective, options = str(plain.get("objective")), task.objectives(None, sets)
    if sets:
        yield from _check_sets(plain, task, sets, f"dataset.{option}.validation" if option else "dataset")
    if objective in options:
        return
    if sets and objective in task.objectives():
        metric = objective.removeprefix("eval_")
        text = f"{KEY}={objective} is ambiguous with several validation sets ({', '.join(sets)})"
        over_sets = [name for name in options if name in (f"eval_{how}_{metric}" for how in ("mean", "min", "max"))]
        hint = f"set {KEY}={' or '.join(over_sets)}, or eval_{sets[0]}_{metric} for one set"
        yield Problem("objective", text, hint)
        return
    hint = suggest_objective(objective, options, task, sets)
    if sets:
        yield Problem("objective", f"unknown objective {display_value(objective)}", hint or f"set {KEY}={options[0]}")
    else:
        yield invalid_value("objective", one_of(options), display_value(objective), hint)


def _check_sets(plain: Mapping[str, Any], task: Any, sets: Sequence[str], key: str) -> Iterator[Problem]:
    """Yield an error for each reason why a run cannot evaluate several validation sets."""
    for name in sets:
        if clash := next((metric for metric in task.definitions() if f"{name}_".startswith(f"{metric}_")), None):
            text = f"the name {name!r} of a validation set begins with the metric {clash}"
            yield Problem(key, text, "rename the set")
    counts = Counter(task.objectives(None, sets))
    if repeated := [name for name, count in counts.items() if count > 1]:
        yield Problem(key, f"two validation sets in {KEY} have a metric {repeated[0]}", "rename one of the sets")
    if task.tunes() or getattr(task, "calibration", None):
        text = f"{KEY} names several sets, but the task tunes a threshold or a calibration on one validation set"
        yield Problem(key, text, f"set {KEY} to one set")
    target = str(select(plain, "trainer._target_"))
    if not target.startswith("hydratune."):
        text = f"{KEY} must be a Trainer of hydratune for several validation sets, not {target}"
        yield Problem("trainer._target_", text, f"set {KEY}=hydratune.training.Trainer")
