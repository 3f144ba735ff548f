"""Hints for an objective that a run does not compute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydratune.utils.errors import nearest

_PREFIX = re.compile(r"(eval|val|valid|validation|test|best)[_/]")
# Other name of a metric -> its names here, of which a task has at most one.
_ALIASES: dict[str, tuple[str, ...]] = {
    "acc": ("accuracy",),
    "auc": ("roc_auc",),
    "auroc": ("roc_auc",),
    "pr_auc": ("average_precision",),
    "map": ("average_precision",),
    "f1_macro": ("macro_f1",),
    "f1_micro": ("micro_f1",),
    "mcc": ("matthews_correlation",),
    "nll": ("log_loss", "loss"),
    "ppl": ("perplexity",),
}


def suggest_objective(objective: str, options: Sequence[str], task: Any, sets: Sequence[str]) -> str:
    """Return the objective that a name means or resembles; if its metric is not computed, also how to compute it.

    Args:
        objective: The unknown objective.
        options: The objectives of the config.
        task: Task of the config.
        sets: Names of the validation sets.

    Returns:
        The hint; empty if no metric is similar.
    """
    if sets and (close := nearest(objective, options)):
        return f"a similar objective exists: objective={close}"
    name = _PREFIX.sub("", objective, count=1)
    computed = [option.removeprefix("eval_") for option in options]
    others = [metric for metric in task.definitions() if metric not in computed]
    aliases = [alias for alias in _ALIASES.get(name, ()) if alias in (*computed, *others)]
    metric = next((known for known in (name, *aliases) if known in (*computed, *others)), None)
    metric = metric or nearest(name, computed) or nearest(name, others)
    if metric in computed:
        return f"a similar objective exists: objective=eval_{metric}"
    metrics = [*task.metric_names({"num_labels": 3}), metric]  # the defaults with three labels also exist with two
    if metric is None or f"eval_{metric}" not in replace(task, metrics=metrics).objectives(None, sets):
        return ""
    return f"to compute {metric}, set 'task.metrics=[{','.join(metrics)}]' objective=eval_{metric}"
