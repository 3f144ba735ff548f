"""Retrained winners: runs below the directory of a sweep, on the rows of the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from hydratune.config.instantiate import build
from hydratune.sweep.stored_plan import stored_sweep
from hydratune.sweep.study import Study
from hydratune.training.job import RowCheck
from hydratune.utils.files import PLAN

BEST = "best"  # the directory of retrained winners, in the directory of the sweep


def row_check(directory: Path) -> RowCheck | None:
    """Return a function that compares the rows of a run with those of its sweep.

    Args:
        directory: Directory of the run.

    Returns:
        The function, or None if the run does not retrain a winner of a sweep.
    """
    parents = directory.absolute().parents
    if len(parents) < 3 or parents[1].name != BEST or not (parents[2] / PLAN).is_file():
        return None

    def check(name: str, digests: Mapping[str, str]) -> None:
        config: Any = HydraConfig.instance().cfg  # config of the run, which composing another config replaces
        hydra = GlobalHydra.instance().hydra
        try:
            plan, sweep_cfg = stored_sweep(parents[2])
            study = Study(plan, build(sweep_cfg.sweep))
        finally:
            HydraConfig.instance().cfg, GlobalHydra.instance().hydra = config, hydra
        study.check_rows(name, digests)

    return check
