"""Tables and lines about a sweep in the terminal."""

from __future__ import annotations

import datetime
import itertools
import os
import sys
from collections.abc import Collection, Iterator, Sequence
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
    scores_text,
    seconds_left,
    ties,
)
from hydratune.sweep.space import Label, Point
from hydratune.utils.console import plain_console, sparkline
from hydratune.utils.fitted_table import Column, FittedTable
from hydratune.utils.short_forms import metric_name, number_text, setting_text
from hydratune.utils.stats import interval_text

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 12  # completed trials in the live table
_SPARKS = 60  # completed trials in the line of their values
_BAR = 10  # characters of a progress bar
_ERROR = 80
_BEST, _STYLES = "bold green", {DONE: "", RUNNING: "cyan", PRUNED: "dim", FAILED: "red", WAITING: "dim"}
_WIDTH = 200  # characters per line without a terminal


def console() -> Console:
    """Return a console for the terminal, or one with long lines for a file."""
    return plain_console(soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH)


def live(plan: Plan, found: Sequence[TrialRow], total: int | None, workers: int) -> FittedTable:
    """Return the live table: running trials, the best ones so far, and some that were pruned or failed."""
    caption = summary(plan, found, total, workers)
    values = [row.values[0] for row in found if row.values][-_SPARKS:]
    if len(values) > 2:
        caption += f"\n{metric_name(next(iter(plan.objectives)))} by trial: {sparkline(values)}"
    shown = [row for row in found if row.state in (RUNNING, WAITING)]
    shown += ranked(plan, found)[:_SHOWN]
    shown += itertools.islice((row for row in reversed(found) if row.state in (PRUNED, FAILED)), _SHOWN // 2)
    return _table(plan, shown, {row.number for row in pareto_front(plan, found)}, caption)


def final(plan: Plan, found: Sequence[TrialRow], caption: str = "") -> FittedTable:
    """Return the final table: completed trials, best first; then all others."""
    shown = [*ranked(plan, found), *(row for row in found if row.state != DONE)]
    return _table(plan, shown, {row.number for row in pareto_front(plan, found)}, caption)


def summary(plan: Plan, found: Sequence[TrialRow], total: int | None, workers: int) -> str:
    """Return one line: the number of trials in each state, the best one so far, and the remaining time."""
    states = counts(found)
    count = ended(found)
    parts = [f"{count} of {total} trials" if total else f"{count} trials"]
    parts += [f"{number} {state}" for state, number in states.items() if number and state != DONE]
    if best := pareto_front(plan, found):
        name = metric_name(next(iter(plan.objectives)))
        trial = f"trial {best[0].number}{ties(plan, found, best[0])}"
        parts.append(f"best {name} {number_text(best[0].values[0])} ({trial})")
    if (remaining_seconds := seconds_left(found, total, workers)) and states[RUNNING]:
        parts.append(f"about {datetime.timedelta(seconds=round(remaining_seconds))} left")
    return ", ".join(parts)


def header(plan: Plan, total: int | None) -> str:
    """Return what a sweep trains, and where, on one line, for output without a table."""
    runs = f", each with {replicates(plan)}" if plan.is_replicated else ""
    return f"sweep {plan.name}: {total or 'any number of'} trials{runs}; directory {os.path.relpath(plan.directory)}"


def line(plan: Plan, row: TrialRow) -> str:
    """Return the result of one trial on one line, for output without a table."""
    values = scores_text(plan, row) or row.state
    return f"trial {row.number}  {row.name}  {values}" + (f": {row.error}" if row.state == FAILED else "")


def replicates(plan: Plan) -> str:
    """Return the number of seeds, folds, and repetitions as text."""
    counts = [f"{len(plan.seeds)} seeds"] if plan.seeds else []
    counts += [f"{plan.folds} folds"] if plan.folds else []
    return " x ".join([*counts, *([f"{plan.repeats} repetitions"] if plan.repeats > 1 else [])])


def plan_table(plan: Plan, points: Sequence[Point]) -> FittedTable:
    """Return the table of a dry run."""
    return FittedTable([Column("trial", [*map(str, range(len(points)))], 0), *_parameters(plan, points)])


def _table(plan: Plan, rows: Sequence[TrialRow], best: Collection[int], caption: str) -> FittedTable:
    """Return a table with one row for each trial; the best ones are highlighted."""
    values = [
        [*map(number_text, row.values)] or [f"({number_text(row.last)})" * (row.last is not None)] for row in rows
    ]
    columns = [Column("trial", [str(row.number) for row in rows], 0), *_parameters(plan, [row.point for row in rows])]
    for i, name in enumerate(plan.objectives):
        columns.append(Column(metric_name(name), [v[i] if i < len(v) else "" for v in values], 0, is_number=True))
    if plan.is_replicated:
        limits, each = zip(*(format_seeds(plan, row) for row in rows), strict=True) if rows else ((), ())
        columns.append(Column("95% interval or range", limits, 3))
        columns.append(Column("by fold" if plan.folds else "by seed", each, 5))
    times = [str(datetime.timedelta(seconds=round(row.seconds))) if row.seconds else "" for row in rows]
    columns.append(Column("time", times, 4, is_number=True))
    columns.append(Column("state", ["best" if row.number in best else _state(row) for row in rows], 1))
    if any(row.error for row in rows):
        columns.append(Column("error", [row.error[:_ERROR] for row in rows], 6))
    styles = [_BEST if row.number in best else _STYLES[row.state] for row in rows]
    return FittedTable(columns, styles, caption, "see the report")


def _parameters(plan: Plan, points: Sequence[Point]) -> Iterator[Column]:
    for name, short_name in plan.short_names.items():
        yield Column(short_name, [format_cell(point.get(name)) for point in points], 2)


def _state(row: TrialRow) -> str:
    """Return the state of a trial, with a bar while it runs."""
    if row.state != RUNNING:
        return row.state
    filled = round(row.progress * _BAR)
    return f"{'━' * filled}{'╌' * (_BAR - filled)} {row.progress:4.0%}"


def format_seeds(plan: Plan, row: TrialRow) -> list[str]:
    """Return the confidence interval of the mean of the first objective, and its value with each seed."""
    objective = next(iter(plan.objectives))
    values = row.by_seed.get(objective, ())
    limits = interval_text(values, mean_of_seeds(plan, row, objective)) if values else ""
    return [limits, " ".join(map(number_text, values))]


def format_cell(value: Label | None) -> str:
    """Format a value; only a missing value is blank, so texts that start or end with blanks get quotes."""
    if isinstance(value, str) and value != (value.strip() or None):
        return repr(value)
    return "" if value is None else setting_text(value)
