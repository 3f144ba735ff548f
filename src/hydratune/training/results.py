"""Result of a run, and metrics of its splits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import METRICS
from hydratune.utils.stored_files import StoredFileError, read_stored

BALANCED = "balanced_weights"  # the key of metrics.json for label weights that were computed from the training labels
SOUP = "soup"  # the key of metrics.json for the steps of the checkpoints whose mean is the model
PRECISIONS = "precisions"  # the key of metrics.json for the precisions of training and evaluation
BOOKKEEPING = ("runtime", "per_second", "model_preparation_time", "flos", "samples")  # suffixes of Trainer's own names


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Args:
        objective: Best value of the metric that `objective` names.
        metrics: Trainer's names -> values; `eval_*` and `test_*` are those of the best checkpoint.
        directory: Run directory.
        link: Command that shows the run in MLflow; None if it is not tracked.
        pushed: Whether the Hub has the model, if a push was requested.
        tracked: False if MLflow refuses the run for good, as it does once the experiment is deleted.
    """

    objective: float
    metrics: Mapping[str, Any]
    directory: Path
    link: str | None
    pushed: bool = True
    tracked: bool = True


def read_metrics(directory: Path, *names: str) -> dict[str, Any]:
    """Return the metrics of a finished run by Trainer's names.

    Args:
        directory: Run directory.
        names: Metrics that the run must have.

    Raises:
        ConfigError: The file is not what a run writes, or lacks a metric of `names`.
    """
    try:
        metrics = read_stored(directory / METRICS, dict[str, Any])
    except (OSError, StoredFileError):
        metrics = None
    values = metrics.items() if metrics is not None else [("eval_", None)]
    if any(not isinstance(value, int | float) for name, value in values if name.startswith(("eval_", "test_"))):
        problem = f"{METRICS} must contain names of metrics and numbers"
    elif missing := [name for name in names if name not in dict(values)]:
        problem = f"{METRICS} lacks {', '.join(missing)}"
    else:
        return dict(values)
    raise ConfigError(Problem("RUN", problem, "restore the file", os.path.relpath(directory / METRICS)))


def split_metrics(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the metrics of one split without its prefix, and without Trainer's runtime figures.

    Args:
        metrics: Trainer's names -> values.
        prefix: `eval` or `test`.
    """
    split_values = {name.removeprefix(f"{prefix}_"): v for name, v in metrics.items() if name.startswith(f"{prefix}_")}
    return {name: value for name, value in split_values.items() if not name.endswith(BOOKKEEPING)}
