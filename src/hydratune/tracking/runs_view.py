"""A view of MLflow's runs page that shows what tells runs apart, best first.

MLflow keeps the views that its Share button makes as tags of the experiment; this makes one of our own. It is not
documented, so nothing depends on it: without it the page opens as MLflow has it. Read in mlflow 3.17.2.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRAINING = "workflowType=machine_learning"  # without it the pages are those of language models and their traces
KEY = "hydratune"  # of our view, in the page's address
TAG = f"mlflow.sharedViewState.{KEY}"
PARENT = "mlflow.parentRunId"
OBJECTIVE, DIRECTION = "hydratune.objective", "hydratune.direction"  # tags of a run: `eval_accuracy`, `max` or `min`
LOG10 = "log10_"  # prefix of params that only charts use, since MLflow's axes are linear
_ALWAYS = ("dataset", "model", "seed")  # params that have a column even where all runs agree
_NAME, _NAME_WIDTH = "attributes.`Run Name`", 340  # pixels, for what was changed to be read
_MOST_RUNS, _MOST_COLUMNS = 200, 12


def runs_page(client: MlflowClient, experiment_id: str) -> str:
    """The path of an experiment's runs page, in our view of it where a run says what its objective is."""
    page = f"/#/experiments/{experiment_id}/runs?{TRAINING}"
    runs = client.search_runs([experiment_id], max_results=_MOST_RUNS)  # the newest first
    parents = {run.data.tags[PARENT] for run in runs if PARENT in run.data.tags}
    state = view([run.data for run in runs if run.info.run_id not in parents])
    if state is None:
        return page
    state["runsExpanded"] = dict.fromkeys(sorted(parents), True)  # or a sweep hides its runs
    client.set_experiment_tag(experiment_id, TAG, json.dumps(state))
    return f"{page}&viewStateShareKey={KEY}"


def sweep_page(client: MlflowClient, experiment_id: str, sweep_id: str) -> str:
    """Return the path of a page with the runs of a sweep: parallel coordinates of the objective and what was changed.

    Args:
        client: Of the store.
        experiment_id: The sweep's experiment.
        sweep_id: The run that the sweep's runs are nested in.
    """
    only = f"tags.`{PARENT}` = '{sweep_id}'"
    page = f"/#/experiments/{experiment_id}/runs?{TRAINING}&compareRunsMode=CHART"
    runs = client.search_runs([experiment_id], only, max_results=_MOST_RUNS)
    state = view([run.data for run in runs])
    if state is None:
        return f"/#/experiments/{experiment_id}/runs/{sweep_id}?{TRAINING}"
    key = f"{KEY}-{sweep_id}"
    state |= {"searchFilter": only, **_charts(state, [run.data.params for run in runs])}
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(state))
    return f"{page}&viewStateShareKey={key}"


def _charts(state: Mapping[str, Any], params: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The charts of a page as MLflow's Share button writes them: the objective as lines over params, and as bars."""
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
    """The params that are not the same in all runs."""
    names = dict.fromkeys(name for one in params for name in one)
    return [name for name in names if len({one.get(name) for one in params}) > 1]


def view(runs: Sequence[Any]) -> dict[str, Any] | None:
    """The state of a runs page as MLflow's Share button writes it, of the `data` of runs; None without an objective."""
    aims = Counter((run.tags[OBJECTIVE], run.tags.get(DIRECTION, "max")) for run in runs if OBJECTIVE in run.tags)
    if not aims:
        return None
    (objective, direction), _ = aims.most_common(1)[0]
    name = objective.removeprefix("eval_")
    kept = f"best/{name}"  # of the weights that were kept; `eval/` has the last ones
    known = {metric for run in runs for metric in run.metrics}
    first = kept if kept in known else f"eval/{name}"
    others = dict.fromkeys(metric for metric in (f"test/{name}", "eval/loss") if metric in known and metric != first)
    columns = [_column("metrics", metric) for metric in (first, *others)]
    columns += [_column("params", param) for param in _told([run.params for run in runs])]
    return {
        "orderByKey": columns[0],
        "orderByAsc": direction == "min",
        "selectedColumns": columns,
        "columnOrder": [_NAME, *columns],
        "columnWidths": {_NAME: _NAME_WIDTH},
    }


def _told(params: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The params that are worth a column: three of them always, and those in which runs differ."""
    differ = [name for name in _differing(params) if not name.startswith(LOG10)]
    yield from dict.fromkeys([*_ALWAYS, *differ[:_MOST_COLUMNS]])


def _column(kind: str, name: str) -> str:
    """A column as the page calls it."""
    return f"{kind}.`{name}`"
