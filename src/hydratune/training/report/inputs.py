"""Contents of a run's report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.tracking.journal import Journal
from hydratune.tracking.mlflow import mlflow_metric_name

if TYPE_CHECKING:
    import pandas as pd

History = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class ReportInputs:
    """Contents of a run's report.

    Args:
        name: Name of the run.
        directory: Run directory.
        summary: Sentences about the result, most important first.
        facts: Name -> value of what was trained, on which data, and at which cost.
        columns: Split -> metric -> value, of the best checkpoint.
        objective: Metric by which the checkpoint was chosen, e.g. `eval_accuracy`.
        best_step: Step of the best checkpoint.
        history: Metric under MLflow's name -> step -> value.
        tables: Results by label on test, see `Task.tables`.
        rows: Decoded test rows, see `Task.predictions_with_labels`.
        thumbnail: Function from the number of a test row to a small WebP image; None without images.
        loading: Python code that loads the model; empty without a model.
        command: Command as it was typed.
        link: Command that shows the run in MLflow; None without one.
    """

    name: str
    directory: Path
    summary: Sequence[str]
    facts: Mapping[str, object]
    columns: Mapping[str, Mapping[str, float]]
    objective: str
    best_step: int
    history: History
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    thumbnail: Callable[[int], bytes] | None = None
    loading: str = ""
    command: str = ""
    link: str | None = None


def metric_history(directory: Path, log_history: Iterable[Mapping[str, Any]]) -> History:
    """Return every value that was measured during training, from Trainer's log and the journal of the tracker.

    Args:
        directory: Run directory.
        log_history: Entries of `TrainerState.log_history`.
    """
    history: dict[str, dict[int, float]] = {}
    for logged in log_history:
        for name, value in logged.items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                history.setdefault(mlflow_metric_name(name), {})[int(logged["step"])] = float(value)
    for entry in Journal(directory).entries(0):  # speed and memory, which Trainer does not measure during training
        for name, value, _, step in entry.values["points"] if entry.kind == "metrics" else ():
            history.setdefault(name, {}).setdefault(step, value)
    return {name: dict(sorted(points.items())) for name, points in history.items()}
