"""Arguments that identify a run."""

from __future__ import annotations

import argparse

from hydratune.tracking.mlflow import Mlflow

RUN_FORMS = "run directory, run name, MLflow run ID or ID prefix, or `latest`"


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """Add the arguments RUN and --uri, whose values `RunLookup` takes."""
    parser.add_argument("run", metavar="RUN", help=RUN_FORMS)
    parser.add_argument("--uri", metavar="URI", help=f"MLflow store of RUN [default: {Mlflow.uri}]")
