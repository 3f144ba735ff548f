"""Selection of runs by ids, names, or directories, or as the newest runs of an experiment."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.evaluation.compare.runs import Run, letters, open_run
from hydratune.tracking.client import absolute_uri, existing, typed_uri
from hydratune.tracking.delivery import checked_pointer
from hydratune.tracking.journal import not_tracked
from hydratune.tracking.runs_view import PARENT
from hydratune.utils import process
from hydratune.utils.errors import ConfigError, Problem, invalid_value, similar

if TYPE_CHECKING:
    from mlflow import MlflowClient

Found = tuple["MlflowClient", str, Path | None]  # a run's store, its id, and its directory if the user named it

MOST = 702  # number of runs with distinct letters: 26 + 26 * 26
_SEARCHED = 1000  # maximum number of runs that a search returns, newest first
_SHOWN = 5
_FINISHED = "FINISHED"


@dataclass
class Stores:
    """Clients of the stores that runs are in, each opened once; `uri` is the store of runs without an address."""

    uri: str
    _clients: dict[str, MlflowClient] = field(default_factory=dict)

    def client(self, uri: str = "") -> MlflowClient:
        """Return the client of an existing store; raise ConfigError if the store does not exist."""
        address = absolute_uri(uri) if uri else typed_uri(self.uri)
        if address not in self._clients:
            hint = "name run directories, or the store with --uri=ADDRESS"
            self._clients[address] = existing(address, "--uri", hint)
            # A run whose process has died must not be shown as RUNNING.
            process.mark_dead_runs_killed(self._clients[address])
        return self._clients[address]


def chosen(
    stores: Stores, names: Sequence[str], experiment: str | None, last: int | None, everything: bool = False
) -> list[Run]:
    """Return at least two runs with a letter each.

    The runs of `names` come first, in their order. The runs of the experiment follow, oldest first.

    Args:
        stores: Stores in which runs without a directory are looked up.
        names: Directories, ids, or names of runs.
        experiment: Experiment whose runs are added; None for all experiments if `last` is set, else for no more runs.
        last: Number of the newest runs of the experiment to add; None for all.
        everything: Whether to add sweeps and unfinished runs too.

    Raises:
        ConfigError: With an error for each name that does not identify one run.
    """
    run_refs: list[Found] = []
    problems: list[Problem] = []
    for name in names:
        try:
            run_refs.append(_named(stores, name))
        except ConfigError as error:
            problems += error.problems
    if experiment is not None or last is not None:
        try:
            run_refs += _last(stores.client(), experiment, last, everything)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    distinct = list({run_id: (client, run_id, folder) for client, run_id, folder in run_refs}.values())
    if not 2 <= len(distinct) <= MOST:
        limit = f"at most {MOST} runs" if len(distinct) > MOST else "at least two different runs"
        hint = "name them, or select them with --experiment=NAME --last=10"
        raise ConfigError(Problem("RUN", f"compare needs {limit}, not {len(distinct)}", hint))
    pairs = zip(letters(len(distinct)), distinct, strict=True)
    return [open_run(label, *run_ref) for label, run_ref in pairs]


def _named(stores: Stores, name: str) -> Found:
    """Return the one run that a directory, an id, the beginning of an id, or a name identifies."""
    folder = Path(name)
    if run_pointer := checked_pointer(folder):
        return stores.client(run_pointer["uri"]), run_pointer["run_id"], folder
    if folder.is_dir():
        raise ConfigError(not_tracked(folder))
    client = stores.client()
    matches = [run for run in _search(client, _by_name(name)) if run.info.run_name == name]
    if re.fullmatch("[0-9a-f]{6,32}", name):
        matches = [run for run in _search(client) if run.info.run_id.startswith(name)] or matches
    if len(matches) > 1:
        examples = ", ".join(f"{run.info.run_id[:12]} ({_day(run)})" for run in matches[:_SHOWN])
        examples += ", ..." if len(matches) > _SHOWN else ""
        raise ConfigError(Problem("RUN", f"{len(matches)} runs match {name!r}", f"use an ID instead: {examples}"))
    if not matches:
        run_names = [*dict.fromkeys(run.info.run_name for run in _search(client))]
        raise ConfigError(
            Problem("RUN", f"no such run: {name!r}", similar("run", name, run_names) or _newest(run_names))
        )
    return client, matches[0].info.run_id, None


def _last(client: MlflowClient, experiment: str | None, last: int | None, include_all: bool) -> Iterator[Found]:
    """Return the newest runs of one experiment or of all, oldest first; without `include_all`, only finished runs."""
    if last is not None and last < 2:
        raise ConfigError(invalid_value("--last", "at least 2", last))
    ids_by_name = _experiments(client)
    if experiment is not None and experiment not in ids_by_name:
        hint = similar("experiment", experiment, sorted(ids_by_name)) or "list the experiments with `hydratune ui`"
        raise ConfigError(Problem("--experiment", f"no such MLflow experiment: {experiment!r}", hint))
    experiment_ids = [ids_by_name[experiment]] if experiment is not None else [*ids_by_name.values()]
    newest = client.search_runs(experiment_ids, order_by=["attributes.start_time DESC"], max_results=_SEARCHED)
    sweeps = {run.data.tags.get(PARENT) for run in newest}
    selected = [
        run for run in newest if include_all or (run.info.status == _FINISHED and run.info.run_id not in sweeps)
    ]
    if omitted := len(newest) - len(selected):
        print(f"{omitted} sweeps or unfinished runs are skipped; --all includes them", file=sys.stderr)
    return ((client, run.info.run_id, None) for run in reversed(selected[: last or MOST]))


def _experiments(client: MlflowClient) -> dict[str, str]:
    return {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}


def _search(client: MlflowClient, query: str = "") -> list[Any]:
    """Return runs of all experiments, newest first."""
    experiment_ids = [*_experiments(client).values()]
    return list(
        client.search_runs(experiment_ids, query, order_by=["attributes.start_time DESC"], max_results=_SEARCHED)
    )


def _by_name(name: str) -> str:
    """Return an MLflow filter by name; empty for a name with both quotes, since MLflow's grammar has no escapes."""
    if "'" in name and '"' in name:
        return ""
    quote = '"' if "'" in name else "'"
    return f"attributes.run_name = {quote}{name}{quote}"


def _newest(names: Sequence[str]) -> str:
    return (
        f"use the name of a run, such as {', '.join(names[:_SHOWN])}"
        if names
        else "train a run first, since the store has none"
    )


def _day(run: Any) -> str:
    return f"{datetime.fromtimestamp(run.info.start_time / 1000, UTC):%Y-%m-%d %H:%M} UTC"
