"""What a sweep came to, as files: a table, pages and pictures by optuna."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.files import write_text
from hydratune.sweep import board

if TYPE_CHECKING:
    from hydratune.sweep.study import Study

REPORT = "report"


def write(study: Study) -> list[Path]:
    """Writes the report below the sweep's directory and returns its files."""
    folder = study.plan.directory / REPORT
    folder.mkdir(exist_ok=True)
    found = board.rows(study.plan, study.trials())
    lines = [",".join(["trial", "state", *study.plan.objectives])]
    lines += [",".join([str(r.number), r.state, *map(repr, r.values)]) for r in found]
    write_text(folder / "trials.csv", "\n".join(lines) + "\n")
    return [folder / "trials.csv"]
