"""Tables and lines about a sweep in the terminal."""

from __future__ import annotations

import datetime
import itertools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydratune.sweep.plan import Plan
from hydratune.sweep.report.results import (
    DONE,
    FAILED,
    PRUNED,
    RUNNING,
    WAITING,
    TrialRow,
    counts,
    ended,
    mean_of_seeds,
    pareto_front,
    ranked,
    seconds_left,
)
from hydratune.sweep.space import Label, Point, format_value, short
from hydratune.utils.console import plain_console
from hydratune.utils.stats import interval_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SHOWN = 12  # completed trials in the live table
_BAR = 10  # characters of a progress bar
_ERROR = 80
_WIDTH = 200  # characters per line without a terminal


def console() -> Console:
    """Return a console for the terminal, or one with long lines for a file."""
    return plain_console(soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH)


def short_name(objective: str) -> str:
    """Return the name without its prefix: `accuracy` for `eval_accuracy`."""
    return objective.removeprefix("eval_")


def live(plan: Plan, found: Sequence[TrialRow], total: int | None, workers: int) -> Table:
    """Return the live table: running trials, the best ones so far, and some that were pruned or failed."""
    table = _table(plan)
    table.caption, table.caption_justify = summary(plan, found, total, workers), "left"
    for row in found:
        if row.state in (RUNNING, WAITING):
            filled = round(row.progress * _BAR)
            bar = f"{'━' * filled}{'╌' * (_BAR - filled)} {row.progress:4.0%}"
            _add(table, plan, row, bar if row.state == RUNNING else "waits")
    for row in ranked(plan, found)[:_SHOWN]:
        _add(table, plan, row)
    for row in itertools.islice((row for row in reversed(found) if row.state in (PRUNED, FAILED)), _SHOWN // 2):
        _add(table, plan, row)
    return table


def final(plan: Plan, found: Sequence[TrialRow]) -> Table:
    """Return the final table: completed trials, best first; then all others."""
    table = _table(plan)
    best = {row.number for row in pareto_front(plan, found)}
    for row in ranked(plan, found):
        _add(table, plan, row, "best" if row.number in best else DONE)
    for row in found:
        if row.state != DONE:
            _add(table, plan, row)
    return table


def summary(plan: Plan, found: Sequence[TrialRow], total: int | None, workers: int) -> str:
    """Return one line: the number of trials in each state, the best one so far, and the remaining time."""
    states = counts(found)
    count = ended(found)
    parts = [f"{count} of {total} trials" if total else f"{count} trials"]
    parts += [f"{number} {state}" for state, number in states.items() if number and state != DONE]
    if best := pareto_front(plan, found):
        name = short_name(next(iter(plan.objectives)))
        parts.append(f"best {name} {best[0].values[0]:.4f} (trial {best[0].number})")
    if (remaining_seconds := seconds_left(found, total, workers)) and states[RUNNING]:
        parts.append(f"about {datetime.timedelta(seconds=round(remaining_seconds))} left")
    return ", ".join(parts)


def line(plan: Plan, row: TrialRow) -> str:
    """Return the result of one trial on one line, for output without a table."""
    values = "  ".join(f"{short_name(n)} {v:.4f}" for n, v in zip(plan.objectives, row.values, strict=False))
    return f"trial {row.number}  {row.name}  {values or row.state}{f': {row.error}' if row.state == FAILED else ''}"


def plan_table(plan: Plan, points: Sequence[Point]) -> Table:
    """Return the table of a dry run."""
    from rich.table import Table

    table = Table("trial", *(short(parameter.name) for parameter in plan.space.parameters))
    for number, point in enumerate(points):
        table.add_row(str(number), *(_cell(point.get(parameter.name)) for parameter in plan.space.parameters))
    return table


def _table(plan: Plan) -> Table:
    from rich.table import Table

    table = Table("trial", *(short(parameter.name) for parameter in plan.space.parameters))
    for name in plan.objectives:
        table.add_column(short_name(name), justify="right")
    if plan.seeds:
        table.add_column("95 % interval")
        table.add_column("by seed")
    table.add_column("time", justify="right")
    table.add_column("state")
    return table


def _add(table: Table, plan: Plan, row: TrialRow, state: str = "") -> None:
    values = [f"{value:.4f}" for value in row.values] or ["" if row.last is None else f"({row.last:.4f})"]
    values += [""] * (len(plan.objectives) - len(values))
    seeds = _seeds(plan, row) if plan.seeds else []
    state_text = state or (f"{row.state}: {row.error[:_ERROR]}" if row.state == FAILED else row.state)
    style = {DONE: None, RUNNING: "cyan", PRUNED: "dim", FAILED: "red", WAITING: "dim"}[row.state]
    cells = [_cell(row.point.get(parameter.name)) for parameter in plan.space.parameters]
    duration = str(datetime.timedelta(seconds=round(row.seconds))) if row.seconds else ""
    table.add_row(
        str(row.number), *cells, *values, *seeds, duration, state_text, style="bold" if state == "best" else style
    )


def _seeds(plan: Plan, row: TrialRow) -> list[str]:
    """Return the confidence interval of the mean of the first objective, and its value with each seed."""
    objective = next(iter(plan.objectives))
    values = row.by_seed.get(objective, ())
    limits = interval_text(values, mean_of_seeds(plan, row, objective)) if values else ""
    return [limits, " ".join(f"{value:.4f}" for value in values)]


def _cell(value: Label | None) -> str:
    """Format a value; only a missing value is blank, so texts that start or end with blanks get quotes."""
    if isinstance(value, str) and value != (value.strip() or None):
        return repr(value)
    return "" if value is None else format_value(value)
