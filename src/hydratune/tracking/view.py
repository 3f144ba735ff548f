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
    names = list(dict.fromkeys([*_ALWAYS, *(name for one in params for name in one)]))
    differ = [name for name in names if len({one.get(name) for one in params}) > 1]
    yield from dict.fromkeys([*_ALWAYS, *differ[:_MOST_COLUMNS]])


def _column(kind: str, name: str) -> str:
    """A column as the page calls it."""
    return f"{kind}.`{name}`"
