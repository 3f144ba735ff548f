"""Overhead of a sweep in addition to its training, and savings of its pruner: `python benchmarks/sweep.py`.

Overhead: eight short trials of the default experiment, in turn as a sweep on one worker, as eight commands, and with
Hydra's basic sweeper, in one process whose jobs load everything again. The overhead is the time in addition to the sum
of the Trainer's `train_runtime` of the runs, and to the time from the start to the first training. A separate command
also evaluates on one test row and saves its model, which a trial does not.

Pruning: a grid of 27 points on handwritten digits, complete and with `sweep.pruner=asha` in a random order, with three
seeds. It measures the trained steps, and the distance of the selected configuration from the best one of the grid,
compared with the noise: the standard deviation of the best configuration over five seeds. One order is not
representative, so the pruner is also simulated on the learning curves of the whole grid in a hundred other orders.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from common import HYDRATUNE, finish, in_turn, parse, parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.table import Table

from hydratune.config.composition import CONFIG_MODULE, CONFIG_NAME, register_resolvers
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
class Trials:
    """Short ones: each rate with each decay.

    Args:
        rates: Of learning.
        decays: Of weights.
        rows: To train on.
    """

    rates: Sequence[str]
    decays: Sequence[str]
    rows: int

    @property
    def count(self) -> int:
        """How many."""
        return len(self.rates) * len(self.decays)

    @property
    def short(self) -> list[str]:
        """Overrides of all."""
        return [*SHORT, f"dataset.max_samples.train={self.rows}"]

    @property
    def swept(self) -> list[str]:
        """Overrides that a sweep takes apart."""
        return [
            f"trainer.args.learning_rate={','.join(self.rates)}",
            f"trainer.args.weight_decay={','.join(self.decays)}",
        ]


EIGHT = Trials(("5e-5", "1e-4", "2e-4", "4e-4"), ("0", "0.1"), rows=192)
TWO = Trials(("5e-5", "1e-4"), ("0",), rows=32)


@dataclass(frozen=True)
class Timing:
    """Where the seconds of some runs went.

    Args:
        count: Of the runs.
        total: From the start of the first process to the end of the last.
        training: Trainer's `train_runtime`, summed.
        startup: From the start of the first process to the beginning of the first run.
        ending: From the end of the last run to the end of its process.
    """

    count: int
    total: float
    training: float
    startup: float
    ending: float

    @property
    def between(self) -> float:
        """Between two trainings, on average."""
        return (self.total - self.training - self.startup - self.ending) / self.count

    @property
    def ratio(self) -> float:
        """Of the total to what cannot be done without."""
        return self.total / (self.training + self.startup)


def timed(commands: Sequence[Sequence[str]], folders: Sequence[Path]) -> Timing:
    """Runs commands one after the other, whose runs leave their files in `folders`."""
    start = time.time()
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    end = time.time()
    seconds = [json.loads((folder / METRICS).read_text())["train_runtime"] for folder in folders]
    entries = [list(Journal(folder).entries(0)) for folder in folders]
    began = next(entry.values["began"] for entry in entries[0] if entry.kind == "run") / 1000
    ended = next(entry.values["ended"] for entry in entries[-1] if entry.kind == "status") / 1000
    return Timing(len(folders), end - start, sum(seconds), began - start, end - ended)


def sweep(trials: Trials, numbers: itertools.count[int]) -> Timing:
    """As trials of one sweep."""
    name = f"rows-{trials.rows}-{next(numbers)}"
    folders = [Path("multirun", name, str(i)) for i in range(trials.count)]
    return timed([[HYDRATUNE, "-m", *trials.short, *trials.swept, f"sweep.name={name}"]], folders)


def commands(trials: Trials, numbers: itertools.count[int]) -> Timing:
    """As commands."""
    where = Path(f"commands-{trials.rows}-{next(numbers)}")
    folders = [where / str(i) for i in range(trials.count)]
    points = itertools.product(trials.rates, trials.decays)
    return timed(
        [
            [HYDRATUNE, *trials.short, f"trainer.args.learning_rate={rate}", f"trainer.args.weight_decay={decay}",
             f"hydra.run.dir={folder}"]
            for folder, (rate, decay) in zip(folders, points, strict=True)
        ],
        folders,
    )  # fmt: skip


def basic_sweeper(trials: Trials, numbers: itertools.count[int]) -> Timing:
    """As jobs of Hydra's basic sweeper."""
    where = Path(f"basic-{trials.rows}-{next(numbers)}")
    folders = [where / str(i) for i in range(trials.count)]
    hydras = ["hydra/sweeper=basic", f"hydra.sweep.dir={where}", "hydra.sweep.subdir=${hydra:job.num}"]
    return timed([[sys.executable, __file__, BASIC, "-m", *trials.short, *trials.swept, *hydras]], folders)


def job(cfg: DictConfig) -> None:
    """What Hydra's basic sweeper runs: a run like a trial's, without what a worker keeps."""
    run(cfg, hydra_job(TrialContext(str(HydraConfig.get().job.num))))


KINDS = {"hydratune -m": sweep, "commands": commands, "Hydra's basic sweeper": basic_sweeper}


def overhead(rounds: int, trials: Trials, kinds: Sequence[str]) -> dict[str, list[Timing]]:
    """Kind -> its timing in each round."""
    warm = [HYDRATUNE, *trials.short, "trainer.args.max_steps=2"]
    subprocess.run(warm, check=True, capture_output=True)  # the cache of tokenized rows, the store's tables
    return in_turn(rounds, {name: partial(KINDS[name], trials, itertools.count()) for name in kinds})


def overhead_table(timings: dict[str, list[Timing]], rows: int) -> Table:
    """Medians of the rounds."""
    first = next(iter(timings.values()))
    title = f"{first[0].count} trials of {rows} rows, medians of {len(first)}"
    table = Table("", "s in all", "training", "start", "between two", "end", "in all / (training + start)", title=title)
    for kind, rounds in timings.items():
        names = ("total", "training", "startup", "between", "ending")
        seconds = [f"{statistics.median(getattr(one, name) for one in rounds):.2f}" for name in names]
        table.add_row(kind, *seconds, f"{statistics.median(one.ratio for one in rounds):.3f}")
    return table


# --- pruning ---------------------------------------------------------------------------------------------

DIGITS = [
    "experiment=digits",
    "tracking=none",
    "dataset.max_samples.train=1000",
    "model.config.num_hidden_layers=2",
    "trainer.args.per_device_train_batch_size=16",
    "trainer.args.warmup_steps=0",  # the first evaluation decides much
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
class Pruned:
    """Results of a pruned grid, compared with the complete one.

    Args:
        seed: Of all trials.
        best: Value of the whole grid's best configuration.
        found: Value, in the whole grid, of the configuration that the pruned one found.
        steps: Share of the whole grid's training steps that the pruned one took.
        orders: Value and share of steps of each other order.
    """

    seed: int
    best: float
    found: float
    steps: float
    orders: Sequence[tuple[float, float]]


def trials(name: str, overrides: Sequence[str]) -> list[FrozenTrial]:
    """Of a sweep."""
    import optuna

    subprocess.run([HYDRATUNE, "-m", *DIGITS, *overrides, f"sweep.name={name}"], check=True, capture_output=True)
    return optuna.load_study(study_name=name, storage=default_storage(Path("multirun", name))).trials


def pruning(seeds: Sequence[int], grid: Mapping[str, str]) -> tuple[list[Pruned], list[float]]:
    """What ASHA found with each seed, and the values of the best configuration over more seeds."""
    swept = [f"{key}={values}" for key, values in grid.items()]
    results, points = list[Pruned](), dict[tuple[Any, ...], list[float]]()
    for seed in seeds:
        asha = trials(f"asha-{seed}", [*swept, f"seed={seed}", "sweep.pruner=asha", "sweep.shuffle_trials=true"])
        whole = trials(f"grid-{seed}", [*swept, f"seed={seed}"])
        values = {tuple(trial.params.values()): trial.values[0] for trial in whole}
        found = max((trial for trial in asha if trial.values), key=lambda trial: trial.values[0])
        steps = sum(len(trial.intermediate_values) for trial in asha) / (EVALUATIONS * len(whole))
        orders = [replayed(random.Random(i).sample(whole, len(whole))) for i in range(ORDERS)]  # noqa: S311 (no secret)
        results.append(Pruned(seed, max(values.values()), values[tuple(found.params.values())], steps, orders))
        for point, value in values.items():
            points.setdefault(point, []).append(value)
    best = max(points, key=lambda point: statistics.fmean(points[point]))
    fixed = [f"{key}={value}" for key, value in zip(grid, best, strict=True)]
    again = trials("noise", [*fixed, f"seed={','.join(map(str, range(1, NOISE_SEEDS + 1)))}"])
    return results, [trial.values[0] for trial in again]


def replayed(whole: Sequence[FrozenTrial]) -> tuple[float, float]:
    """What ASHA finds among trials whose learning curves are known, in their order, and its share of their steps."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=Sweep(pruner="asha").optuna_pruner())
    steps, best = 0, 0.0
    for known in whole:
        trial = study.ask()
        *before, last = sorted(known.intermediate_values)
        for step in before:
            steps += 1
            trial.report(known.intermediate_values[step], step)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:  # what has come to the last evaluation is not pruned
            steps += 1
            trial.report(known.intermediate_values[last], last)
            study.tell(trial, known.values)
            best = max(best, known.values[0])
    return best, steps / (EVALUATIONS * len(whole))


def pruning_table(results: Sequence[Pruned], noise: float) -> Table:
    """A row a seed."""
    title = f"ASHA on a grid; noise {noise:.4f}"
    others = f"steps in {ORDERS} orders: median, most"
    table = Table("seed", "grid's best", "found by ASHA", "difference / noise", "steps", others, "of them within noise",
                  title=title)  # fmt: skip
    for one in results:
        distance = f"{(one.best - one.found) / noise:.2f}"
        steps = [share for _, share in one.orders]
        spread = f"{statistics.median(steps):.1%}, {max(steps):.1%}"
        near = statistics.fmean(one.best - found <= noise for found, _ in one.orders)
        table.add_row(
            str(one.seed), f"{one.best:.4f}", f"{one.found:.4f}", distance, f"{one.steps:.1%}", spread, f"{near:.0%}"
        )
    return table


# --- all -------------------------------------------------------------------------------------------------


def main() -> None:
    """Measures, prints the tables and writes them as JSON."""
    made = parser(__doc__, rounds=3)
    made.add_argument("--rows", type=int, nargs="*", default=[EIGHT.rows], help="training rows of each short trial")
    made.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="ways to start short trials")
    made.add_argument(
        "--seeds", type=int, nargs="*", default=[1, 2, 3], help="seeds of the pruned grids; none: no grid"
    )
    given = parse(made)
    seeds = given.seeds[:1] if given.quick else given.seeds
    tables, results, home = list[Table](), dict[str, Any](), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        short = [TWO] if given.quick else [replace(EIGHT, rows=rows) for rows in given.rows]
        for one in short if given.rounds else ():
            timings = overhead(given.rounds, one, given.kinds)
            tables.append(overhead_table(timings, one.rows))
            results[f"overhead, {one.rows} rows"] = {kind: [asdict(t) for t in all_] for kind, all_ in timings.items()}
        if seeds:
            pruned, again = pruning(seeds, FEW if given.quick else GRID)
            tables.append(pruning_table(pruned, statistics.stdev(again)))
            results |= {"pruning": [asdict(one) for one in pruned], "best_over_seeds": again}
        os.chdir(home)
    finish(__file__, given.out, tables, results)


if __name__ == "__main__":
    if sys.argv[1:2] == [BASIC]:
        del sys.argv[1]
        register_resolvers()
        hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME, **VERSION_BASE)(job)()
    else:
        main()
