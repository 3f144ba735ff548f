"""Overhead of a sweep in addition to its training, and savings of its pruner: `python benchmarks/sweep.py`.

Overhead: eight short trials of the default experiment run alternately as a sweep on one worker, as eight commands, and
with Hydra's basic sweeper, in one process whose jobs load everything again. The overhead is the total time without the
start, until the first training, and without the sum of the Trainer's `train_runtime`. A separate command also evaluates
on one test row and saves its model, which a trial does not.

Pruning: a grid of 27 trials on handwritten digits, complete and with `sweep.pruner=asha` in a random order, with three
seeds. It measures the trained steps, and the distance of the selected configuration from the best one of the grid,
compared with the noise: the standard deviation of the best configuration over five seeds. One order is not
representative, so the pruner is also simulated on the learning curves of the complete grid in a hundred other orders.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from common import (
    HYDRATUNE,
    make_parser,
    parse_args,
    report_results,
    run_interleaved,
    temporary_working_directory,
)
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.table import Table

from hydratune.config.composition import CONFIG_NAME, register_resolvers
from hydratune.config.options import CONFIG_MODULE
from hydratune.sweep.config import Sweep
from hydratune.sweep.study import default_storage
from hydratune.tracking.journal import Journal
from hydratune.training.job import TrialContext, hydra_job
from hydratune.training.run import run
from hydratune.utils.files import METRICS
from hydratune.utils.hydra_versions import VERSION_BASE

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BASIC = "basic"  # the first argument of this script as a Hydra app

# --- overhead --------------------------------------------------------------------------------------------

SHORT = ["dataset.max_samples.validation=66", "dataset.max_samples.test=1", "tracking.log_models=false"]


@dataclass(frozen=True)
class ShortTrials:
    """Short trials with each learning rate and each weight decay.

    Args:
        learning_rates: Values of the learning rate.
        weight_decays: Values of the weight decay.
        rows: Number of training rows.
    """

    learning_rates: Sequence[str]
    weight_decays: Sequence[str]
    rows: int

    @property
    def count(self) -> int:
        """Number of trials."""
        return len(self.learning_rates) * len(self.weight_decays)

    @property
    def common(self) -> list[str]:
        """Overrides that all trials share."""
        return [*SHORT, f"dataset.max_samples.train={self.rows}"]

    @property
    def swept(self) -> list[str]:
        """Overrides with the values of all trials."""
        return [
            f"trainer.args.learning_rate={','.join(self.learning_rates)}",
            f"trainer.args.weight_decay={','.join(self.weight_decays)}",
        ]


EIGHT = ShortTrials(("5e-5", "1e-4", "2e-4", "4e-4"), ("0", "0.1"), rows=192)
TWO = ShortTrials(("5e-5", "1e-4"), ("0",), rows=32)


@dataclass(frozen=True)
class Timing:
    """Breakdown of the wall-clock seconds of several runs.

    Args:
        count: Number of runs.
        total: Seconds from the start of the first process to the exit of the last one.
        training: Sum of the Trainer's `train_runtime`.
        startup: Seconds from the start of the first process to the start of the first run.
        ending: Seconds from the end of the last run to the exit of its process.
    """

    count: int
    total: float
    training: float
    startup: float
    ending: float

    @property
    def between(self) -> float:
        """Mean seconds between two trainings."""
        return (self.total - self.training - self.startup - self.ending) / self.count

    @property
    def ratio(self) -> float:
        """Total time, relative to the time of training and one start."""
        return self.total / (self.training + self.startup)


def time_commands(commands: Sequence[Sequence[str]], folders: Sequence[Path]) -> Timing:
    """Run commands one after the other, and read the times of their runs from `folders`."""
    start = time.time()
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    end = time.time()
    seconds = [json.loads((folder / METRICS).read_text())["train_runtime"] for folder in folders]
    entries = [list(Journal(folder).entries(0)) for folder in folders]
    first_start = next(entry.values["began"] for entry in entries[0] if entry.kind == "run") / 1000
    last_end = next(entry.values["ended"] for entry in entries[-1] if entry.kind == "status") / 1000
    return Timing(len(folders), end - start, sum(seconds), first_start - start, end - last_end)


def time_sweep(trials: ShortTrials, numbers: itertools.count[int]) -> Timing:
    """Time one sweep on one worker."""
    name = f"rows-{trials.rows}-{next(numbers)}"
    folders = [Path("multirun", name, str(i)) for i in range(trials.count)]
    return time_commands([[HYDRATUNE, "-m", *trials.common, *trials.swept, f"sweep.name={name}"]], folders)


def time_separate_commands(trials: ShortTrials, numbers: itertools.count[int]) -> Timing:
    """Time one command per trial."""
    parent = Path(f"commands-{trials.rows}-{next(numbers)}")
    folders = [parent / str(i) for i in range(trials.count)]
    points = itertools.product(trials.learning_rates, trials.weight_decays)
    return time_commands(
        [
            [HYDRATUNE, *trials.common, f"trainer.args.learning_rate={rate}", f"trainer.args.weight_decay={decay}",
             f"hydra.run.dir={folder}"]
            for folder, (rate, decay) in zip(folders, points, strict=True)
        ],
        folders,
    )  # fmt: skip


def time_basic_sweeper(trials: ShortTrials, numbers: itertools.count[int]) -> Timing:
    """Time Hydra's basic sweeper, which runs all jobs in one process."""
    parent = Path(f"basic-{trials.rows}-{next(numbers)}")
    folders = [parent / str(i) for i in range(trials.count)]
    options = ["hydra/sweeper=basic", f"hydra.sweep.dir={parent}", "hydra.sweep.subdir=${hydra:job.num}"]
    return time_commands([[sys.executable, __file__, BASIC, "-m", *trials.common, *trials.swept, *options]], folders)


def job(cfg: DictConfig) -> None:
    """Train as in a trial, but without the caches of a worker; Hydra's basic sweeper calls this."""
    run(cfg, hydra_job(TrialContext(str(HydraConfig.get().job.num))))


KINDS = {
    "hydratune -m": time_sweep,
    "commands": time_separate_commands,
    "Hydra's basic sweeper": time_basic_sweeper,
}


def overhead(rounds: int, trials: ShortTrials, kinds: Sequence[str]) -> dict[str, list[Timing]]:
    """Return the timings of each way to start the trials, one per round."""
    warmup = [HYDRATUNE, *trials.common, "trainer.args.max_steps=2"]
    subprocess.run(warmup, check=True, capture_output=True)  # fills the cache of tokens, and creates the store
    return run_interleaved(rounds, {name: partial(KINDS[name], trials, itertools.count()) for name in kinds})


def overhead_table(timings: dict[str, list[Timing]], rows: int) -> Table:
    """Return a table with the medians over the rounds."""
    first = next(iter(timings.values()))
    title = f"Overhead of {first[0].count} trials of {rows} rows, medians of {len(first)} rounds"
    columns = ("total, s", "training", "start", "between two trials", "end", "total / (training + start)")
    table = Table("method", *columns, title=title)
    for kind, rounds in timings.items():
        names = ("total", "training", "startup", "between", "ending")
        seconds = [f"{statistics.median(getattr(timing, name) for timing in rounds):.2f}" for name in names]
        table.add_row(kind, *seconds, f"{statistics.median(timing.ratio for timing in rounds):.3f}")
    return table


# --- pruning ---------------------------------------------------------------------------------------------

DIGITS = [
    "experiment=digits",
    "tracking=none",
    "dataset.max_samples.train=1000",
    "model.config.num_hidden_layers=2",
    "trainer.args.per_device_train_batch_size=16",
    "trainer.args.warmup_steps=0",  # the first evaluation matters most for pruning
    "trainer.args.num_train_epochs=9",  # an evaluation after each
]
GRID: Mapping[str, str] = {
    "trainer.args.learning_rate": "3e-4,1e-3,3e-3",
    "trainer.args.weight_decay": "0,0.01,0.1",
    "model.dropout": "0,0.1,0.2",
}
FEW: Mapping[str, str] = {"trainer.args.learning_rate": "3e-4,1e-3,3e-3"}
EVALUATIONS = 9
ORDERS = 100
NOISE_SEEDS = 5


@dataclass(frozen=True)
class PruningResult:
    """Results of a pruned grid, compared with the complete one.

    Args:
        seed: Seed of all trials.
        best: Value of the best configuration in the complete grid.
        selected: Value, in the complete grid, of the configuration that the pruned grid selected.
        steps: Training steps of the pruned grid, relative to the complete one.
        orders: Selected value and relative steps in each of the other orders.
    """

    seed: int
    best: float
    selected: float
    steps: float
    orders: Sequence[tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Return the values for the results file."""
        names = {"selected": "found"}
        return {names.get(name, name): value for name, value in asdict(self).items()}


def run_sweep(name: str, overrides: Sequence[str]) -> list[FrozenTrial]:
    """Run a sweep on handwritten digits, and return its trials."""
    import optuna

    subprocess.run([HYDRATUNE, "-m", *DIGITS, *overrides, f"sweep.name={name}"], check=True, capture_output=True)
    return optuna.load_study(study_name=name, storage=default_storage(Path("multirun", name))).trials


def pruning(seeds: Sequence[int], grid: Mapping[str, str]) -> tuple[list[PruningResult], list[float]]:
    """Return the result of ASHA with each seed, and the values of the best configuration over more seeds."""
    swept = [f"{key}={values}" for key, values in grid.items()]
    results, points = list[PruningResult](), dict[tuple[Any, ...], list[float]]()
    for seed in seeds:
        pruned = run_sweep(f"asha-{seed}", [*swept, f"seed={seed}", "sweep.pruner=asha", "sweep.shuffle_trials=true"])
        complete = run_sweep(f"grid-{seed}", [*swept, f"seed={seed}"])
        values = {tuple(trial.params.values()): trial.values[0] for trial in complete}
        selected = max((trial for trial in pruned if trial.values), key=lambda trial: trial.values[0])
        steps = sum(len(trial.intermediate_values) for trial in pruned) / (EVALUATIONS * len(complete))
        shuffled = [random.Random(i).sample(complete, len(complete)) for i in range(ORDERS)]  # noqa: S311 (no secret)
        orders = [simulate_asha(trials) for trials in shuffled]
        value = values[tuple(selected.params.values())]
        results.append(PruningResult(seed, max(values.values()), value, steps, orders))
        for point, value in values.items():
            points.setdefault(point, []).append(value)
    best = max(points, key=lambda point: statistics.fmean(points[point]))
    fixed = [f"{key}={value}" for key, value in zip(grid, best, strict=True)]
    repetitions = run_sweep("noise", [*fixed, f"seed={','.join(map(str, range(1, NOISE_SEEDS + 1)))}"])
    return results, [trial.values[0] for trial in repetitions]


def simulate_asha(trials: Sequence[FrozenTrial]) -> tuple[float, float]:
    """Prune finished trials by their learning curves, in this order; return the best value and the relative steps."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=Sweep(pruner="asha").optuna_pruner())
    steps, best = 0, 0.0
    for finished in trials:
        trial = study.ask()
        *before, last = sorted(finished.intermediate_values)
        for step in before:
            steps += 1
            trial.report(finished.intermediate_values[step], step)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:  # a trial is not pruned at its last evaluation
            steps += 1
            trial.report(finished.intermediate_values[last], last)
            study.tell(trial, finished.values)
            best = max(best, finished.values[0])
    return best, steps / (EVALUATIONS * len(trials))


def pruning_table(results: Sequence[PruningResult], noise: float) -> Table:
    """Return a table with a row for each seed."""
    title = f"ASHA compared with the complete grid; noise {noise:.4f}"
    columns = ("best of the grid", "selected by ASHA", "difference / noise", "relative steps")
    order_columns = (f"steps in {ORDERS} orders: median, maximum", "orders within noise of the best")
    table = Table("seed", *columns, *order_columns, title=title)
    for result in results:
        distance = f"{(result.best - result.selected) / noise:.2f}"
        steps = [share for _, share in result.orders]
        spread = f"{statistics.median(steps):.1%}, {max(steps):.1%}"
        near = statistics.fmean(result.best - selected <= noise for selected, _ in result.orders)
        table.add_row(
            str(result.seed),
            f"{result.best:.4f}",
            f"{result.selected:.4f}",
            distance,
            f"{result.steps:.1%}",
            spread,
            f"{near:.0%}",
        )
    return table


# --- command ---------------------------------------------------------------------------------------------


def main() -> None:
    """Run the benchmarks, print the tables, and write them as JSON."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--rows", type=int, nargs="*", default=[EIGHT.rows], help="training rows of each short trial")
    parser.add_argument(
        "--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="ways to start short trials"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[1, 2, 3], help="seeds of the pruned grids; none: no grid"
    )
    args = parse_args(parser)
    seeds = args.seeds[:1] if args.quick else args.seeds
    tables, results = list[Table](), dict[str, Any]()
    with temporary_working_directory():
        trials_by_rows = [TWO] if args.quick else [replace(EIGHT, rows=rows) for rows in args.rows]
        for trials in trials_by_rows if args.rounds else ():
            timings = overhead(args.rounds, trials, args.kinds)
            tables.append(overhead_table(timings, trials.rows))
            results[f"overhead, {trials.rows} rows"] = {
                kind: [asdict(timing) for timing in rounds] for kind, rounds in timings.items()
            }
        if seeds:
            pruned, values = pruning(seeds, FEW if args.quick else GRID)
            tables.append(pruning_table(pruned, statistics.stdev(values)))
            results |= {"pruning": [result.to_json() for result in pruned], "best_over_seeds": values}
    report_results(__file__, args.out, tables, results)


if __name__ == "__main__":
    if sys.argv[1:2] == [BASIC]:
        del sys.argv[1]
        register_resolvers()
        hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME, **VERSION_BASE)(job)()
    else:
        main()
