"""Overhead of tracking in a training run: `python benchmarks/tracking.py`.

The default experiment trains for some steps with `tracking=none` and with a local MLflow store in turn, in one process,
with a point every 10 steps. The ratio of the medians of the Trainer's `train_runtime` is printed. Then the model, with
91 MB of parameters, is logged as an MLflow model, and the seconds are printed.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import finish, in_turn, parse, parser
from rich.table import Table

from hydratune.config import composition
from hydratune.config.composition import Request
from hydratune.tracking import logged_models
from hydratune.tracking.base import ModelInfo
from hydratune.tracking.client import connect
from hydratune.tracking.delivery import pointer
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
    """One run in this process, as the command line would start it."""
    request = Request(tuple(overrides))
    with composition.composer(request):
        cfg = composition.compose_config(request, composition.force_add(request))
    directory.mkdir(parents=True)
    choices = dict(cfg.hydra.runtime.choices)
    return run(composition.without_hydra(cfg), Job(directory, list(overrides), choices))


def record_model(directory: Path) -> float:
    """Seconds to pack the final network of a tracked run and record it once more, under another name."""
    where: Any = pointer(directory)
    client = connect(where["uri"])
    name = f"again-{time.monotonic_ns()}"
    model = ModelInfo(directory / MODEL, name, 1, {}, "text-classification", {"text": "a small domestic animal"})
    start = time.perf_counter()
    folder = logged_models.package_model(model, directory / logged_models.STAGED / name, is_kept=True)
    below = str(folder.relative_to(directory))
    again = logged_models.ModelEntry(folder=below, name=name, step=1, metrics=[], params={}, staged=True)
    logged_models.record(client, where["experiment_id"], where["run_id"], directory, again)
    return time.perf_counter() - start


def main() -> None:
    """Trains in turn, prints the table and writes it as JSON."""
    made = parser(__doc__, rounds=5)
    made.add_argument("--steps", type=int, default=100)
    given = parse(made)
    if given.quick:
        given.steps = 2
    few = [f"trainer.args.max_steps={given.steps}", "dataset.max_samples.validation=32", "dataset.max_samples.test=32"]
    numbers, home = itertools.count(), Path.cwd()

    def seconds(overrides: Sequence[str]) -> float:
        return train([*few, *overrides], Path(f"run-{next(numbers)}").absolute()).metrics["train_runtime"]

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        train([*few, "trainer.args.max_steps=2"], Path("warm"))  # imports, the token cache, the store's schema
        said = in_turn(given.rounds, {kind: partial(seconds, overrides) for kind, overrides in KINDS.items()})
        tracked = [run for run in sorted(Path().glob("run-*")) if pointer(run)]
        recorded = [record_model(run.absolute()) for run in tracked]
        os.chdir(home)
    medians = {kind: statistics.median(values) for kind, values in said.items()}
    ratio = medians["tracking=mlflow"] / medians["tracking=none"]
    table = Table("what", "seconds", title=f"{given.steps} steps, medians of {given.rounds}")
    for kind, median in medians.items():
        table.add_row(kind, f"{median:.2f}")
    table.add_row("ratio of tracking", f"{ratio:.3f}")
    load = medians["tracking=mlflow"] / medians["tracking=mlflow, no system metrics"]
    table.add_row("ratio of system metrics", f"{load:.3f}")
    table.add_row("the model, recorded", f"{statistics.median(recorded):.2f}")
    finish(
        __file__,
        given.out,
        [table],
        {"seconds": said, "ratio": ratio, "system_metrics_ratio": load, "model_seconds": recorded},
    )


if __name__ == "__main__":
    main()
