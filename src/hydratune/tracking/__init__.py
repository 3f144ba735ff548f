"""Recording runs: what a config names under `tracking`."""

from hydratune.tracking.base import NoTracking
from hydratune.tracking.mlflow import Mlflow

__all__ = ["Mlflow", "NoTracking"]
