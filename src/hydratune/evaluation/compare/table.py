"""Output of a comparison as a table, JSON, or CSV."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hydratune.evaluation.compare.runs import PLACES, Run
from hydratune.evaluation.compare.verdict import Verdict, differing
from hydratune.training.results import BOOKKEEPING
from hydratune.utils.console import plain_console
from hydratune.utils.escaping import escape_formula
from hydratune.utils.fitted_table import Column, FittedTable
from hydratune.utils.short_forms import number_text, short_names

if TYPE_CHECKING:
    from rich.table import Table


_SPLITS = {"test": "test", "best": "validation", "eval": "last validation"}  # where a metric was measured
_MOST_COLUMNS = 5  # maximum number of runs to show as columns; more runs are shown as rows


def shown_metrics(runs: Sequence[Run]) -> list[str]:
    """Return the metrics of runs, test first; the last evaluation only if no best evaluation is recorded."""
    names = dict.fromkeys(name for run in runs for name in run.metrics if not name.endswith(BOOKKEEPING))
    best_names = {name.partition("/")[2] for name in names if name.startswith("best/")}
    return [
        name
        for place in PLACES
        for name in names
        if name.startswith(f"{place}/") and not (place == "eval" and name.partition("/")[2] in best_names)
    ]


def metric_label(name: str, evaluation: str = "") -> str:
    """Return a metric of MLflow as a table shows it, with the evaluation that took the place of the test split.

    >>> metric_label("best/accuracy")
    'validation accuracy'
    >>> metric_label("test/accuracy", "news")
    'news accuracy'
    """
    place, _, metric = name.partition("/")
    return f"{evaluation if evaluation and place == 'test' else _SPLITS[place]} {metric}"


def shared_metrics(runs: Sequence[Run]) -> list[str]:
    """Return the metrics that at least two runs have."""
    return [name for name in shown_metrics(runs) if sum(name in run.metrics for run in runs) > 1]


def table(runs: Sequence[Run], verdict: Verdict) -> None:
    """Print the runs and their letters, a table of differing params and metrics, and the verdict."""
    console = plain_console(soft_wrap=True)
    width = max(len(run.status) for run in runs)
    for run in runs:
        console.print(f"{run.label}  {run.id[:12]}  {run.status:<{width}}  {run.name}")
    make_table = _runs_in_columns if len(runs) <= _MOST_COLUMNS else _runs_in_rows
    console.print(make_table(runs, verdict), soft_wrap=False)
    for sentence in verdict.sentences():
        console.print(sentence)


def _runs_in_columns(runs: Sequence[Run], verdict: Verdict) -> Table:  # noqa: ARG001
    """Return a table with a row for each param that differs and each metric."""
    from rich.table import Table

    grid = Table("", *(run.label for run in runs))
    for name, short_name in short_names(differing(runs)).items():
        grid.add_row(short_name, *(run.params.get(name, "-") for run in runs))
    grid.add_section()
    for name in shown_metrics(runs):
        grid.add_row(
            metric_label(name, runs[0].evaluation), *(number_text(run.metrics.get(name)) or "-" for run in runs)
        )
    return grid


def _runs_in_rows(runs: Sequence[Run], verdict: Verdict) -> FittedTable:
    """Return a table with a row for each run.

    The metric that the verdict is about is the most important, then the params that differ, then the other metrics.
    """
    names = shown_metrics(runs)
    main = [name for name in names if name.partition("/")[2] == verdict.metric]
    columns = [Column("", [run.label for run in runs], 0)]
    for name in [*main, *(name for name in names if name not in main)]:
        cells = [number_text(run.metrics.get(name)) or "-" for run in runs]
        columns.append(Column(metric_label(name, runs[0].evaluation), cells, 1 if name in main else 3, is_number=True))
    params = [
        Column(short_name, [run.params.get(name, "-") for run in runs], 2)
        for name, short_name in short_names(differing(runs)).items()
    ]
    count = 1 + len(main)
    return FittedTable([*columns[:count], *params, *columns[count:]], complete="see --csv")


def as_json(runs: Sequence[Run], verdict: Verdict) -> None:
    """Print one document with the runs, differing params, metrics, and every comparison with its sentence."""
    params, metrics = differing(runs), shown_metrics(runs)
    document = {
        "metric": verdict.metric or None,
        "runs": [
            {
                **{name: getattr(run, name) for name in ("label", "id", "name", "status")},
                "params": {name: run.params.get(name) for name in params},
                "metrics": {name: run.metrics.get(name) for name in metrics},
            }
            for run in runs
        ],
        "groups": [asdict(group) | {"sentence": group.sentence()} for group in verdict.groups],
        "comparisons": [
            asdict(comparison) | {"better": comparison.better, "sentence": comparison.sentence()}
            for comparison in verdict.comparisons
        ],
        "remarks": verdict.remarks,
    }
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """Return the value with null in place of numbers that are not finite, which JSON does not support."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(runs: Sequence[Run], verdict: Verdict) -> None:
    """Print one line per run; print the verdict to stderr, so that stdout is valid CSV."""
    params, metrics = differing(runs), shown_metrics(runs)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(escape_formula, ("label", "id", "name", "status", *params, *metrics)))
    for run in runs:
        values = [*(run.params.get(name, "") for name in params), *(run.metrics.get(name, "") for name in metrics)]
        writer.writerow(map(escape_formula, (run.label, run.id, run.name, run.status, *values)))
    for sentence in verdict.sentences():
        print(sentence, file=sys.stderr)
