"""Out-of-fold predictions of a configuration: the predictions of all its folds in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydratune.sweep.plan import Plan
from hydratune.utils.files import OUT_OF_FOLD, ROW, SPLIT, write_lines
from hydratune.utils.stored_files import read_regular


def merge_folds(plan: Plan, directory: Path) -> Path | None:
    """Write the predictions of all runs of a trial to one file, each row once per seed and repetition.

    Args:
        plan: Plan of the sweep.
        directory: Directory of the trial.

    Returns:
        The file; None without folds, or if the task makes no prediction per row.
    """
    paths = [directory / replicate.folder / OUT_OF_FOLD for replicate in plan.replicates]
    if not plan.folds or not all(path.is_file() for path in paths):
        return None
    rows = [json.loads(line) for path in paths for line in read_regular(path).decode("utf-8").splitlines()]
    write_lines(directory / OUT_OF_FOLD, sorted(rows, key=_order))
    return directory / OUT_OF_FOLD


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the key that sorts rows by seed and repetition, and then as the data has them."""
    return row["seed"], row["repeat"], row.get(SPLIT, ""), row.get(ROW, 0)
