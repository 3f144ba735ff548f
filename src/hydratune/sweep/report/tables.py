"""What a user sees of a sweep in the terminal."""

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

_SHOWN = 12  # rows of the live table that are done
_BAR = 10  # characters
_ERROR = 80
_WIDTH = 200  # characters of a line where there is no terminal


def console() -> Console:
    """The terminal, or a file that takes long lines."""
    return plain_console(soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH)


def short_name(objective: str) -> str:
    """`accuracy` of `eval_accuracy`."""
    return objective.removeprefix("eval_")


def live(plan: Plan, found: Sequence[TrialRow], total: int | None, workers: int) -> Table:
    """What runs, what is best so far, and how long it will take."""
    table = _table(plan)
    table.caption, table.caption_justify = summary(plan, found, total, workers), "left"
    for row in found:
        if row.state in (RUNNING, WAITING):
            done = round(row.progress * _BAR)
            bar = f"{'━' * done}{'╌' * (_BAR - done)} {row.progress:4.0%}"
            _add(table, plan, row, bar if row.state == RUNNING else "waits")
    for row in ranked(plan, found)[:_SHOWN]:
        _add(table, plan, row)
    for row in itertools.islice((row for row in reversed(found) if row.state in (PRUNED, FAILED)), _SHOWN // 2):
        _add(table, plan, row)
    return table


def final(plan: Plan, found: Sequence[TrialRow]) -> Table:
    """All that is done, the best first; then what was pruned, and what failed."""
    table = _table(plan)
    best = {row.number for row in pareto_front(plan, found)}
    for row in ranked(plan, found):
        _add(table, plan, row, "best" if row.number in best else DONE)
    for row in found:
        if row.state != DONE:
            _add(table, plan, row)
    return table


def summary(plan: Plan, found: Sequence[TrialRow], total: int | None, workers: int) -> str:
    """One line: how many are in which state, the best so far, and the time that is left."""
    states = counts(found)
    count = ended(found)
    parts = [f"{count} of {total} trials" if total else f"{count} trials"]
    parts += [f"{number} {state}" for state, number in states.items() if number and state != DONE]
    if best := pareto_front(plan, found):
        name = short_name(next(iter(plan.objectives)))
        parts.append(f"best {name} {best[0].values[0]:.4f} (trial {best[0].number})")
    if (left := seconds_left(found, total, workers)) and states[RUNNING]:
        parts.append(f"about {datetime.timedelta(seconds=round(left))} left")
    return ", ".join(parts)


def line(plan: Plan, row: TrialRow) -> str:
    """What came of one trial, where there is no terminal to draw a table on."""
    values = "  ".join(f"{short_name(n)} {v:.4f}" for n, v in zip(plan.objectives, row.values, strict=False))
    return f"trial {row.number}  {row.name}  {values or row.state}{f': {row.error}' if row.state == FAILED else ''}"


def plan_table(plan: Plan, points: Sequence[Point]) -> Table:
    """What would run."""
    from rich.table import Table

    table = Table("trial", *(short(one.name) for one in plan.space.parameters))
    for number, point in enumerate(points):
        table.add_row(str(number), *(_cell(point.get(one.name)) for one in plan.space.parameters))
    return table


def _table(plan: Plan) -> Table:
    from rich.table import Table

    table = Table("trial", *(short(one.name) for one in plan.space.parameters))
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
    told = state or (f"{row.state}: {row.error[:_ERROR]}" if row.state == FAILED else row.state)
    style = {DONE: None, RUNNING: "cyan", PRUNED: "dim", FAILED: "red", WAITING: "dim"}[row.state]
    cells = [_cell(row.point.get(one.name)) for one in plan.space.parameters]
    took = str(datetime.timedelta(seconds=round(row.seconds))) if row.seconds else ""
    table.add_row(str(row.number), *cells, *values, *seeds, took, told, style="bold" if state == "best" else style)


def _seeds(plan: Plan, row: TrialRow) -> list[str]:
    """The interval of the mean of the first objective, and the values that it is the mean of."""
    objective = next(iter(plan.objectives))
    values = row.by_seed.get(objective, ())
    limits = interval_text(values, mean_of_seeds(plan, row, objective)) if values else ""
    return [limits, " ".join(f"{value:.4f}" for value in values)]


def _cell(value: Label | None) -> str:
    """Format a value; blank only where a trial has none, so texts that start or end with blanks get quotes."""
    if isinstance(value, str) and value != (value.strip() or None):
        return repr(value)
    return "" if value is None else format_value(value)
