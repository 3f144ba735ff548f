"""Selection of runs by the texts that stand for them, or as the newest runs of an experiment."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.evaluation.compare.runs import Run, letters, open_run
from hydratune.tracking.delivery import checked_pointer
from hydratune.tracking.journal import not_tracked
from hydratune.tracking.run_directories import finish_command, retrained, retrainings
from hydratune.tracking.run_lookup import RunLookup
from hydratune.tracking.runs_view import PARENT
from hydratune.tracking.stores import experiments, search_runs
from hydratune.utils.errors import ConfigError, Problem, invalid_value, similar
from hydratune.utils.files import PLAN
from hydratune.utils.provenance import cli_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

RunRef = tuple["MlflowClient", str, Path | None]  # a run's store, its id, and its directory if the user named it

MOST = 702  # number of runs with distinct letters: 26 + 26 * 26
_FINISHED = "FINISHED"


def chosen(
    lookup: RunLookup, names: Sequence[str], experiment: str | None, last: int | None, everything: bool = False
) -> list[Run]:
    """Return at least two runs with a letter each.

    The runs of `names` come first, in their order. The runs of the experiment follow, oldest first.

    Args:
        lookup: Lookup of runs, with the store of the experiment.
        names: RUN, each as the user typed it.
        experiment: Experiment whose runs are added; None for all experiments if `last` is set, else for no more runs.
        last: Number of the newest runs of the experiment to add; None for all.
        everything: Whether to add sweeps and unfinished runs too.

    Raises:
        ConfigError: With an error for each name that does not identify one run.
    """
    run_refs: list[RunRef] = []
    problems: list[Problem] = []
    for name in names:
        try:
            run_refs.append(_ref(lookup, name))
        except ConfigError as error:
            problems += error.problems
    if experiment is not None or last is not None:
        try:
            run_refs += _last(lookup.stores.client(), experiment, last, everything)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    distinct = list({run_id: (client, run_id, folder) for client, run_id, folder in run_refs}.values())
    if not 2 <= len(distinct) <= MOST:
        limit = f"at most {MOST} runs" if len(distinct) > MOST else "at least two different runs"
        hint = "pass two or more, or select them with --experiment=NAME --last=10"
        raise ConfigError(Problem("RUN", f"compare needs {limit}, not {len(distinct)}", hint))
    pairs = zip(letters(len(distinct)), distinct, strict=True)
    return [open_run(label, *run_ref) for label, run_ref in pairs]


def _ref(lookup: RunLookup, text: str) -> RunRef:
    """Return the one run that RUN stands for."""
    try:
        run = lookup.find(text)
    except ConfigError as error:
        if sweep := _sweep(lookup, text):
            hint = "\n".join(_sweep_steps(sweep))
            raise ConfigError(*(replace(problem, hint=hint) for problem in error.problems)) from error
        raise
    if run.directory is None or run.recorded_directory:
        return lookup.stores.client(), run.run_id, None
    if run_pointer := checked_pointer(run.directory):
        return lookup.stores.client(run_pointer["uri"]), run_pointer["run_id"], run.directory
    raise ConfigError(not_tracked(run.directory))


def _sweep(lookup: RunLookup, text: str) -> Path | None:
    """Return the directory of the sweep that RUN stands for; None if it stands for none."""
    with suppress(ConfigError):
        directory = lookup.find(text, True).directory
        return directory if directory and (directory / PLAN).is_file() else None
    return None


def _sweep_steps(sweep: Path) -> Iterator[str]:
    """Yield hints with the commands that compare trials of a sweep."""
    numbers = sorted({path.parent.name.removeprefix("trial=") for path in retrained(sweep, "*")}, key=len)
    if len(numbers) > 1:
        patterns = " ".join(retrainings(sweep, number) for number in numbers)
        yield f"compare its retrained trials: {cli_path()} compare {patterns}"
    else:
        yield f"retrain and test its best trial, then the second best, which the end names: {finish_command(sweep)}"
    yield f"see its trials: {shlex.join([cli_path(), 'sweep', 'status', os.path.relpath(sweep)])}"


def _last(client: MlflowClient, experiment: str | None, last: int | None, include_all: bool) -> Iterator[RunRef]:
    """Return the newest runs of one experiment or of all, oldest first; without `include_all`, only finished runs."""
    if last is not None and last < 2:
        raise ConfigError(invalid_value("--last", "at least 2", last))
    ids_by_name = experiments(client)
    if experiment is not None and experiment not in ids_by_name:
        hint = similar("experiment", experiment, sorted(ids_by_name)) or "list the experiments with `hydratune ui`"
        raise ConfigError(Problem("--experiment", f"no such MLflow experiment: {experiment!r}", hint))
    experiment_ids = [ids_by_name[experiment]] if experiment is not None else [*ids_by_name.values()]
    newest = search_runs(client, experiment_ids=experiment_ids)
    sweeps = {run.data.tags.get(PARENT) for run in newest}
    selected = [
        run for run in newest if include_all or (run.info.status == _FINISHED and run.info.run_id not in sweeps)
    ]
    if omitted := len(newest) - len(selected):
        print(f"skipped sweeps and unfinished runs: {omitted}; --all includes them", file=sys.stderr)
    return ((client, run.info.run_id, None) for run in reversed(selected[: last or MOST]))
