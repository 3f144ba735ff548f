"""What tracking costs a training: `python benchmarks/tracking.py`.

The embedded default trains for some steps with `tracking=none` and with a local MLflow store in turn, in one process,
with a point every 10 steps; the ratio of the medians of Trainer's own `train_runtime` is printed. Then the network,
91 MB of weights, is recorded as a model of MLflow, and the seconds of that are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from hydratune import composition
from hydratune.composition import Request
from hydratune.facts import Job
from hydratune.files import MODEL
from hydratune.run import RunResult, run
from hydratune.tracking import models, store
from hydratune.tracking.base import ModelFacts
from hydratune.tracking.delivery import pointer

RESULTS = Path(__file__).parent / "results" / "tracking.json"
KINDS = {"tracking=none": ["tracking=none"], "tracking=mlflow": []}


def train(overrides: Sequence[str], directory: Path) -> RunResult:
    """One run in this process, as the command line would start it."""
    request = Request(tuple(overrides))
    with composition.composer(request):
        cfg = composition.compose_config(request, composition.force_values(request))
    directory.mkdir(parents=True)
    choices = dict(cfg.hydra.runtime.choices)
    return run(composition.without_hydra(cfg), Job(directory, list(overrides), choices))


def record_model(directory: Path) -> float:
    """Seconds to pack the final network of a tracked run and record it once more, under another name."""
    where: Any = pointer(directory)
    client = store.connect(where["uri"])
    name = f"again-{time.monotonic_ns()}"
    model = ModelFacts(directory / MODEL, name, 1, {}, "text-classification", {"text": "a small domestic animal"})
    start = time.perf_counter()
    folder = models.stage(model, directory / models.STAGED / name, is_kept=True)
    below = str(folder.relative_to(directory))
    again = models.Recorded(folder=below, name=name, step=1, metrics=[], params={}, staged=True)
    models.record(client, where["experiment_id"], where["run_id"], directory, again)
    return time.perf_counter() - start


def main() -> None:
    """Trains in turn, prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    few = [f"trainer.args.max_steps={given.steps}", "dataset.limit.validation=32", "dataset.limit.test=32"]
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        train([*few, "trainer.args.max_steps=2"], Path("warm"))  # imports, the token cache, the store's schema
        for number in range(given.rounds):
            for kind, overrides in KINDS.items():
                result = train([*few, *overrides], Path(f"{kind}-{number}").absolute())
                seconds[kind].append(result.metrics["train_runtime"])
        recorded = [record_model(Path(f"tracking=mlflow-{number}").absolute()) for number in range(given.rounds)]
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    ratio = medians["tracking=mlflow"] / medians["tracking=none"]
    table = Table("what", "seconds", title=f"{given.steps} steps, {torch.get_num_threads()} threads")
    for kind, median in medians.items():
        table.add_row(kind, f"{median:.2f}")
    table.add_row("ratio", f"{ratio:.3f}")
    table.add_row("the model, recorded", f"{statistics.median(recorded):.2f}")
    Console().print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    values = {"machine": platform.processor(), "seconds": seconds, "ratio": ratio, "model_seconds": recorded}
    RESULTS.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
