"""Test scores over seeds, compared with the script of the Hugging Face course: `python benchmarks/quality.py`.

MiniLM is trained on pairs of texts from WordNet, or on `--data`, by the script of the course (three epochs, batches of
8, 5e-5, fp32, the last checkpoint) and by hydratune with default settings (the best epoch by validation). Both train
and test on the same rows. The seed determines the head, the order of rows, and dropout. The confidence intervals use
Student's t-distribution over the seeds. They do not cover the choice of rows. `--kinds` measures other options, e.g.
`--kinds hydratune 'hydratune model.freeze=[embeddings]'`.

Each training writes a file to results/quality/, named after its rows and its config, and is not repeated. So the same
command resumes an interrupted benchmark, which takes hours on one core. Remove the folder after a change of the code.
The seconds are the wall-clock time of the whole command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import make_parser, parse_args, report_results
from rich.markup import escape
from rich.table import Table
from workload import SPLITS, TimedRun, Workload, add_row_options, run_hydratune, run_script, temporary_workload

from hydratune.utils.files import write_json
from hydratune.utils.stats import mean_interval

COURSE, OURS = "course", "hydratune"
EPOCHS = {COURSE: 3}  # hydratune has its own default
METRICS = {"test_accuracy": "accuracy", "test_f1": "F1", "seconds": "seconds"}
EVALUATIONS = "evaluations"  # seconds from the start of the command, and accuracy on the validation set
QUICK_ROWS = 64
MetricsBySeed = dict[str, dict[int, dict[str, Any]]]  # system -> seed -> metrics and evaluations


def train(system: str, workload: Workload, seed: int) -> TimedRun:
    """Train and test with one seed."""
    if system == COURSE:
        return run_script(workload, COURSE, epochs=EPOCHS[COURSE], seed=seed, settings={}, test=True, validate=True)
    options = system.split()[1:]
    return run_hydratune([*workload.overrides, f"seed={seed}", "tracking=none", *options], folder=workload.folder)


def result_name(system: str, workload: Workload, seed: int) -> str:
    """Return the file name of a training, with a hash of its rows and its config."""
    name, *options = system.split()
    config = str(EPOCHS) if system == COURSE else workload.config
    digest = hashlib.sha256("\n".join([config, *options]).encode())
    for split in SPLITS:
        digest.update((workload.folder / f"{split}.jsonl").read_bytes())
    return f"{name}-{digest.hexdigest()[:12]}-seed{seed}.json"


def measure(workload: Workload, systems: Sequence[str], seeds: Sequence[int], folder: Path) -> MetricsBySeed:
    """Read the results of finished trainings from `folder`, and train the others alternately."""
    folder.mkdir(parents=True, exist_ok=True)
    measurements: MetricsBySeed = {system: {} for system in systems}
    for seed in seeds:
        for system, metrics_by_seed in measurements.items():
            file = folder / result_name(system, workload, seed)
            if not file.is_file():
                run = train(system, workload, seed)
                metrics = {**run.metrics, "seconds": run.usage.seconds}
                evaluations = [(row["at"] - run.usage.start_time, row["eval_accuracy"]) for row in run.evaluations]
                write_json(file, {**{name: metrics[name] for name in METRICS}, EVALUATIONS: evaluations})
                print(f"{system}, seed {seed}: {file.read_text()}", flush=True)
            metrics_by_seed[seed] = json.loads(file.read_text())
    return measurements


def make_table(measurements: MetricsBySeed, rows: dict[str, int]) -> tuple[Table, dict[str, Any]]:
    """Return a table with a row for each seed, the means, and the differences; the last two also as numbers."""
    title = f"{rows['train']:,} training rows, {rows['test']:,} test rows"
    columns = [escape(f"{system}: {name}") for system in measurements for name in METRICS.values()]
    table = Table("seed", *columns, title=title)
    systems = list(measurements)
    first, last = systems[0], systems[-1]
    seeds = list(measurements[first])
    for seed in seeds:
        cells = [f"{measurements[system][seed][name]:.4g}" for system in systems for name in METRICS]
        table.add_row(str(seed), *cells)
    if len(seeds) < 2:
        return table, {}
    means = {
        system: {name: interval([by_seed[seed][name] for seed in seeds]) for name in METRICS}
        for system, by_seed in measurements.items()
    }
    table.add_section()
    table.add_row("mean", *(format_interval(means[system][name]) for system in systems for name in METRICS))
    differences = {
        name: interval([measurements[last][seed][name] - measurements[first][seed][name] for seed in seeds])
        for name in METRICS
    }
    empty = [""] * len(METRICS) * (len(systems) - 1)
    table.add_row(escape(f"{last} - {first}"), *empty, *(format_interval(differences[name]) for name in METRICS))
    return table, {"means": means, "differences": differences}


def interval(values: list[float]) -> list[float | None]:
    """Return the mean and its 95% confidence interval, whose limits are None for fewer than three seeds."""
    estimate = mean_interval(values)
    return [estimate.value, estimate.low, estimate.high]


def format_interval(values: list[float | None]) -> str:
    """Format for example `0.785 (0.771 to 0.799)`, or `0.785` without an interval."""
    mean, low, high = values
    return f"{mean:.4g}" if low is None or high is None else f"{mean:.4g} ({low:.4g} to {high:.4g})"


def add_options(parser: argparse.ArgumentParser, systems: Sequence[str], text: str) -> None:
    """Add the options that select the rows, the systems, and the seeds."""
    add_row_options(parser, None)
    parser.add_argument("--kinds", nargs="+", default=systems, help=text)
    parser.add_argument("--seeds", default="1,2,3,4,5", help="seeds, one round each")


def run(args: argparse.Namespace, systems: Sequence[str]) -> tuple[MetricsBySeed, dict[str, int]]:
    """Return the measurements of the systems, and the number of rows by split."""
    seeds = [int(seed) for seed in args.seeds.split(",")]
    limit = QUICK_ROWS if args.quick else None
    with temporary_workload(args.data, limit or args.rows, held_out=limit) as workload:
        rows = {split: len((workload.folder / f"{split}.jsonl").read_text().splitlines()) for split in SPLITS}
        return measure(workload, systems, seeds, args.out / "quality"), rows


def main() -> None:
    """Run the benchmark, print the table, and write it as JSON."""
    parser = make_parser(__doc__, rounds=1)
    add_options(parser, [COURSE, OURS], "systems; the difference is last minus first")
    args = parse_args(parser)
    measurements, rows = run(args, args.kinds)
    table, intervals = make_table(measurements, rows)
    data = str(args.data or "wordnet_pairs")
    report_results(__file__, args.out, [table], {"data": data, "rows": rows, "seeds": measurements, **intervals})


if __name__ == "__main__":
    main()
