"""`hydratune sweep finish`: the best trial of a sweep as an experiment, retrained over seeds, tested once per seed."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from hydratune.cli.train import checked, train
from hydratune.config import composition
from hydratune.config.instantiate import build
from hydratune.config.rules import SEEDS
from hydratune.sweep.export import Experiment, experiment, temporary_experiment
from hydratune.sweep.plan import Plan
from hydratune.sweep.report import results, tables
from hydratune.sweep.retraining import BEST
from hydratune.sweep.study import Study
from hydratune.sweep.trial import reset_accelerate
from hydratune.training.results import split_metrics
from hydratune.utils.errors import FAILED, ConfigError, Mistake
from hydratune.utils.files import METRICS, check_started_here
from hydratune.utils.provenance import cli_path, redacted_overrides
from hydratune.utils.stats import interval_text, mean_interval
from hydratune.utils.yaml_files import read_overrides

if TYPE_CHECKING:
    from rich.table import Table

_CONF = "my_conf"
_LOCK = ".finish.lock"  # in the sweep's directory
_SPLITS = {"eval": "validation", "test": "test"}
_SEED = "seed"  # key in the config
_SCOPE = "this configuration over seeds, on these fixed sets; the validation set also selected it"


@dataclass(frozen=True)
class Retraining:
    """One run that retrains the selected trial.

    Args:
        seed: Seed of the run.
        directory: Run directory.
        overrides: Overrides of the run, except for the one of its directory.
    """

    seed: int
    directory: Path
    overrides: tuple[str, ...]

    @property
    def is_finished(self) -> bool:
        """Return whether the run has been trained and tested."""
        return (self.directory / METRICS).is_file()

    def check(self) -> None:
        """Raise ConfigError if something else was trained in the run's directory."""
        path = self.directory / ".hydra" / "overrides.yaml"
        if path.is_file():
            before, now = redacted_overrides([*map(str, read_overrides(path))]), redacted_overrides([*self.overrides])
            if sorted(before) != sorted(now):
                where = os.path.relpath(self.directory)
                expected = f"{shlex.join(before)}, with which {where} was trained"
                fix = f"Say the same, or remove {where} to train it anew."
                raise ConfigError(Mistake("OVERRIDES", expected, shlex.join(now), fix))


def finish(
    plan: Plan,
    cfg: DictConfig,
    conf: Path | None,
    seeds: Sequence[int] | None,
    number: int | None,
    overrides: Sequence[str],
    force: bool,
) -> int:
    """Export, retrain, and test the selected trial, as far as that is not done yet; return the exit code.

    Args:
        plan: Plan of the sweep.
        cfg: Config that its trials have in common.
        conf: Conf directory for the experiment; None for the default one.
        seeds: Seeds of the retrainings; None for as many fresh ones as the sweep has.
        number: Number of the trial; None for the best one.
        overrides: Overrides of the retrainings alone.
        force: Whether to replace an existing experiment of this name.
    """
    study = Study(plan, build(cfg.sweep))
    found = results.rows(plan, study.trials())
    row = _winner(plan, found, number)
    if not study.is_done():
        print(f"the sweep is not done: {tables.summary(plan, found, study.total(), study.options.workers)}")
    check_started_here(plan.cwd, f"hydratune sweep finish {shlex.quote(plan.name)}")
    with _alone(plan):
        made = experiment(plan, row, _conf(plan, conf))
        _check_free(made, force)
        used = _selecting_seeds(plan, made)
        runs = [_retraining(plan, row, made, seed, overrides) for seed in seeds or _fresh_seeds(plan, used)]
        for one in runs:
            one.check()
        with temporary_experiment(made, plan):
            _check_overrides(plan, made, runs[0])
        print(f"trial {row.number}  {row.name}  is now {os.path.relpath(made.path)}")
        print(_selection(plan, row, found))
        if again := sorted(used.intersection(one.seed for one in runs)):
            names = ", ".join(map(str, again))
            print(f"seed {names} selected this trial, so its scores are too high: leave --seeds out for fresh seeds")
        print(f"run it   {shlex.join([cli_path(), *made.flags, f'experiment={made.name}'])}")
        code = _train_all(runs, made)
        _tell(plan, runs)
    return code


def _winner(plan: Plan, found: Sequence[results.TrialRow], number: int | None) -> results.TrialRow:
    """Return the trial with that number, or the best trial by the only objective.

    Raises:
        ConfigError: No trial is done, the number is not one of a trial that is done, or there are several objectives.
    """
    done = results.ranked(plan, found)
    if not done:
        got = ", ".join(f"{count} {state}" for state, count in results.counts(found).items() if count) or "none"
        raise ConfigError(Mistake("NAME", "a sweep with a trial that is done", got, "Go on with it first."))
    if number is not None:
        for row in done:
            if row.number == number:
                return row
        got, fix = str(number), f"The best is {done[0].number}."
        raise ConfigError(Mistake("--trial", "the number of a trial that is done", got, fix))
    if len(plan.objectives) > 1:
        front = ", ".join(str(row.number) for row in results.pareto_front(plan, found))
        expected, fix = f"one of {len(done)} trials, since there are several objectives", f"No other beats {front}."
        raise ConfigError(Mistake("--trial", expected, "none", fix))
    return done[0]


def _selecting_seeds(plan: Plan, made: Experiment) -> set[int]:
    """Return the seeds that trials of the sweep were trained with, whose scores selected the trial."""
    used = {*plan.seeds} or {made.seed}
    for parameter in plan.space.parameters:
        if _SEED in parameter.keys:
            used |= {int(texts[parameter.keys.index(_SEED)]) for texts in parameter.choices} or {int(parameter.high)}
    return used


def _fresh_seeds(plan: Plan, used: set[int]) -> list[int]:
    """Return as many seeds as the sweep has, at least one, that no trial was trained with.

    They follow the highest seed of the sweep, or start at 0 if they would exceed `SEEDS`.
    """
    count = max(len(plan.seeds), 1)
    first = max(used) + 1 if max(used) + count < SEEDS else 0
    return list(itertools.islice((seed for seed in itertools.count(first) if seed not in used), count))


def _selection(plan: Plan, row: results.TrialRow, found: Sequence[results.TrialRow]) -> str:
    """Return a line with the score that selected a trial, labeled as such because it has a selection bias."""
    values = ", ".join(f"{name} {value:.4f}" for name, value in zip(plan.objectives, row.values, strict=True))
    return f"selected on validation, as the best of {len(results.ranked(plan, found))} trials: {values}"


def _alone(plan: Plan) -> Any:
    """Return a lock, so that two commands do not train in one directory."""
    try:
        return FileLock(plan.directory / _LOCK).acquire(blocking=False)
    except Timeout as error:
        got, fix = "one that another process finishes", "Wait until it has ended."
        raise ConfigError(Mistake("NAME", "a sweep that nobody finishes now", got, fix)) from error


def _conf(plan: Plan, given: Path | None) -> Path:
    """Return the conf directory: the sweep's own if it has one, since a run cannot have another.

    Raises:
        ConfigError: Another one is given, or the stored one is outside the current directory and was not typed.
    """
    own = plan.flags["config_dir"]
    if own and given and given != Path(own):
        raise ConfigError(Mistake("--config-dir", f"{own}, as in the sweep", str(given), "Leave it out."))
    if own and not given and not Path(own).resolve().is_relative_to(Path.cwd()):  # sweep.json may be someone else's
        fix = f"To write the experiment there, add --config-dir {shlex.quote(own)}."
        raise ConfigError(Mistake("--config-dir", "a directory below the current one", repr(own), fix))
    return Path(own) if own else given or Path(_CONF).absolute()


def _check_free(made: Experiment, force: bool) -> None:
    """Raise ConfigError if the experiment's file exists with other content, unless `force` is set."""
    if made.path.exists() and not force and made.path.read_text(encoding="utf-8") != made.text:
        got = f"{os.path.relpath(made.path)}, which says something else"
        raise ConfigError(Mistake("experiment", "a new file", got, "Rename it, or add --force to replace it."))


def _retraining(plan: Plan, row: results.TrialRow, made: Experiment, seed: int, overrides: Sequence[str]) -> Retraining:
    folder = plan.directory / BEST / f"trial={row.number}" / f"seed={seed}"
    return Retraining(seed, folder, (f"experiment={made.name}", f"seed={seed}", *overrides))


def _check_overrides(plan: Plan, made: Experiment, one: Retraining) -> None:
    """Raise ConfigError with all errors of a retraining's config."""
    request = replace(plan.request, overrides=one.overrides, config_dir=made.path.parents[1])
    with composition.composer(request):
        checked(request)


def _train_all(runs: Sequence[Retraining], made: Experiment) -> int:
    """Train one run after the other, each of which may fail without ending the others; return the exit code."""
    try:
        codes = [_train(one, made) for one in runs]
    except (KeyboardInterrupt, SystemExit):
        print("\nwhat is done is kept; the same command goes on", file=sys.stderr)
        raise
    return FAILED if any(codes) else 0


def _train(one: Retraining, made: Experiment) -> int:
    """Train and test a run unless it is finished; resume it if it was interrupted."""
    where = os.path.relpath(one.directory)
    if one.is_finished:
        print(f"{where}: finished, nothing to do")
        return 0
    print(f"seed {one.seed}   {where}", flush=True)
    arguments = [*made.flags, *one.overrides]
    try:
        if one.directory.exists():
            return train(arguments, one.directory)
        return train([*arguments, f"hydra.run.dir={composition.quoted(one.directory)}"])
    finally:
        reset_accelerate()  # this also frees the model's memory for the next run


def _tell(plan: Plan, runs: Sequence[Retraining]) -> None:
    """Print the scores of all finished retrainings, and the best of them on validation."""
    done = {one: json.loads((one.directory / METRICS).read_text(encoding="utf-8")) for one in runs if one.is_finished}
    if not done:
        return
    console = tables.console()
    console.print(_table(plan, {one.seed: metrics for one, metrics in done.items()}))
    name, direction = next(iter(plan.objectives.items()))
    choose = max if direction == "maximize" else min
    best = choose(done, key=lambda one: done[one][name])
    console.print(f"best on validation: seed {best.seed}, {name} {done[best][name]:.4f}")
    console.print(f"files    {os.path.relpath(best.directory)}")


def _table(plan: Plan, by_seed: Mapping[int, Mapping[str, Any]]) -> Table:
    """Return a table with one row per metric: the value with each seed and, for several seeds, the mean.

    From three seeds on, the row also has the interval of the mean.
    """
    from rich.table import Column, Table

    several = len(by_seed) > 1
    means = ("mean", "95 % interval") if several else ()
    table = Table(Column(no_wrap=True), *(f"seed {seed}" for seed in by_seed), *means)
    table.caption, table.caption_justify = _SCOPE, "left"
    for prefix, split in _SPLITS.items():
        found = [split_metrics(metrics, prefix) for metrics in by_seed.values()]
        rows = next(iter(by_seed.values())).get(f"{prefix}_samples")
        for name in found[0]:
            values = [float(one[name]) for one in found]
            cells = [f"{value:.4f}" for value in values]
            if several:
                mean = mean_interval(values, results.scale(plan, name, rows))
                cells += [f"{mean.value:.4f}", interval_text(values, mean)]
            table.add_row(f"{split} {name}" + " (selected on)" * (prefix == "eval"), *cells)
    return table
