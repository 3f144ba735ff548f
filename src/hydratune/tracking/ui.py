"""`hydratune ui`: MLflow's pages on the store that runs are recorded in."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydratune.errors import ConfigError, Mistake
from hydratune.tracking import delivery, process
from hydratune.tracking.mlflow import Mlflow
from hydratune.tracking.store import absolute_uri, existing
from hydratune.tracking.view import TRAINING, runs_page

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


def main(arguments: Sequence[str]) -> None:
    """Prints the page's address and becomes the MLflow server; it ends with Ctrl-C."""
    parser = argparse.ArgumentParser(prog="hydratune ui", description=__doc__)
    told = "a run's directory, or that of a sweep; left out: the store of this directory"
    parser.add_argument("run", nargs="?", type=Path, help=told)
    parser.add_argument("--uri", help=f"an MLflow store; {Mlflow.uri} if left out")
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args(arguments)
    found = pointers(given.run) if given.run else [{"uri": given.uri or Mlflow.uri}]
    pointer = found[0]
    uri = absolute_uri(pointer["uri"])
    remote = uri.startswith("http")
    base = uri.rstrip("/") if remote else f"http://127.0.0.1:{given.port}"
    stop = "" if remote else "   (Ctrl-C to stop)"
    client = existing(uri, "--uri", "Run `hydratune` first, or name a run's directory.")
    for run in process.heal(client):
        print(f"{run.info.run_name}: its process is gone, marked KILLED", flush=True)
    print(f"MLflow: {base}{_page(client, pointer.get('experiment_id'))}{stop}", flush=True)
    if len(found) > 1:
        if own := delivery.pointer(given.run):
            print(f"the sweep: {base}/#/experiments/{own['experiment_id']}/runs/{own['run_id']}?{TRAINING}", flush=True)
        print(f"the {len(found)} runs side by side: {base}{comparison(found)}", flush=True)
    elif "run_id" in pointer:
        page = f"/#/experiments/{pointer['experiment_id']}/runs/{pointer['run_id']}?{TRAINING}"
        print(f"the run: {base}{page}", flush=True)
    if not remote:
        _become_server(uri, given.port)


def _page(client: MlflowClient, experiment_id: str | None) -> str:
    """The path of an experiment's runs; of the only one, where none is named, or of the list of all."""
    if experiment_id is None:
        found = [one.experiment_id for one in client.search_experiments(max_results=3) if _has_runs(client, one)]
        if len(found) != 1:
            return "/#/experiments"
        (experiment_id,) = found
    return runs_page(client, experiment_id)


def comparison(found: Sequence[Mapping[str, str]]) -> str:
    """The path of the page that draws what was changed and a metric as parallel coordinates."""
    runs = json.dumps([one["run_id"] for one in found])  # first in the address, or MLflow does not read it
    experiments = json.dumps(sorted({one["experiment_id"] for one in found}))
    return f"/#/compare-runs?runs={runs}&experiments={experiments}&{TRAINING}".replace(" ", "")


def _has_runs(client: MlflowClient, experiment: Experiment) -> bool:
    """Whether there is anything to see; MLflow makes a `Default` experiment in every store."""
    return experiment.name != "Default" or bool(client.search_runs([experiment.experiment_id], max_results=1))


def _become_server(uri: str, port: int) -> NoReturn:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # two processes instead of ten
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *server_arguments(uri, port)])  # noqa: S606


def server_arguments(uri: str, port: int) -> list[str]:
    """The arguments of a server on loopback that answers to its own address only."""
    hosts = f"127.0.0.1:{port},localhost:{port}"
    where = ["--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", hosts]
    return ["server", *where, "--workers", "1", "--backend-store-uri", uri]


def pointers(directory: Path) -> list[dict[str, str]]:
    """Where the runs below a directory are, or its own; raises ConfigError where they are in no store."""
    below = [*directory.glob("*/"), *directory.glob("*/seed=*/")]
    for folders in (sorted(below, key=lambda path: (len(str(path)), str(path))), [directory]):
        if found := [pointer for folder in folders if (pointer := delivery.pointer(folder))]:
            return found
    got = f"{str(directory)!r} without {delivery.POINTER}"
    fix = "Name a directory below outputs/ or multirun/ whose runs were tracked."
    raise ConfigError(Mistake("RUN", "a run's directory", got, fix))
