"""Report of a sweep as files: a table, an HTML page, and image files of the plots."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.sweep.report import plots, results, tables
from hydratune.sweep.report.note import best_sentences, commands, space_facts
from hydratune.sweep.report.page_plots import make_page_plots
from hydratune.sweep.report.significance import best_two_trials
from hydratune.utils import report_page
from hydratune.utils.errors import one_line
from hydratune.utils.escaping import escape_table
from hydratune.utils.files import make_directory, write_text
from hydratune.utils.short_forms import metric_name, number_text

if TYPE_CHECKING:
    import pandas as pd

    from hydratune.evaluation.compare.best_two import Significance
    from hydratune.sweep.plan import Plan
    from hydratune.sweep.study import Study

log = logging.getLogger(__name__)

REPORT, PAGE, TABLE = "report", report_page.REPORT_PAGE, "trials.csv"


def write(study: Study, verdict: Significance | None = None) -> list[Path]:
    """Write the report below the sweep's directory, and return its files; plots that cannot be drawn are omitted.

    Args:
        study: Study of the sweep.
        verdict: Comparison of the best two trials; None to compute it.
    """
    folder = study.plan.directory / REPORT
    make_directory(folder)
    rows = results.rows(study.plan, study.trials())
    write_text(folder / TABLE, escape_table(table(study.plan, rows)).to_csv(index=False))
    trials = study.study.get_trials(deepcopy=False)
    pictures = [*plots.make_plots(study.plan, trials), *make_page_plots(study.plan, trials, rows)]
    summary = tables.summary(study.plan, rows, study.total(), study.options.workers)
    verdict = verdict or best_two_trials(study.plan, rows)
    write_text(folder / PAGE, _page(study, rows, summary, pictures, verdict))
    drawn_plots = [plot for plot in pictures if plot.has_image and not plot.missing]
    return [folder / TABLE, folder / PAGE, *(p for plot in drawn_plots if plot.png(p := folder / f"{plot.name}.png"))]


def table(plan: Plan, found: Sequence[results.TrialRow]) -> pd.DataFrame:
    """Return one row per trial, in the order of the trials."""
    import pandas as pd

    lines = []
    for row in found:
        line: dict[str, Any] = {"number": row.number, "state": row.state, **row.point}
        line |= dict(zip(plan.objectives, row.values, strict=False))
        for name in row.by_seed if plan.is_replicated else ():
            line |= _over_seeds(plan, row, name)
        lines.append({**line, "seconds": round(row.seconds, 2), "folder": row.folder, "error": row.error})
    return pd.DataFrame(lines, columns=[*_columns(plan)])


def _columns(plan: Plan) -> Iterator[str]:
    yield from ("number", "state", *(parameter.name for parameter in plan.space.parameters))
    for name in plan.objectives:
        yield name
        if plan.is_replicated:
            yield from (f"{name} {' '.join(replicate.parts)}" for replicate in plan.replicates)
            yield from (f"{name} {statistic}" for statistic in ("mean", "low", "high"))
    yield from ("seconds", "folder", "error")


def _over_seeds(plan: Plan, row: results.TrialRow, name: str) -> Mapping[str, float | None]:
    """Return an objective in each replicate so far, the mean, and its confidence interval from three on."""
    values = row.by_seed[name]
    columns: dict[str, float | None] = {
        f"{name} {' '.join(replicate.parts)}": value for replicate, value in zip(plan.replicates, values, strict=False)
    }
    if values:
        interval = results.mean_of_seeds(plan, row, name)
        columns |= {f"{name} mean": interval.value, f"{name} low": interval.low, f"{name} high": interval.high}
    return columns


def _page(
    study: Study,
    rows: Sequence[results.TrialRow],
    summary: str,
    pictures: Sequence[plots.Plot],
    verdict: Significance,
) -> str:
    """Return an HTML page that works offline: the best trial, the ranked table, then the plots."""
    plan = study.plan
    best = [*best_sentences(plan, rows)]
    sentences = [*best[:1], *verdict.sentences, *best[1:]]
    return report_page.page(
        plan.name,
        *(report_page.paragraph(sentence, "" if i else "lead") for i, sentence in enumerate(sentences)),
        report_page.paragraph(summary),
        report_page.facts({**space_facts(study), **commands(plan, rows, verdict)}),
        report_page.section("Trials, best first", _ranked(plan, rows)),
        report_page.section("Plots", report_page.figures(*_figures(pictures)), *_missing(pictures)),
    )


def _ranked(plan: Plan, rows: Sequence[results.TrialRow]) -> report_page.Html:
    """Return the table of the trials: best first, then those without a value."""
    best = {row.number for row in results.pareto_front(plan, rows)}
    parameters = [parameter.name for parameter in plan.space.parameters]
    names = [metric_name(name) for name in plan.objectives]
    replicates = ["95% interval or range", "by fold" if plan.folds else "by seed"] if plan.is_replicated else []
    columns = ["trial", *plan.short_names.values(), *names, *replicates]
    ranked = results.ranked(plan, rows)
    has_errors = any(row.error for row in rows)
    lines = []
    for row in [*ranked, *(row for row in rows if row not in ranked)]:
        values: list[Any] = [*row.values] or [_last_value(row)]
        values += [None] * (len(names) - len(values))
        state = "best" if row.number in best else row.state
        point = [tables.format_cell(row.point.get(name)) for name in parameters]
        seeds = tables.format_seeds(plan, row) if plan.is_replicated else []
        folder = report_page.link(f"../{row.folder}/", str(row.number)) if row.folder else str(row.number)
        minutes = report_page.sortable(f"{row.seconds / 60:.1f}", row.seconds)
        error = [row.error] if has_errors else []
        cells = [folder, *map(_number_or_text, point), *values, *seeds, minutes, state, *error]
        lines.append(report_page.Row(cells, state))
    return report_page.table([*columns, "minutes", "state", *(["error"] if has_errors else [])], lines)


def _last_value(row: results.TrialRow) -> Any:
    """Return the value that a trial without a result reported last, in parentheses as in the terminal."""
    return None if row.last is None else report_page.sortable(f"({number_text(row.last)})", row.last)


def _number_or_text(cell: str) -> Any:
    """Return HTML that is sorted as a number if the text is one, but is shown as in the terminal."""
    try:
        return report_page.sortable(cell, float(cell))
    except ValueError:
        return cell


def _figures(pictures: Sequence[plots.Plot]) -> Iterator[str]:
    """Yield each plot that can be drawn."""
    for plot in pictures:
        if not plot.missing:
            try:
                yield plot.html()
            except Exception as error:  # an error in a plot must not fail a sweep
                log.warning("sweep: %s was not drawn: %s", plot.name, one_line(error))
                yield _not_drawn(plot, one_line(error))


def _missing(pictures: Sequence[plots.Plot]) -> list[report_page.Html]:
    """Return the reason for each plot that cannot be drawn."""
    return [_not_drawn(plot, plot.missing) for plot in pictures if plot.missing]


def _not_drawn(plot: plots.Plot, reason: str) -> report_page.Html:
    return report_page.paragraph(f"{plot.title} is not drawn: {reason}.", "muted")
