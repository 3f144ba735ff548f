"""A comparison as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hydratune.compare.runs import PLACES, Run
from hydratune.compare.verdict import Verdict, differing
from hydratune.console import plain_console
from hydratune.report import BOOKKEEPING


def shown_metrics(runs: Sequence[Run]) -> list[str]:
    """What runs measured, test first; the last evaluation only where none is marked as the best."""
    names = dict.fromkeys(name for run in runs for name in run.metrics if not name.endswith(BOOKKEEPING))
    best = {name.partition("/")[2] for name in names if name.startswith("best/")}
    return [
        name
        for place in PLACES
        for name in names
        if name.startswith(f"{place}/") and not (place == "eval" and name.partition("/")[2] in best)
    ]


def shared_metrics(runs: Sequence[Run]) -> list[str]:
    """What at least two runs measured."""
    return [name for name in shown_metrics(runs) if sum(name in run.metrics for run in runs) > 1]


def table(runs: Sequence[Run], verdict: Verdict) -> None:
    """Prints who the letters are, what differs and what was measured, side by side, and the verdict."""
    from rich.table import Table

    console = plain_console(soft_wrap=True)
    width = max(len(run.status) for run in runs)
    for run in runs:
        console.print(f"{run.label}  {run.id[:12]}  {run.status:<{width}}  {run.name}")
    grid = Table("", *(run.label for run in runs))
    for name in differing(runs):
        grid.add_row(name, *(run.params.get(name, "-") for run in runs))
    grid.add_section()
    for name in shown_metrics(runs):
        grid.add_row(name, *(_number(run.metrics.get(name)) for run in runs))
    console.print(grid, soft_wrap=False)
    for sentence in verdict.sentences():
        console.print(sentence)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def as_json(runs: Sequence[Run], verdict: Verdict) -> None:
    """Prints one document: the runs, the params that differ, the metrics, every comparison and its sentence."""
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
            asdict(one) | {"better": one.better, "sentence": one.sentence()} for one in verdict.comparisons
        ],
        "remarks": verdict.remarks,
    }
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(runs: Sequence[Run], verdict: Verdict) -> None:
    """Prints a line a run; the verdict goes to stderr, so that the lines can be read by a program."""
    params, metrics = differing(runs), shown_metrics(runs)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["label", "id", "name", "status", *params, *metrics])
    for run in runs:
        values = [*(run.params.get(name, "") for name in params), *(run.metrics.get(name, "") for name in metrics)]
        writer.writerow([run.label, run.id, run.name, run.status, *values])
    for sentence in verdict.sentences():
        print(sentence, file=sys.stderr)
