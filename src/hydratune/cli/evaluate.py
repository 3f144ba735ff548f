"""`hydratune evaluate RUN OVERRIDES`: evaluate a finished run on other data, in the same MLflow run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from hydratune.evaluation.evaluate import CHANGES, FOLDER, Evaluation, evaluate
from hydratune.evaluation.load_run import log_to_stderr, open_run
from hydratune.tracking.delivery import checked_pointer
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.console import plain_console
from hydratune.utils.errors import FAILED, ConfigError
from hydratune.utils.files import write_json

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Evaluate a run, print and write the scores, and log them to MLflow.

    Returns:
        The exit code, which is 1 if the scores cannot be logged to MLflow.
    """
    parser = ArgumentParser(prog="hydratune evaluate", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run directory or MLflow run ID")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"override of {', '.join(CHANGES)}")
    parser.add_argument("--name", help="name of the evaluation [default: the name of the data]")
    parser.add_argument("--config-dir", type=Path, help="conf directory of your own configs")
    parser.add_argument("--uri", default=Mlflow.uri, help="MLflow store of RUN [default: %(default)s]")
    args = parser.parse_intermixed_args(list(arguments))
    log_to_stderr()
    run = open_run(args.run, args.uri)
    evaluation = evaluate(run, args.overrides, args.name, args.config_dir)
    _show(evaluation)
    path = run.directory / FOLDER / f"{evaluation.name}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, vars(evaluation))
    print(f"file     {os.path.relpath(path)}")
    return _record(run.directory, evaluation)


def _show(evaluation: Evaluation) -> None:
    from rich.table import Table

    table = Table("", evaluation.name)
    for name, value in evaluation.metrics.items():
        table.add_row(name, f"{value:.4f}")
    plain_console(soft_wrap=True).print(table)


def _record(directory: Path, evaluation: Evaluation) -> int:
    """Log the scores to the run's MLflow run, and return the exit code."""
    from hydratune.tracking.later import log_to_run

    prefix = f"eval_on_{evaluation.name}"
    try:
        if (pointer := checked_pointer(directory)) is None:
            print("MLflow   not logged, because the run is not tracked")
            return 0
        values = {f"{prefix}/{name}": value for name, value in evaluation.metrics.items()}
        log_to_run(pointer, values, {f"{prefix}.precision": evaluation.precision})
    except ConfigError as error:
        log.warning("the scores were not logged to MLflow: %s", error)
        return FAILED
    print(f"MLflow   {prefix}/ in run {pointer['run_id']}")
    return 0
