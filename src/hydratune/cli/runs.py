"""`hydratune runs [DIR ...]`: list runs, the newest first, with state, score, and age."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hydratune.cli.run_list import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    RunStatus,
    find_runs,
    format_age,
    run_status,
)
from hydratune.config.servers import RESULTS
from hydratune.utils import clock
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.console import plain_console
from hydratune.utils.errors import ConfigError, invalid_value
from hydratune.utils.files import directory_not_found

_STYLES = {FINISHED: "green", FAILED: "red", INTERRUPTED: "yellow"}


def main(arguments: Sequence[str]) -> int:
    """Print a table or JSON of the newest runs, and return the exit code."""
    parser = ArgumentParser(prog="hydratune runs", description=__doc__)
    folder_help = f"folder to search [default: {' and '.join(RESULTS)}]"
    parser.add_argument("folders", metavar="DIR", nargs="*", type=Path, help=folder_help)
    parser.add_argument("--last", type=int, default=20, metavar="N", help="number of runs [default: %(default)s]")
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")
    args = parser.parse_args(arguments)
    if missing := [folder for folder in args.folders if not folder.is_dir()]:
        raise ConfigError(*(directory_not_found("DIR", folder) for folder in missing))
    if args.last < 1:
        raise ConfigError(invalid_value("--last", "at least 1", args.last))
    directories = find_runs(args.folders or map(Path, RESULTS))
    newest = [run_status(directory) for directory in directories[: args.last]]
    if args.json:
        for run in newest:
            print(json.dumps(asdict(run) | {"directory": str(run.directory)}))
        return 0
    if not newest:
        print("no runs here; `hydratune` trains the default one")
        return 0
    _print_table(newest)
    if len(directories) > len(newest):
        print(f"{len(newest)} of {len(directories)} runs; --last {len(directories)} lists all", file=sys.stderr)
    return 0


def _print_table(runs: Sequence[RunStatus]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("RUN", "STATE", "OBJECTIVE", "AGE"):
        table.add_column(name, overflow="fold")
    for run in runs:
        score = "" if run.score is None else f"{run.objective.removeprefix('eval_')} {run.score:.4f}"
        age = format_age(clock.time() - run.started)
        table.add_row(os.path.relpath(run.directory), run.state, score, age, style=_STYLES.get(run.state, "bold"))
    plain_console().print(table)
