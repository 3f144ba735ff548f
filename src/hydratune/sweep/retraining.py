"""Retrained trials: runs below the directory of a sweep, on the rows of the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from hydratune.config.instantiate import build
from hydratune.sweep.stored_plan import read_plan, stored_sweep
from hydratune.sweep.study import Study
from hydratune.tracking.run_directories import BEST
from hydratune.training.job import RowCheck
from hydratune.utils.files import PLAN


def trial_of(directory: Path) -> tuple[str, int] | None:
    """Return the name of a sweep, and the number of its trial that a run retrains; None for other runs."""
    number = directory.absolute().parent.name.removeprefix("trial=")
    sweep = _sweep(directory)
    return (read_plan(sweep).name, int(number)) if sweep and number.isdecimal() else None


def row_check(directory: Path) -> RowCheck | None:
    """Return a function that compares the rows of a run with those of its sweep.

    Args:
        directory: Directory of the run.

    Returns:
        The function, or None if the run does not retrain a trial of a sweep.
    """
    if (sweep := _sweep(directory)) is None:
        return None

    def check(name: str, digests: Mapping[str, str]) -> None:
        config: Any = HydraConfig.instance().cfg  # config of the run, which composing another config replaces
        hydra = GlobalHydra.instance().hydra
        try:
            plan, sweep_cfg = stored_sweep(sweep)
            study = Study(plan, build(sweep_cfg.sweep))
        finally:
            HydraConfig.instance().cfg, GlobalHydra.instance().hydra = config, hydra
        study.check_rows(name, digests)

    return check


def _sweep(directory: Path) -> Path | None:
    """Return the directory of the sweep whose trial a run retrains; None for other runs."""
    parents = directory.absolute().parents
    is_retraining = len(parents) > 2 and parents[1].name == BEST and (parents[2] / PLAN).is_file()
    return parents[2] if is_retraining else None
