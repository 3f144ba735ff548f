"""Overhead of tracking in a training run: `python benchmarks/tracking.py`.

The default experiment trains for some steps with `tracking=none` and with a local MLflow store, alternately in one
process, with a point every 10 steps. The script prints the ratio of the medians of the Trainer's `train_runtime`. Then
it logs the model, with 91 MB of parameters, as an MLflow model, and prints the seconds.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    compose,
    make_parser,
    parse_args,
    report_results,
    run_interleaved,
    temporary_working_directory,
)
from rich.table import Table

from hydratune.config.composition import without_hydra
from hydratune.tracking import logged_models
from hydratune.tracking.base import ModelInfo
from hydratune.tracking.client import connect
from hydratune.tracking.delivery import pointer
from hydratune.tracking.entries import ModelEntry
from hydratune.training.job import Job
from hydratune.training.results import RunResult
from hydratune.training.run import run
from hydratune.utils.files import MODEL

KINDS = {
    "tracking=none": ["tracking=none"],
    "tracking=mlflow": [],
    "tracking=mlflow, no system metrics": ["tracking.log_system_metrics=false"],
}


def train(overrides: Sequence[str], directory: Path) -> RunResult:
    """Train in this process, as the command line does."""
    cfg = compose(overrides)
    directory.mkdir(parents=True)
    choices = dict(cfg.hydra.runtime.choices)
    return run(without_hydra(cfg), Job(directory, list(overrides), choices))


def log_model_seconds(directory: Path) -> float:
    """Log the final model of a tracked run again under another name, and return the seconds."""
    mlflow_run: Any = pointer(directory)
    client = connect(mlflow_run["uri"])
    name = f"again-{time.monotonic_ns()}"
    model = ModelInfo(directory / MODEL, name, 1, {}, "text-classification", {"text": "a small domestic animal"})
    start = time.perf_counter()
    folder = logged_models.package_model(model, directory / logged_models.STAGED / name, is_kept=True)
    relative = str(folder.relative_to(directory))
    entry = ModelEntry(folder=relative, name=name, step=1, metrics=[], params={}, staged=True)
    logged_models.record(client, mlflow_run["uri"], mlflow_run["experiment_id"], mlflow_run["run_id"], directory, entry)
    return time.perf_counter() - start


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--steps", type=int, default=100)
    args = parse_args(parser)
    if args.quick:
        args.steps = 2
    base = [f"trainer.args.max_steps={args.steps}", "dataset.max_samples.validation=32", "dataset.max_samples.test=32"]
    numbers = itertools.count()

    def train_seconds(overrides: Sequence[str]) -> float:
        return train([*base, *overrides], Path(f"run-{next(numbers)}").absolute()).metrics["train_runtime"]

    with temporary_working_directory():
        train([*base, "trainer.args.max_steps=2"], Path("warm"))  # imports, cache of tokens, schema of the store
        measures = {kind: partial(train_seconds, overrides) for kind, overrides in KINDS.items()}
        measurements = run_interleaved(args.rounds, measures)
        tracked = [run for run in sorted(Path().glob("run-*")) if pointer(run)]
        model_seconds = [log_model_seconds(run.absolute()) for run in tracked]
    medians = {kind: statistics.median(values) for kind, values in measurements.items()}
    ratio = medians["tracking=mlflow"] / medians["tracking=none"]
    table = Table("run", "seconds", title=f"Tracking overhead, {args.steps} steps, medians of {args.rounds} rounds")
    for kind, median in medians.items():
        table.add_row(kind, f"{median:.2f}")
    table.add_row("ratio, tracking", f"{ratio:.3f}")
    system_metrics_ratio = medians["tracking=mlflow"] / medians["tracking=mlflow, no system metrics"]
    table.add_row("ratio, system metrics", f"{system_metrics_ratio:.3f}")
    table.add_row("packaging and logging the model", f"{statistics.median(model_seconds):.2f}")
    report_results(
        __file__,
        args.out,
        [table],
        {
            "seconds": measurements,
            "ratio": ratio,
            "system_metrics_ratio": system_metrics_ratio,
            "model_seconds": model_seconds,
        },
    )


if __name__ == "__main__":
    main()
