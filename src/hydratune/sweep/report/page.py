"""Report of a sweep as files: a table, an HTML page, and plots by optuna."""

from __future__ import annotations

import html
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.sweep.report import plots, results, tables
from hydratune.utils.console import plain_console
from hydratune.utils.errors import one_line
from hydratune.utils.escaping import escape_control, escape_table
from hydratune.utils.files import write_text

if TYPE_CHECKING:
    import pandas as pd

    from hydratune.sweep.plan import Plan
    from hydratune.sweep.study import Study

log = logging.getLogger(__name__)

REPORT, PAGE, TABLE = "report", "report.html", "trials.csv"
_WIDTH = 250  # maximum characters per line of the page's table
_STYLE = """body { font-family: sans-serif; margin: 2em auto; max-width: 75em }
pre { font-family: Menlo, 'DejaVu Sans Mono', Consolas, monospace; line-height: 1.15;
      max-height: 40em; overflow: auto }"""


def write(study: Study) -> list[Path]:
    """Write the report below the sweep's directory, and return its files; plots that cannot be drawn are omitted."""
    folder = study.plan.directory / REPORT
    folder.mkdir(exist_ok=True)
    rows = results.rows(study.plan, study.trials())
    write_text(folder / TABLE, escape_table(table(study.plan, rows)).to_csv(index=False))
    pictures = plots.make_plots(study.plan, study.study.get_trials(deepcopy=False))
    summary = tables.summary(study.plan, rows, study.total(), study.options.workers)
    write_text(folder / PAGE, escape_control(_page(study.plan, rows, summary, pictures)))
    drawn_plots = [plot for plot in pictures if not plot.missing]
    return [folder / TABLE, folder / PAGE, *(p for plot in drawn_plots if plot.png(p := folder / f"{plot.name}.png"))]


def table(plan: Plan, found: Sequence[results.TrialRow]) -> pd.DataFrame:
    """Return one row per trial, in the order of the trials."""
    import pandas as pd

    lines = []
    for row in found:
        line: dict[str, Any] = {"number": row.number, "state": row.state, **row.point}
        line |= dict(zip(plan.objectives, row.values, strict=False))
        for name in row.by_seed if plan.seeds else ():
            line |= _over_seeds(plan, row, name)
        lines.append({**line, "seconds": round(row.seconds, 2), "folder": row.folder, "error": row.error})
    return pd.DataFrame(lines, columns=[*_columns(plan)])


def _columns(plan: Plan) -> Iterator[str]:
    yield from ("number", "state", *(parameter.name for parameter in plan.space.parameters))
    for name in plan.objectives:
        yield name
        if plan.seeds:
            yield from (*(f"{name} seed={seed}" for seed in plan.seeds), f"{name} mean", f"{name} low", f"{name} high")
    yield from ("seconds", "folder", "error")


def _over_seeds(plan: Plan, row: results.TrialRow, name: str) -> Mapping[str, float | None]:
    """Return an objective with each seed so far, the mean, and its confidence interval from three seeds on."""
    values = row.by_seed[name]
    columns: dict[str, float | None] = {
        f"{name} seed={seed}": value for seed, value in zip(plan.seeds, values, strict=False)
    }
    if values:
        interval = results.mean_of_seeds(plan, row, name)
        columns |= {f"{name} mean": interval.value, f"{name} low": interval.low, f"{name} high": interval.high}
    return columns


def _page(plan: Plan, rows: Sequence[results.TrialRow], summary: str, pictures: Sequence[plots.Plot]) -> str:
    """Return an HTML page that works offline: the ranked table, then the plots."""
    title = html.escape(plan.name)
    head = f'<!doctype html>\n<html><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
    begin = f"{head}<body>\n<h1>{title}</h1>\n<p>{html.escape(summary)}</p>\n{_ranked(plan, rows)}"
    return "\n".join([begin, *_parts(pictures), "</body></html>\n"])


def _ranked(plan: Plan, rows: Sequence[results.TrialRow]) -> str:
    """Return the table of the terminal as HTML."""
    console = plain_console(record=True, file=io.StringIO(), width=_WIDTH)
    console.print(tables.final(plan, rows))
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def _parts(pictures: Sequence[plots.Plot]) -> Iterator[str]:
    """Yield each plot, or the reason why it is missing; the first plot contains the code of plotly."""
    script = True
    for plot in pictures:
        missing, part = plot.missing, ""
        try:
            part = "" if missing else plot.html(script)
        except Exception as error:  # an error in a plot must not fail a sweep
            missing = one_line(error)
            log.warning("sweep: %s was not drawn: %s", plot.name, missing)
        script = script and not part
        yield part or f"<p>{html.escape(plot.title)}: not drawn, since {html.escape(missing)}.</p>"
