"""Comparison of runs on an evaluation by `hydratune evaluate`, in place of their test splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hydratune.evaluation.compare.runs import EVAL_ON, Run
from hydratune.utils.errors import ConfigError, Problem, similar


def on_evaluation(runs: Sequence[Run], metric: str | None) -> tuple[list[Run], str | None]:
    """Return the runs with an evaluation as their test split, and the metric without the name of the evaluation.

    A metric such as `eval_on_other/accuracy` names the evaluation. Otherwise, runs without a test split get the first
    evaluation that all of them have.

    Raises:
        ConfigError: A run does not have the evaluation that the metric names.
    """
    names = _shared(runs)
    if metric and metric.startswith(EVAL_ON):
        name, _, metric = metric.removeprefix(EVAL_ON).partition("/")
        if name not in names:
            text = f"not all of these runs have an evaluation {name!r}"
            hint = similar("evaluation", name, names, "score each run with `hydratune evaluate RUN`")
            raise ConfigError(Problem("--metric", text, hint))
    elif names and not any(run.is_tested for run in runs):
        name = names[0]
    else:
        return [*runs], metric
    return [replace(run, evaluation=name) for run in runs], metric or None


def _shared(runs: Sequence[Run]) -> list[str]:
    """Return the names of the evaluations that all runs have."""
    names_by_run = [
        dict.fromkeys(key.removeprefix(EVAL_ON).partition("/")[0] for key in run.metrics if key.startswith(EVAL_ON))
        for run in runs
    ]
    return [name for name in names_by_run[0] if all(name in names for names in names_by_run)] if runs else []
