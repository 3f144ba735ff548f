"""Result of a run, and metrics of its splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BALANCED = "balanced_weights"  # the key of metrics.json for label weights that were computed from the training labels
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


def split_metrics(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the metrics of one split without its prefix, and without Trainer's runtime figures.

    Args:
        metrics: Trainer's names -> values.
        prefix: `eval` or `test`.
    """
    split_values = {name.removeprefix(f"{prefix}_"): v for name, v in metrics.items() if name.startswith(f"{prefix}_")}
    return {name: value for name, value in split_values.items() if not name.endswith(BOOKKEEPING)}
