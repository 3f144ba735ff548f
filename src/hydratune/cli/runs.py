"""List runs, newest first, with ID, name, state, score, and age."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.cli.run_status import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    PRUNED,
    RunStatus,
    format_age,
    run_status,
)
from hydratune.config.project import project_above, project_hint
from hydratune.tracking.run_directories import find_runs
from hydratune.tracking.run_lookup import SHORT_ID
from hydratune.utils import clock
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.console import plain_console, watch
from hydratune.utils.errors import ConfigError, invalid_value
from hydratune.utils.files import directory_not_found
from hydratune.utils.places import RESULTS
from hydratune.utils.short_forms import metric_name, number_text

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("RUN", "ID", "NAME", "STATE", "OBJECTIVE", "AGE")
_WIDEST = 10_000  # characters of a line
_STYLES = {FINISHED: "green", FAILED: "red", INTERRUPTED: "yellow", PRUNED: "dim"}


def main(arguments: Sequence[str]) -> int:
    """Print a table or JSON of the newest runs, and return the exit code."""
    parser = ArgumentParser(prog="hydratune runs", description=__doc__)
    folder_help = f"directory to search [default: {' and '.join(RESULTS)}]"
    parser.add_argument("folders", metavar="DIR", nargs="*", type=Path, help=folder_help)
    parser.add_argument(
        "--last", type=int, default=20, metavar="N", help="maximum number of runs [default: %(default)s]"
    )
    parser.add_argument("--watch", action="store_true", help="update the table until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print one JSON object per run")
    args = parser.parse_args(arguments)
    if missing := [folder for folder in args.folders if not folder.is_dir()]:
        raise ConfigError(*(directory_not_found("DIR", folder) for folder in missing))
    if args.last < 1:
        raise ConfigError(invalid_value("--last", "at least 1", args.last))
    if args.watch and not args.json:
        watch(plain_console(), lambda: _table(_newest(args.folders, args.last)[0]), lambda: False)
        return 0
    newest, count = _newest(args.folders, args.last)
    if args.json:
        for run in newest:
            print(json.dumps(asdict(run) | {"directory": str(run.directory)}))
        return 0
    if not newest:
        project = project_above()
        print("no runs found; " + (project_hint(project) if project else "train one with `hydratune`"))
        return 0
    _print_whole(_table(newest))
    if count > len(newest):
        print(f"{len(newest)} of {count} runs; --last {count} lists all", file=sys.stderr)
    return 0


def _newest(folders: Sequence[Path], last: int) -> tuple[list[RunStatus], int]:
    """Return the states of the newest runs, and the number of all runs."""
    directories = find_runs(folders or map(Path, RESULTS))
    return [run_status(directory) for directory in directories[:last]], len(directories)


def _print_whole(table: Table) -> None:
    """Print a table without breaking its lines, even if the terminal is narrower, so that paths can be pasted."""
    plain_console(width=max(plain_console().width, _width(table))).print(table)


def _width(table: Table) -> int:
    console = plain_console()
    return console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum


def _table(runs: Sequence[RunStatus]) -> Table:
    """Return a table; if it is wider than the terminal, without the columns of names, ages, or IDs."""
    console = plain_console()
    table = _with_columns(runs, _COLUMNS)
    for omitted in (("NAME",), ("NAME", "AGE"), ("NAME", "ID")) if console.is_terminal else ():
        if _width(table) <= console.width:
            break
        table = _with_columns(runs, [name for name in _COLUMNS if name not in omitted])
    return table


def _with_columns(runs: Sequence[RunStatus], names: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for run in runs:
        cells = {
            "RUN": os.path.relpath(run.directory),
            "ID": run.run_id[:SHORT_ID],
            "NAME": run.run_name,
            "STATE": run.state,
            "OBJECTIVE": "" if run.score is None else f"{metric_name(run.objective)} {number_text(run.score)}",
            "AGE": format_age(clock.time() - run.started),
        }
        table.add_row(*(cells[name] for name in names), style=_STYLES.get(run.state, "bold"))
    return table
