"""Existing MLflow stores, and searches in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hydratune.tracking.client import absolute_uri, existing, typed_uri
from hydratune.utils import process

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SEARCHED = 1000  # maximum number of runs that a search returns, newest first


@dataclass
class Stores:
    """Clients of the stores that runs are in, each opened once; `uri` is the store of runs without an address."""

    uri: str
    _clients: dict[str, MlflowClient] = field(default_factory=dict)

    def client(self, uri: str = "") -> MlflowClient:
        """Return the client of an existing store; raise ConfigError if the store does not exist."""
        address = absolute_uri(uri) if uri else typed_uri(self.uri)
        if address not in self._clients:
            hint = "pass run directories, or the store with --uri=URI"
            self._clients[address] = existing(address, "--uri", hint)
            # A run whose process has died must not be shown as RUNNING.
            process.mark_dead_runs_killed(self._clients[address])
        return self._clients[address]


def experiments(client: MlflowClient) -> dict[str, str]:
    """Return the names of all experiments -> their IDs."""
    return {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}


def search_runs(client: MlflowClient, query: str = "", experiment_ids: Sequence[str] | None = None) -> list[Run]:
    """Return runs, newest first.

    Args:
        client: Client of the store.
        query: Filter in MLflow's grammar; empty for all runs.
        experiment_ids: Experiments to search; None for all.
    """
    ids = [*experiments(client).values()] if experiment_ids is None else list(experiment_ids)
    return list(client.search_runs(ids, query, order_by=["attributes.start_time DESC"], max_results=_SEARCHED))


def name_query(name: str) -> str:
    """Return an MLflow filter by name; empty for a name with both quotes, since MLflow's grammar has no escapes."""
    if "'" in name and '"' in name:
        return ""
    quote = '"' if "'" in name else "'"
    return f"attributes.run_name = {quote}{name}{quote}"
