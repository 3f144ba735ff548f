"""`hydratune sweep finish`: the best trial of a sweep as an experiment, retrained over seeds, tested once per seed."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import Timeout
from omegaconf import DictConfig

from hydratune.cli.interrupts import resumable
from hydratune.cli.notes import update_sweep
from hydratune.cli.train import checked, train
from hydratune.config import composition
from hydratune.config.instantiate import build
from hydratune.config.project import config_dir, typed_flags
from hydratune.config.rules import SEEDS
from hydratune.sweep.controller import resume_line
from hydratune.sweep.export import Experiment, experiment, temporary_experiment
from hydratune.sweep.plan import Plan
from hydratune.sweep.report import results, tables
from hydratune.sweep.report.significance import best_two_trials
from hydratune.sweep.stored_plan import sweep_command
from hydratune.sweep.study import Study
from hydratune.sweep.trial import reset_accelerate
from hydratune.tracking.run_directories import BEST
from hydratune.training.results import read_metrics, split_metrics
from hydratune.utils.errors import FAILED, KEY, ConfigError, Problem
from hydratune.utils.files import METRICS, check_started_here, file_lock, is_inside
from hydratune.utils.fitted_table import Column, FittedTable
from hydratune.utils.provenance import cli_path, redacted_overrides
from hydratune.utils.short_forms import metric_name, number_text, ties_text
from hydratune.utils.stats import interval_text, mean_interval
from hydratune.utils.yaml_files import read_overrides

_CONF = "my_conf"
_LOCK = ".finish.lock"  # in the sweep's directory
_SPLITS = {"eval": "validation", "test": "test"}
_SEED = "seed"  # key in the config
_SCOPE = "validation scores are biased, because validation selected this configuration"


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
            stored, typed = redacted_overrides([*map(str, read_overrides(path))]), redacted_overrides([*self.overrides])
            if sorted(stored) != sorted(typed):
                directory = os.path.relpath(self.directory)
                text = f"{directory} was trained with {shlex.join(stored)}, not with {shlex.join(typed)}"
                hint = f"use the same overrides, or remove {directory} to retrain"
                raise ConfigError(Problem("OVERRIDES", text, hint))


def finish(
    plan: Plan,
    cfg: DictConfig,
    conf: Path | None,
    seeds: Sequence[int] | None,
    number: int | None,
    overrides: Sequence[str],
    force: bool,
    *,
    dry_run: bool = False,
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
        dry_run: Whether to only check and print what would be done.
    """
    study = Study(plan, build(cfg.sweep))
    rows = results.rows(plan, study.trials())
    row = _winner(plan, rows, number)
    if not study.is_done():
        print(f"the sweep is not finished: {tables.summary(plan, rows, study.total(), study.options.workers)}")
        print(resume_line(study, rows))
    check_started_here(plan.cwd, f"hydratune sweep finish {shlex.quote(plan.name)}")
    with _alone(plan):
        is_best = len(plan.objectives) > 1 or row.number == results.ranked(plan, rows)[0].number
        exported = experiment(plan, row, _conf(plan, conf), is_best)
        _check_free(exported, force)
        used_seeds = _selecting_seeds(plan, exported)
        runs = [_retraining(plan, row, exported, seed, overrides) for seed in seeds or _fresh_seeds(plan, used_seeds)]
        for run in runs:
            run.check()
        with temporary_experiment(exported, plan, keep=not dry_run):
            _check_overrides(plan, exported, runs[0])
        export = "would be exported" if dry_run else "exported"
        print(f"trial {row.number}  {row.name}  {export} to {os.path.relpath(exported.path)}")
        print(_selection(plan, row, rows))
        if selecting_seeds := sorted(used_seeds.intersection(run.seed for run in runs)):
            names = ", ".join(map(str, selecting_seeds))
            print(f"seed {names} also selected this trial, so its scores are biased; omit --seeds to use new seeds")
        if dry_run:
            for run in runs:
                state = "finished, nothing to do" if run.is_finished else "would be trained and tested"
                print(f"seed {run.seed}   {os.path.relpath(run.directory)}: {state}")
            print("no errors found")
            return 0
        print(f"run it   {shlex.join([cli_path(), *typed_flags(exported.flags), f'experiment={exported.name}'])}")
        exit_code = _train_all(plan, runs, exported)
        _tell(plan, runs)
        _compare_best(plan, study)
    return exit_code


def _winner(plan: Plan, rows: Sequence[results.TrialRow], number: int | None) -> results.TrialRow:
    """Return the trial with that number, or the best trial by the only objective.

    Raises:
        ConfigError: No trial is done, the number is not one of a trial that is done, or there are several objectives.
    """
    ranked = results.ranked(plan, rows)
    if not ranked:
        counts = ", ".join(f"{count} {state}" for state, count in results.counts(rows).items() if count) or "no trials"
        text, hint = f"the sweep {plan.name!r} has no finished trial ({counts})", "resume the sweep first"
        hint += f": {command}" if (command := sweep_command(plan)) else ""
        raise ConfigError(Problem("NAME", text, hint))
    if number is not None:
        for row in ranked:
            if row.number == number or row.folder == str(number):  # a retry has the directory of the trial it replaces
                return row
        text, hint = f"the sweep has no finished trial {number}", f"use {KEY}={ranked[0].number} for the best one"
        raise ConfigError(Problem("--trial", text, hint))
    if len(plan.objectives) > 1:
        front = ", ".join(str(row.number) for row in results.pareto_front(plan, rows))
        text = f"{KEY} is required, because the sweep has several objectives"
        raise ConfigError(Problem("--trial", text, f"choose a trial of the Pareto front: {front}"))
    return ranked[0]


def _selecting_seeds(plan: Plan, exported: Experiment) -> set[int]:
    """Return the seeds that trials of the sweep were trained with, whose scores selected the trial."""
    seeds = {*plan.seeds} or {exported.seed}
    for parameter in plan.space.parameters:
        if _SEED in parameter.keys:
            seeds |= {int(texts[parameter.keys.index(_SEED)]) for texts in parameter.choices} or {int(parameter.high)}
    return seeds


def _fresh_seeds(plan: Plan, used_seeds: set[int]) -> list[int]:
    """Return as many seeds as the sweep has, at least one, that no trial was trained with.

    They follow the highest seed of the sweep, or start at 0 if they would exceed `SEEDS`.
    """
    count = max(len(plan.seeds), 1)
    first = max(used_seeds) + 1 if max(used_seeds) + count < SEEDS else 0
    return list(itertools.islice((seed for seed in itertools.count(first) if seed not in used_seeds), count))


def _selection(plan: Plan, row: results.TrialRow, rows: Sequence[results.TrialRow]) -> str:
    """Return a line with the validation score of a trial, labeled as such if the score selected the trial."""
    ranked, scores = results.ranked(plan, rows), results.scores_text(plan, row)
    if row.number != ranked[0].number or len(plan.objectives) > 1:
        return f"selected by --trial, of {len(ranked)} trials; on validation: {scores}"
    return f"selected on validation, as the best of {len(ranked)} trials: {scores}{results.ties(plan, rows, row)}"


def _alone(plan: Plan) -> Any:
    """Return a lock, so that two commands do not train in one directory."""
    try:
        return file_lock(plan.directory / _LOCK).acquire(blocking=False)
    except Timeout as error:
        text = f"another process runs `sweep finish` for {plan.name!r}"
        raise ConfigError(Problem("NAME", text, "wait until it ends")) from error


def _conf(plan: Plan, conf: Path | None) -> Path:
    """Return the conf directory: the sweep's own if it has one, since a run cannot have another.

    Raises:
        ConfigError: Another one is given, or the stored one is outside the current directory and was not typed.
    """
    stored = plan.flags.config_dir
    if stored and conf and conf != Path(stored):
        text = f"{KEY} must be that of the sweep, {stored!r}, not {str(conf)!r}"
        raise ConfigError(Problem("--config-dir", text, f"omit {KEY}"))
    # sweep.json and links in the current directory may be someone else's.
    folder = conf or Path(stored or config_dir() or _CONF).absolute()
    if not conf and not is_inside(folder / "experiment", Path.cwd()):
        text = f"the experiment would be written outside the working directory, to {str(folder)!r}"
        hint = f"add {KEY} {shlex.quote(str(folder))} to allow it"
        raise ConfigError(Problem("--config-dir", text, hint))
    return folder


def _check_free(exported: Experiment, force: bool) -> None:
    """Raise ConfigError if the experiment's file exists with other content, unless `force` is set."""
    if exported.path.exists() and not force and exported.path.read_text(encoding="utf-8") != exported.text:
        text = f"{os.path.relpath(exported.path)} already exists with other content"
        raise ConfigError(Problem("experiment", text, "rename the file, or add --force to replace it"))


def _retraining(
    plan: Plan, row: results.TrialRow, exported: Experiment, seed: int, overrides: Sequence[str]
) -> Retraining:
    folder = plan.directory / BEST / f"trial={row.number}" / f"seed={seed}"
    return Retraining(seed, folder, (f"experiment={exported.name}", f"seed={seed}", *overrides))


def _check_overrides(plan: Plan, exported: Experiment, retraining: Retraining) -> None:
    """Raise ConfigError with all errors of a retraining's config."""
    request = replace(plan.request, overrides=retraining.overrides, config_dir=exported.path.parents[1])
    with composition.composer(request):
        checked(request, is_own_project=_origin(plan) is None)


def _origin(plan: Plan) -> str | None:
    """Return the directory in which someone else started the sweep; None if the user started it, here."""
    return None if plan.cwd == str(Path.cwd()) else plan.cwd


def _train_all(plan: Plan, runs: Sequence[Retraining], exported: Experiment) -> int:
    """Train one run after the other, each of which may fail without ending the others; return the exit code."""
    try:
        with resumable(plan.directory / BEST):
            codes = [_train(run, exported, _origin(plan)) for run in runs]
    except (KeyboardInterrupt, SystemExit):
        print("\nfinished runs are saved; resume with the same command", file=sys.stderr)
        raise
    return FAILED if any(codes) else 0


def _train(run: Retraining, exported: Experiment, origin: str | None) -> int:
    """Train and test a run unless it is finished; resume it if it was interrupted."""
    directory = os.path.relpath(run.directory)
    if run.is_finished:
        print(f"{directory}: finished, nothing to do")
        return 0
    print(f"seed {run.seed}   {directory}", flush=True)
    arguments = [*exported.flags, *run.overrides]
    try:
        if run.directory.exists():
            return train(arguments, run.directory, origin=origin)
        return train([*arguments, f"hydra.run.dir={composition.quoted(run.directory)}"], origin=origin)
    finally:
        reset_accelerate()  # this also frees the model's memory for the next run


def _tell(plan: Plan, runs: Sequence[Retraining]) -> None:
    """Print the scores of all finished retrainings, and the best of them on validation."""
    metrics_by_run = {run: read_metrics(run.directory, *plan.objectives) for run in runs if run.is_finished}
    if not metrics_by_run:
        return
    console = tables.console()
    console.print(_table(plan, {run.seed: metrics for run, metrics in metrics_by_run.items()}))
    name, direction = next(iter(plan.objectives.items()))
    select = max if direction == "maximize" else min
    best_run = select(metrics_by_run, key=lambda run: metrics_by_run[run][name])
    best = metrics_by_run[best_run][name]
    ties = ties_text((metrics[name] for metrics in metrics_by_run.values()), best)
    console.print(f"best on validation: seed {best_run.seed}, {metric_name(name)} {number_text(best)}{ties}")
    console.print(f"files    {os.path.relpath(best_run.directory)}")


def _compare_best(plan: Plan, study: Study) -> None:
    """Print whether the best trial is significantly better than the second best one, and update note and report."""
    verdict = best_two_trials(plan, results.rows(plan, study.trials()))
    console = tables.console()
    for sentence in verdict.sentences:
        console.print(sentence)
    for purpose, command in verdict.commands.items():
        console.print(f"next     {command}   ({purpose})")
    update_sweep(study, verdict)


def _table(plan: Plan, by_seed: Mapping[int, Mapping[str, Any]]) -> FittedTable:
    """Return a table with one row per metric: the value with each seed and, for several seeds, the mean.

    From three seeds on, the row also has the interval of the mean.
    """
    names, cells = list[str](), list[list[str]]()
    for prefix, split in _SPLITS.items():
        scores_by_run = [split_metrics(metrics, prefix) for metrics in by_seed.values()]
        rows = next(iter(by_seed.values())).get(f"{prefix}_samples")
        for name in scores_by_run[0]:
            values = [float(scores[name]) for scores in scores_by_run]
            mean = mean_interval(values, results.scale(plan, name, rows))
            names.append(f"{split} {name}")
            cells.append([*map(number_text, values), number_text(mean.value), interval_text(values, mean)])
    headers = [*(f"seed {seed}" for seed in by_seed), *(("mean", "95% interval or range") if len(by_seed) > 1 else ())]
    ranks = [*([2] * len(by_seed)), 1, 1]
    by_header = zip(headers, zip(*cells, strict=True), ranks, strict=False)
    columns = [Column(header, column, rank, is_number=True) for header, column, rank in by_header]
    return FittedTable([Column("", names, 0), *columns], caption=_SCOPE)
