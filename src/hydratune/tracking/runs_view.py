"""A view of MLflow's runs page that shows the differences between runs, best first.

MLflow stores the views of its Share button as tags of the experiment; this module creates one of our own. The format is
not documented, so nothing depends on it: without the view, the page opens in MLflow's default form. The format is that
of mlflow 3.17.2.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRAINING = "workflowType=machine_learning"  # otherwise MLflow opens its pages for language models and traces
KEY = "hydratune"  # name of our view in the page's address
TAG = f"mlflow.sharedViewState.{KEY}"
PARENT = "mlflow.parentRunId"
OBJECTIVE, DIRECTION = "hydratune.objective", "hydratune.direction"  # tags of a run: `eval_accuracy`, `max` or `min`
LOG10 = "log10_"  # prefix of params that only charts use, since MLflow's axes are linear
_OF_DATA = ("digest.", "rows.")  # prefixes of params that describe the rows, never axes of charts
_ALWAYS = ("dataset", "model", "seed")  # params that have a column even if all runs agree
_NAME, _NAME_WIDTH = "attributes.`Run Name`", 340  # pixels, wide enough for the overrides in a name
_MOST_RUNS, _MOST_COLUMNS, _MOST_AXES = 200, 12, 8
_MOST_HISTORIES = 20  # runs that are searched for a metric with several points
_CHARTS = "compareRunsMode=CHART"  # otherwise the page opens with its table
SWEEP_NAME = "sweep"  # tag of a sweep's runs: the name of their sweep


def runs_page(client: MlflowClient, experiment_id: str) -> str:
    """Return the path of an experiment's runs page, in our view if a run records its objective."""
    page = f"/#/experiments/{experiment_id}/runs?{TRAINING}"
    all_runs = client.search_runs([experiment_id], max_results=_MOST_RUNS)  # the newest first
    parents = {run.data.tags[PARENT] for run in all_runs if PARENT in run.data.tags}
    runs = [run for run in all_runs if run.info.run_id not in parents]
    state = view([run.data for run in runs])
    if state is None:
        return page
    state |= _charts(client, state, runs)
    _add_best_of_sweeps(state, [run.data for run in all_runs if run.info.run_id in parents])
    state["runsExpanded"] = dict.fromkeys(sorted(parents), True)  # otherwise a sweep hides its runs
    client.set_experiment_tag(experiment_id, TAG, json.dumps(state))
    return f"{page}&viewStateShareKey={KEY}"


def charts_page(page: str) -> str:
    """Return the path of the charts of a runs page."""
    return f"{page}&{_CHARTS}"


def sweep_page(client: MlflowClient, experiment_id: str, sweep_id: str) -> str:
    """Return the path of a page with charts of a sweep's runs: the objective and the varied params.

    Args:
        client: Client of the store.
        experiment_id: ID of the sweep's experiment.
        sweep_id: ID of the run that the sweep's runs are nested in.
    """
    run_filter = f"tags.`{PARENT}` = '{sweep_id}'"
    page = f"/#/experiments/{experiment_id}/runs?{TRAINING}&{_CHARTS}"
    runs = client.search_runs([experiment_id], run_filter, max_results=_MOST_RUNS)
    state = view([run.data for run in runs])
    if state is None:
        return f"/#/experiments/{experiment_id}/runs/{sweep_id}?{TRAINING}"
    key = f"{KEY}-{sweep_id}"
    state |= {"searchFilter": run_filter, **_charts(client, state, runs)}
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(state))
    return f"{page}&viewStateShareKey={key}"


def _add_best_of_sweeps(state: dict[str, Any], sweeps: Sequence[Any]) -> None:
    """Add a column with the best value of each sweep, which is not ranked among its runs.

    Args:
        state: State of the page.
        sweeps: The `data` of the sweeps' own runs.
    """
    objective = str(state["orderByKey"]).partition("/")[2].removesuffix("`")
    metric = f"trials/best_{objective}"
    if any(metric in sweep.metrics for sweep in sweeps):
        columns = state["selectedColumns"]
        columns.insert(1, _column("metrics", metric))
        state["columnOrder"] = [_NAME, *columns]


def _charts(client: MlflowClient, state: Mapping[str, Any], runs: Sequence[Any]) -> dict[str, Any]:
    """Return a page's charts as MLflow's Share button writes them.

    Args:
        client: Client of the store.
        state: State of the page.
        runs: Runs of the charts.
    """
    objective = str(state["orderByKey"]).removeprefix("metrics.`").removesuffix("`")
    shared = {"runsCountToCompare": _MOST_RUNS, "metricSectionId": KEY, "deleted": False, "isGenerated": False}
    charts = [
        {**shared, **chart, "uuid": f"{KEY}-{i}"}
        for i, chart in enumerate(_chart_kinds(objective, [run.data.params for run in runs], _curves(client, runs)))
    ]
    section = {"uuid": KEY, "name": "hydratune", "display": True, "isReordered": True}
    return {"compareRunCharts": charts, "compareRunSections": [section], "isAccordionReordered": True}


def _curves(client: MlflowClient, runs: Sequence[Any]) -> Callable[[str], bool]:
    """Return a function that tells whether a metric has several points in one of the runs, so that it is a curve."""

    def is_curve(name: str) -> bool:
        ids = [run.info.run_id for run in runs if name in run.data.metrics][:_MOST_HISTORIES]
        return any(len({point.step for point in client.get_metric_history(run_id, name)}) > 1 for run_id in ids)

    return is_curve


def _chart_kinds(
    objective: str, params: Sequence[Mapping[str, str]], is_curve: Callable[[str], bool]
) -> Iterator[dict[str, Any]]:
    """Yield the charts in order: losses, the objective over steps, and what it depends on, then the schedule.

    Metrics with one value per run are in tables and bars, not in curves.

    Args:
        objective: Metric of the best checkpoints.
        params: Params of the runs.
        is_curve: Function that tells whether a metric has several points in one of the runs.
    """
    differing = _differing(params)
    settings = [name for name in differing if not name.startswith(_OF_DATA)]
    varied = [name for name in settings if not _is_drawn_otherwise(name, params)][:_MOST_AXES]
    curve = f"eval/{objective.partition('/')[2]}"
    if lines := [name for name in ("train/loss", "eval/loss") if is_curve(name)]:
        yield _lines(lines, "Loss: training and validation")
    if curve != "eval/loss" and is_curve(curve):
        yield _lines([curve], f"{curve.partition('/')[2]} on validation")
    if varied:
        axes = {"selectedParams": varied, "selectedMetrics": [objective], "showAllRuns": True}
        yield {"type": "PARALLEL", **axes, "displayName": "Varied settings and the objective"}
    for name in (name for name in varied if all(map(_is_number, _values(params, name)))):
        axes = {"xaxis": {"key": name, "type": "PARAM"}, "yaxis": {"key": objective, "type": "METRIC"}}
        yield {"type": "SCATTER", **axes, "displayName": f"{objective} by {name}"}
    yield {"type": "BAR", "metricKey": objective, "displayName": objective}
    if is_curve("train/learning_rate"):
        yield _lines(["train/learning_rate"], "Learning rate")


def _is_drawn_otherwise(name: str, params: Sequence[Mapping[str, str]]) -> bool:
    """Return whether charts show a param by its logarithm, or the logarithm, which some runs lack, by the param."""
    plain = name.removeprefix(LOG10)
    has_logarithms = all(f"{LOG10}{plain}" in run_params for run_params in params if plain in run_params)
    return has_logarithms if name == plain else not has_logarithms


def _lines(names: Sequence[str], title: str) -> dict[str, Any]:
    """Return a chart of metrics over steps."""
    scale = {"xAxisKey": "step", "scaleType": "linear", "xAxisScaleType": "linear", "lineSmoothness": 0}
    axes = {"yAxisKey": "metric", "yAxisExpressions": [], "selectedXAxisMetricKey": "", "range": {}}
    shared = {"useGlobalLineSmoothing": True, "useGlobalXaxisKey": True, "displayName": title}
    return {"type": "LINE", "metricKey": names[0], "selectedMetricKeys": [*names], **scale, **axes, **shared}


def _values(params: Sequence[Mapping[str, str]], name: str) -> list[str]:
    return [run_params[name] for run_params in params if name in run_params]


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _differing(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the params that are not the same in all runs."""
    names = dict.fromkeys(name for run_params in params for name in run_params)
    return [name for name in names if len({run_params.get(name) for run_params in params}) > 1]


def view(runs: Sequence[Any]) -> dict[str, Any] | None:
    """Return the state of a runs page as MLflow's Share button writes it; None without an objective.

    Args:
        runs: The `data` of the runs.
    """
    objective_counts = Counter(
        (run.tags[OBJECTIVE], run.tags.get(DIRECTION, "max")) for run in runs if OBJECTIVE in run.tags
    )
    if not objective_counts:
        return None
    (objective, direction), _ = objective_counts.most_common(1)[0]
    name = objective.removeprefix("eval_")
    best_metric = f"best/{name}"  # of the best checkpoint; `eval/` has the last value
    metric_names = {metric for run in runs for metric in run.metrics}
    main_metric = best_metric if best_metric in metric_names else f"eval/{name}"
    # The loss of the same step as the main metric, not the last one.
    loss = "best/loss" if main_metric.startswith("best/") and "best/loss" in metric_names else "eval/loss"
    other_metrics = dict.fromkeys(
        metric for metric in (f"test/{name}", loss) if metric in metric_names and metric != main_metric
    )
    columns = [_column("metrics", metric) for metric in (main_metric, *other_metrics)]
    columns += [_column("tags", SWEEP_NAME)] * any(SWEEP_NAME in run.tags for run in runs)
    columns += [_column("params", param) for param in _shown_params([run.params for run in runs])]
    return {
        "orderByKey": columns[0],
        "orderByAsc": direction == "min",
        "selectedColumns": columns,
        "columnOrder": [_NAME, *columns],
        "columnWidths": {_NAME: _NAME_WIDTH},
    }


def _shown_params(params: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield the params that have a column: those in which runs differ, and three of them always."""
    differ = [name for name in _differing(params) if not name.startswith(LOG10)]
    yield from dict.fromkeys([*differ[:_MOST_COLUMNS], *_ALWAYS])


def _column(kind: str, name: str) -> str:
    """Return the page's name for a column."""
    return f"{kind}.`{name}`"
