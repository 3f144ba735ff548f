"""Evaluate a finished run on other data, and log the metrics to its MLflow run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from hydratune.cli.label_summary import label_line
from hydratune.cli.run_argument import add_run_argument
from hydratune.config.project import config_dir
from hydratune.evaluation.evaluate import CHANGES, Evaluation, evaluate
from hydratune.evaluation.load_run import open_run
from hydratune.tracking.delivery import checked_pointer
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.console import plain_console
from hydratune.utils.errors import FAILED, KEY, ConfigError, Problem, setting
from hydratune.utils.file_suffixes import SUFFIXES, suffix
from hydratune.utils.files import EVALUATIONS
from hydratune.utils.logs import show_progress
from hydratune.utils.short_forms import metric_name, number_text

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Evaluate a run, print and write the scores, and log them to MLflow.

    Returns:
        The exit code, which is 1 if the scores cannot be logged to MLflow.
    """
    parser = ArgumentParser(prog="hydratune evaluate", description=__doc__)
    add_run_argument(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"override of {', '.join(CHANGES)}")
    parser.add_argument("--name", metavar="NAME", help="name of the evaluation [default: the name of the data]")
    config_help = "directory of your own configs [default: the project's]"
    parser.add_argument("--config-dir", metavar="DIR", type=Path, help=config_help)
    args = parser.parse_args(arguments)
    for text in args.overrides:
        if "=" not in text and (Path(text).is_file() or suffix(Path(text)) in SUFFIXES):
            hint = f"to evaluate on a file, use {setting('dataset.files.test', text)}"
            raise ConfigError(Problem("KEY=VALUE", f"{text!r} is a file, not {KEY}", hint))
    show_progress()
    run = open_run(args.run, args.uri)
    evaluation = evaluate(run, args.overrides, args.name, args.config_dir or config_dir())
    _show(evaluation)
    paths = evaluation.write(run.directory)
    if labels := label_line(run.directory / EVALUATIONS / f"{evaluation.name}.tables"):
        print(f"labels   {labels}")
    for path in paths:
        print(f"file     {os.path.relpath(path)}")
    return _record(run.directory, evaluation)


def _show(evaluation: Evaluation) -> None:
    from rich.table import Table

    table = Table("", evaluation.name)
    for name, value in evaluation.metrics.items():
        table.add_row(name, number_text(value))
    plain_console(soft_wrap=True).print(table)


def _record(directory: Path, evaluation: Evaluation) -> int:
    """Log the scores to the run's MLflow run, and return the exit code."""
    from hydratune.tracking.later import log_to_run, replace_note
    from hydratune.tracking.notes import with_facts

    prefix = f"eval_on_{evaluation.name}"
    try:
        if (pointer := checked_pointer(directory)) is None:
            print("MLflow   not logged, because the run is not tracked")
            return 0
        values = {f"{prefix}/{name}": value for name, value in evaluation.metrics.items()}
        log_to_run(pointer, values, {f"{prefix}.precision": evaluation.precision})
        scores = ", ".join(f"{metric_name(name)} {number_text(value)}" for name, value in evaluation.metrics.items())
        facts = {f"evaluation on {evaluation.name}": f"{scores} ({evaluation.rows:,} rows)"}
        replace_note(pointer, directory, lambda text: with_facts(text, facts))
    except ConfigError as error:
        log.warning("the scores were not logged to MLflow: %s", error)
        return FAILED
    print(f"MLflow   {prefix}/ in run {pointer['run_id']}")
    return 0
