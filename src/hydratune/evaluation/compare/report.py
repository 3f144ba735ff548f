"""HTML report of a comparison: the verdict, differing settings, metrics, curves, and rows that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydratune.evaluation.compare.runs import Run
from hydratune.evaluation.compare.table import metric_label, shown_metrics
from hydratune.evaluation.compare.verdict import Verdict, configurations, differing
from hydratune.training.report.rows import cell, input_text
from hydratune.utils import report_page
from hydratune.utils.figures import Curve, curves, label
from hydratune.utils.files import ROW, write_text
from hydratune.utils.report_page import Html
from hydratune.utils.report_style import COLORS
from hydratune.utils.short_forms import short_names

_MOST_COLUMNS = 12  # runs with a column each
_MOST_ROWS = 20  # rows of each direction that changed
_KEYS = ("label", "prediction")


def write(runs: Sequence[Run], verdict: Verdict, path: Path) -> None:
    """Write the report of a comparison to a file."""
    write_text(path, report(runs, verdict))


def report(runs: Sequence[Run], verdict: Verdict) -> str:
    """Return the report as HTML."""
    lead, *more = verdict.sentences() or ["The runs have no metric in common."]
    blocks = [*_differences(verdict)]
    return report_page.page(
        f"Comparison of {len(runs)} runs" + (f" by {verdict.metric}" if verdict.metric else ""),
        report_page.paragraph(lead, "lead"),
        report_page.section("Differing settings", _settings(runs)),
        report_page.section("Further findings", *map(report_page.paragraph, more)),
        report_page.section("Metrics", _metrics(runs)),
        report_page.section("Differences", report_page.figures(*blocks)),
        report_page.section("Curves", report_page.figures(*_curves(runs, verdict))),
        report_page.section("Rows that changed (test)", *_changed(runs)),
    )


def _settings(runs: Sequence[Run]) -> Html:
    """Return name and settings that differ of each run, and their status unless all have finished."""
    values: dict[str, list[Any]] = {"name": [run.name for run in runs]}
    for key, short_name in short_names(differing(runs)).items():
        values[short_name] = [_setting(run.params.get(key)) for run in runs]
    statuses = [run.status.lower() for run in runs]
    return _by_run("setting", runs, {**values, **({} if {*statuses} == {"finished"} else {"status": statuses})})


def _setting(value: str | None) -> Any:
    try:
        return None if value is None else report_page.sortable(value, float(value))
    except ValueError:
        return value


def _metrics(runs: Sequence[Run]) -> Html:
    return _by_run(
        "metric",
        runs,
        {
            metric_label(name, runs[0].evaluation): [run.metrics.get(name) for run in runs]
            for name in shown_metrics(runs)
        },
    )


def _by_run(kind: str, runs: Sequence[Run], values: Mapping[str, Sequence[Any]]) -> Html:
    """Return a table with a column for each run, or with a row for each run if there are many."""
    labels = [run.label for run in runs]
    if len(runs) <= _MOST_COLUMNS:
        return report_page.table([kind, *labels], [(name, *cells) for name, cells in values.items()])
    return report_page.table(["run", *values], list(zip(labels, *values.values(), strict=True)))


def _differences(verdict: Verdict) -> Iterator[Html]:
    """Yield the figure of the differences with their intervals, in percentage points for shares."""
    import plotly.graph_objects as go

    if not verdict.comparisons:
        return
    unit = verdict.comparisons[0].unit
    factor = 100 if unit.is_share else 1
    values = [factor * one.interval.value for one in verdict.comparisons]
    limits = [(one.interval.low, one.interval.high) for one in verdict.comparisons]
    above = [0 if high is None else factor * high - value for value, (_, high) in zip(values, limits, strict=True)]
    below = [0 if low is None else value - factor * low for value, (low, _) in zip(values, limits, strict=True)]
    names = [f"{label(one.second)}<br>minus {label(one.first)}" for one in verdict.comparisons]
    error = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    marks = go.Scatter(x=values, y=[*range(len(names))], mode="markers", error_x=error, marker_color=COLORS[0])
    drawing = go.Figure(marks).add_vline(0, line_color=COLORS[-1])
    drawing.update_yaxes(tickvals=[*range(len(names))], ticktext=names, autorange="reversed")
    drawing.update_xaxes(title=f"{label(unit.name)}, with 95% intervals")
    title = f"Difference of {unit.metric}"
    yield report_page.figure(title, drawing, height=140 + 40 * len(names), widest=900)


def _curves(runs: Sequence[Run], verdict: Verdict) -> Iterator[Html]:
    """Yield curves: runs that differ only in their seed are one line with a band from the lowest to the highest."""
    metrics = ["train/loss", f"eval/{verdict.metric or 'loss'}", "eval/loss"]
    for metric in dict.fromkeys(metrics):
        lines = [line for group in configurations(runs) if (line := _line(group, metric))]
        if lines:
            yield report_page.figure(metric, curves(lines, y=metric.partition("/")[2]))


def _line(group: Sequence[Run], metric: str) -> Curve | None:
    """Return the mean over the runs of a group at the steps that all of them have; None below two points."""
    histories = [dict(zip(*run.history(metric), strict=True)) for run in group]
    steps = sorted(set.intersection(*(set(history) for history in histories)))
    if len(steps) < 2:
        return None
    values = [[history[step] for history in histories] for step in steps]
    name = ", ".join(run.label for run in group)
    curve = Curve(name, steps, [sum(row) / len(row) for row in values])
    return replace(curve, low=[*map(min, values)], high=[*map(max, values)]) if len(group) > 1 else curve


def _changed(runs: Sequence[Run]) -> Iterator[Html]:
    """Yield the test rows that one of two runs predicts right and the other wrong."""
    if len(runs) != 2 or not runs[0].test_digest or runs[0].test_digest != runs[1].test_digest:
        return
    first, second = runs
    pairs = [
        pair
        for pair in zip(first.rows, second.rows, strict=False)
        if all(key in row for row in pair for key in _KEYS) and pair[0]["label"] == pair[1]["label"]
    ]
    for right, wrong, is_right in ((second, first, 1), (first, second, 0)):
        changed = [
            pair
            for pair in pairs
            if pair[is_right]["prediction"] == pair[0]["label"] != pair[1 - is_right]["prediction"]
        ]
        lines = [
            [
                int(a.get(ROW, i)),
                input_text(a, _KEYS),
                *(cell(v) for v in (a["label"], a["prediction"], b["prediction"])),
            ]
            for i, (a, b) in enumerate(changed[:_MOST_ROWS])
        ]
        columns = ["row", "input", "true", f"predicted by {first.label}", f"predicted by {second.label}"]
        if not any(line[1] for line in lines):  # e.g. images
            columns, lines = [columns[0], *columns[2:]], [[line[0], *line[2:]] for line in lines]
        title = f"{right.label} is right, {wrong.label} is wrong: {len(changed):,} of {len(pairs):,} rows"
        yield report_page.subsection(title, report_page.table(columns, lines))
