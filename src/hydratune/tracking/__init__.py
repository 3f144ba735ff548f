"""Trackers of runs, which a config may name under `tracking`."""

from typing import TYPE_CHECKING

from hydratune.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from hydratune.tracking.base import NoTracking
    from hydratune.tracking.mlflow import Mlflow
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["Mlflow", "NoTracking"]
