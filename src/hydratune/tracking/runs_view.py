"""A view of MLflow's runs page that shows the differences between runs, best first.

MLflow stores the views of its Share button as tags of the experiment; this module creates one of our own. The format is
not documented, so nothing depends on it: without the view, the page opens in MLflow's default form. The format is that
of mlflow 3.17.2.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRAINING = "workflowType=machine_learning"  # otherwise MLflow opens its pages for language models and traces
KEY = "hydratune"  # name of our view in the page's address
TAG = f"mlflow.sharedViewState.{KEY}"
PARENT = "mlflow.parentRunId"
OBJECTIVE, DIRECTION = "hydratune.objective", "hydratune.direction"  # tags of a run: `eval_accuracy`, `max` or `min`
LOG10 = "log10_"  # prefix of params that only charts use, since MLflow's axes are linear
_ALWAYS = ("dataset", "model", "seed")  # params that have a column even if all runs agree
_NAME, _NAME_WIDTH = "attributes.`Run Name`", 340  # pixels, wide enough for the overrides in a name
_MOST_RUNS, _MOST_COLUMNS = 200, 12


def runs_page(client: MlflowClient, experiment_id: str) -> str:
    """Return the path of an experiment's runs page, in our view if a run records its objective."""
    page = f"/#/experiments/{experiment_id}/runs?{TRAINING}"
    runs = client.search_runs([experiment_id], max_results=_MOST_RUNS)  # the newest first
    parents = {run.data.tags[PARENT] for run in runs if PARENT in run.data.tags}
    state = view([run.data for run in runs if run.info.run_id not in parents])
    if state is None:
        return page
    state["runsExpanded"] = dict.fromkeys(sorted(parents), True)  # otherwise a sweep hides its runs
    client.set_experiment_tag(experiment_id, TAG, json.dumps(state))
    return f"{page}&viewStateShareKey={KEY}"


def sweep_page(client: MlflowClient, experiment_id: str, sweep_id: str) -> str:
    """Return the path of a page with a sweep's runs: parallel coordinates of the objective and the varied params.

    Args:
        client: Client of the store.
        experiment_id: ID of the sweep's experiment.
        sweep_id: ID of the run that the sweep's runs are nested in.
    """
    run_filter = f"tags.`{PARENT}` = '{sweep_id}'"
    page = f"/#/experiments/{experiment_id}/runs?{TRAINING}&compareRunsMode=CHART"
    runs = client.search_runs([experiment_id], run_filter, max_results=_MOST_RUNS)
    state = view([run.data for run in runs])
    if state is None:
        return f"/#/experiments/{experiment_id}/runs/{sweep_id}?{TRAINING}"
    key = f"{KEY}-{sweep_id}"
    state |= {"searchFilter": run_filter, **_charts(state, [run.data.params for run in runs])}
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(state))
    return f"{page}&viewStateShareKey={key}"


def _charts(state: Mapping[str, Any], params: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return a page's charts as MLflow's Share button writes them: the objective as lines over params, and as bars."""
    objective = str(state["orderByKey"]).removeprefix("metrics.`").removesuffix("`")
    names = _differing(params)
    varied = [name for name in names if f"{LOG10}{name}" not in names]
    shared = {"runsCountToCompare": _MOST_RUNS, "metricSectionId": KEY, "deleted": False, "isGenerated": False}
    lines = {"type": "PARALLEL", "uuid": f"{KEY}-lines", "selectedParams": varied, "selectedMetrics": [objective]}
    bars = {"type": "BAR", "uuid": f"{KEY}-bars", "metricKey": objective}
    section = {"uuid": KEY, "name": "sweep", "display": True, "isReordered": True}
    charts = [{**shared, **lines, "showAllRuns": True}, {**shared, **bars}]
    return {"compareRunCharts": charts, "compareRunSections": [section], "isAccordionReordered": True}


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
    other_metrics = dict.fromkeys(
        metric for metric in (f"test/{name}", "eval/loss") if metric in metric_names and metric != main_metric
    )
    columns = [_column("metrics", metric) for metric in (main_metric, *other_metrics)]
    columns += [_column("params", param) for param in _told([run.params for run in runs])]
    return {
        "orderByKey": columns[0],
        "orderByAsc": direction == "min",
        "selectedColumns": columns,
        "columnOrder": [_NAME, *columns],
        "columnWidths": {_NAME: _NAME_WIDTH},
    }


def _told(params: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield the params that have a column: three of them always, and those in which runs differ."""
    differ = [name for name in _differing(params) if not name.startswith(LOG10)]
    yield from dict.fromkeys([*_ALWAYS, *differ[:_MOST_COLUMNS]])


def _column(kind: str, name: str) -> str:
    """Return the page's name for a column."""
    return f"{kind}.`{name}`"
