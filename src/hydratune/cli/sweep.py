"""`hydratune sweep plan|status|report|finish`: a dry run, the state and results of a sweep, and its best trial."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.run_status import format_age
from hydratune.cli.sweep_finish import finish
from hydratune.cli.train_options import print_options
from hydratune.cli.train_or_print import train_or_print
from hydratune.config.compose_errors import compose_error
from hydratune.config.instantiate import build
from hydratune.sweep.controller import print_summary, resume_line
from hydratune.sweep.plan import Plan
from hydratune.sweep.report import page, results, tables
from hydratune.sweep.stored_plan import stored_sweep
from hydratune.sweep.study import Study
from hydratune.tracking.run_directories import start_time
from hydratune.tracking.run_lookup import LATEST
from hydratune.utils import clock
from hydratune.utils.arguments import DRY_RUN, ArgumentParser
from hydratune.utils.console import watch
from hydratune.utils.errors import KEY, ConfigError, Problem, similar
from hydratune.utils.files import PLAN
from hydratune.utils.places import check_place

if TYPE_CHECKING:
    from hydratune.utils.fitted_table import FittedTable

_PLACE = Path("multirun")
_LISTED = 8  # sweeps in a hint
_PLAN_HELP = "List the trials of a sweep, and validate them. Arguments are those of hydratune -m."
_PLAN_OPTIONS = ("overrides", "help", "config_dir", "config_name", "config_path", "quiet", "verbose")
_USAGE = """usage: hydratune sweep plan KEY=VALUE ...
       hydratune sweep status [NAME] [--watch]
       hydratune sweep report NAME
       hydratune sweep finish NAME [--seeds 4,5,6] [--trial N] [-n]
                              [KEY=VALUE ...]

plan    list the trials of hydratune -m KEY=VALUE ..., and validate them
status  print the state of a sweep, even while it is running, or list the sweeps
report  print the results of a sweep, and write its report
finish  export the best trial as an experiment, retrain it, and test it

Start or resume a sweep: hydratune -m KEY=VALUE ..."""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand in the first argument, and return the exit code."""
    subcommand, *rest = arguments or ["--help"]
    if subcommand == "help":
        subcommand, *rest = [*rest, "--help"]
    if subcommand in ("-h", "--help"):
        print(_USAGE)
        return 0
    if subcommand not in _VERBS:
        otherwise = "use plan, status, report, or finish; start a sweep with `hydratune -m OVERRIDES`"
        hint = similar("subcommand", subcommand, _VERBS, _ANSWERS.get(subcommand, otherwise))
        raise ConfigError(Problem("sweep", f"unknown subcommand {subcommand!r} of {KEY}", hint))
    try:
        return _VERBS[subcommand](rest)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(compose_error(error)) from error


def _report(arguments: Sequence[str]) -> int:
    """Print the table, also while the sweep runs, and write the report's files."""
    parser = _SweepParser(
        prog="hydratune sweep report", description="Print the results of a sweep and write its report."
    )
    _add_name(parser)
    plan, cfg = open_sweep(parser.parse_args(arguments).name)
    study = Study(plan, build(cfg.sweep))
    page.write(study)
    print_summary(study, cfg)
    return 0  # also if trials failed


def _status(arguments: Sequence[str]) -> int:
    """Print the table of a sweep that may be running; write nothing."""
    parser = ArgumentParser(prog="hydratune sweep status", description="Print the state of a sweep.")
    _add_name(parser, nargs="?", more="; without it, the sweeps are listed")
    parser.add_argument("--watch", action="store_true", help="update the table until the sweep ends or Ctrl-C")
    args = parser.parse_args(arguments)
    if args.name is None:
        return _list_sweeps()
    plan, cfg = open_sweep(args.name)
    study = Study(plan, build(cfg.sweep))

    def board() -> FittedTable:
        rows = results.rows(plan, study.trials())
        return tables.live(plan, rows, study.total(), study.options.workers)

    watch(tables.console(), board, study.is_done if args.watch else None)
    if unfinished := resume_line(study, results.rows(plan, study.trials())):
        tables.console().print(unfinished)
    return 0


def _plan(arguments: Sequence[str]) -> int:
    if {"-h", "--help"} & {*arguments}:
        print_options("hydratune sweep plan", _PLAN_HELP, _PLAN_OPTIONS)
        return 0
    return train_or_print(["-m", *arguments, DRY_RUN[-1]])


def _finish(arguments: Sequence[str]) -> int:
    """Export the best trial as an experiment, retrain it, and test the retrainings."""
    parser = _SweepParser(
        prog="hydratune sweep finish",
        description="Export the best trial as an experiment, retrain it, and evaluate each retrained model on test.",
    )
    _add_name(parser)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="override for the retraining, e.g. tracking.registered_model_name=NAME",
    )
    parser.add_argument("--seeds", metavar="1,2,3", help="seeds for the retraining [default: new seeds]")
    parser.add_argument(
        "--trial", type=int, metavar="N", help="number of the trial [default: the best by the first objective]"
    )
    parser.add_argument(
        "--config-dir",
        metavar="DIR",
        type=Path,
        help="config directory for the experiment [default: the sweep's, the project's, or my_conf]",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing experiment")
    parser.add_argument(*DRY_RUN, action="store_true", help="check the command, and print the runs that it would train")
    args = parser.parse_args(arguments)
    seeds = None if args.seeds is None else _seeds(args.seeds)
    config_dir = args.config_dir.absolute() if args.config_dir else None
    plan, cfg = open_sweep(args.name)
    typed_keys = [text.lstrip("+").partition("=")[0] for text in args.overrides]
    if "seed" in typed_keys:  # a run's directory and the table are named after the seeds of --seeds
        value = next(text for text in args.overrides if text.lstrip("+").startswith("seed=")).partition("=")[2]
        raise ConfigError(Problem("seed", f"{KEY}={value} is not allowed here", f"use --seeds {value}"))
    return finish(plan, cfg, config_dir, seeds, args.trial, args.overrides, args.force, dry_run=args.dry_run)


_VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "plan": _plan,
    "status": _status,
    "report": _report,
    "finish": _finish,
}


_ANSWERS = {
    **dict.fromkeys(("resume", "continue"), "print the command that resumes a sweep: hydratune sweep status NAME"),
    **dict.fromkeys(("run", "start", "train"), "start a sweep: hydratune -m KEY=VALUE,VALUE"),
    **dict.fromkeys(("list", "ls"), "list the sweeps: hydratune sweep status"),
}


class _SweepParser(ArgumentParser):
    """Parser whose error for a missing NAME lists the sweeps."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError for a missing NAME; otherwise, print an error and exit with code 2."""
        if "required: NAME" in message and (sweeps := _sweeps()):
            names = [shlex.quote(sweep.name) for sweep in sweeps[:_LISTED]]
            more = [f"{len(sweeps) - _LISTED} more: hydratune sweep status"] if len(sweeps) > _LISTED else []
            hint = "\n".join([f"name a sweep: {', '.join(names)}", *more])
            raise ConfigError(Problem("NAME", f"{KEY} is required", hint))
        super().error(message)


def _sweeps() -> list[Path]:
    """Return the directories of the sweeps in `multirun`, the newest first."""
    return sorted((path.parent for path in _PLACE.glob(f"*/{PLAN}")), key=start_time, reverse=True)


def _list_sweeps() -> int:
    """Print the sweeps in `multirun`, the newest first."""
    sweeps = _sweeps()
    if not sweeps:
        print(f"no sweeps in {_PLACE}/; start one with `hydratune -m KEY=VALUE,VALUE`")
        return 0
    for sweep in sweeps:
        print(f"{sweep}   started {format_age(clock.time() - start_time(sweep))} ago")
    print("print the state of one: hydratune sweep status NAME")
    return 0


def _add_name(parser: argparse.ArgumentParser, **options: Any) -> None:
    name_help = f"sweep directory, its name in {_PLACE}/, or `{LATEST}`"
    parser.add_argument("name", metavar="NAME", help=name_help + options.pop("more", ""), **options)


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(set(parts)) < len(parts) or not all(part.isdigit() for part in parts):
        text = f"{KEY} must be different integers, separated by commas, not {text!r}"
        raise ConfigError(Problem("--seeds", text, f"use a list such as {KEY} 1,2,3"))
    return tuple(map(int, parts))


def open_sweep(name: str) -> tuple[Plan, DictConfig]:
    """Return a sweep by its name, and the config that its trials have in common; see `stored_sweep`."""
    return stored_sweep(sweep_directory(name))


def sweep_directory(name: str) -> Path:
    """Return the directory of a sweep: a path, a name, or `latest`."""
    for folder in (Path(name), _PLACE / name):
        if (folder / PLAN).is_file():
            check_place("NAME", folder)
            return folder
    sweeps = _sweeps()
    if name == LATEST:
        if not sweeps:
            hint = "start one with `hydratune -m KEY=VALUE,VALUE`"
            raise ConfigError(Problem("NAME", f"no sweeps in {_PLACE}/", hint))
        check_place("NAME", sweeps[0])
        return sweeps[0]
    sweep_names = [*([LATEST] if sweeps else []), *(sweep.name for sweep in sweeps)]
    # The name of a directory begins with that of the config, followed by the varied keys and a digest.
    longer = next((sweep.name for sweep in sweeps if sweep.name.startswith(f"{name}-")), "")
    otherwise = f"pass a sweep directory, or its name in {_PLACE}/"
    hint = (
        f"a sweep of this name exists: {longer}"
        if longer
        else similar("sweep", Path(name).name, sweep_names, otherwise)
    )
    raise ConfigError(Problem("NAME", f"no such sweep: {name!r}", hint))
