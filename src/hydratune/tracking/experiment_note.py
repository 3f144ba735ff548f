"""Note of an experiment in MLflow: its best run and the states of its runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydratune.tracking.notes import NOTE, OWN_NOTE, note
from hydratune.tracking.runs_view import PARENT, view
from hydratune.utils.short_forms import is_finite, metric_name, number_text, ties_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Comparison of the best two configurations, from the ranked runs and their metric: the verdict in a few words,
# sentences, and commands.
Compare = Callable[["MlflowClient", Sequence[Any], str], tuple[str, Sequence[str], Mapping[str, str]]]
_MOST_RUNS, _TOP = 1000, 3


def write_experiment_note(client: MlflowClient, experiment_id: str, compare: Compare) -> None:
    """Describe the runs of an experiment, unless the user has written a note.

    Args:
        client: Client of the store.
        experiment_id: ID of the experiment.
        compare: Function that compares the best two configurations.
    """
    tags = client.get_experiment(experiment_id).tags
    if tags.get(NOTE, "") != tags.get(OWN_NOTE, ""):
        return
    runs = client.search_runs([experiment_id], max_results=_MOST_RUNS)
    parents = {run.data.tags[PARENT] for run in runs if PARENT in run.data.tags}
    text = _note(client, [run for run in runs if run.info.run_id not in parents], len(parents), compare)
    if text and text != tags.get(NOTE):
        client.set_experiment_tag(experiment_id, NOTE, text)
        client.set_experiment_tag(experiment_id, OWN_NOTE, text)


def _note(client: MlflowClient, runs: Sequence[Any], sweeps: int, compare: Compare) -> str:
    """Return the note; empty if no run records its objective."""
    state = view([run.data for run in runs])
    if state is None:
        return ""
    metric = str(state["orderByKey"]).removeprefix("metrics.`").removesuffix("`")
    name = metric_name(metric.partition("/")[2])
    finished = [run for run in runs if run.info.status == "FINISHED" and is_finite(run.data.metrics.get(metric))]
    finished.reverse()  # the first of several runs with the same value is the best one, as in a sweep
    ranked = sorted(finished, key=lambda run: run.data.metrics[metric], reverse=not state["orderByAsc"])
    counts = Counter(run.info.status.lower() for run in runs)
    states = ", ".join(f"{count} {status}" for status, count in counts.items())
    scores = [(f"{name} {number_text(run.data.metrics[metric])}", run.info.run_name) for run in ranked[:_TOP]]
    top = {f"{i}. {score}": run_name for i, (score, run_name) in enumerate(scores, 1)}
    ties = ties_text((run.data.metrics[metric] for run in ranked), ranked[0].data.metrics[metric]) if ranked else ""
    verdict, sentences, commands = compare(client, ranked, metric) if ranked else ("", (), {})
    # MLflow shows one line of about 70 characters: the verdict comes before the name, which the table also has.
    difference = f", difference from the second best {verdict}" if verdict else ""
    best = [f"Best {score}{difference}: {run_name}{ties}" for score, run_name in scores[:1]]
    lines = [*best, *sentences, f"{_count(len(runs), 'run')} ({states}), {_count(sweeps, 'sweep')}"]
    return note(lines, {**top, **commands})


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
