"""Lineage and conditions of a run whose Trainer is not ours, so that its checkpoints have no manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydratune.training.trainer.checkpoint_files import STATE
from hydratune.utils.files import make_directory, write_json
from hydratune.utils.stored_files import StoredFileError, parse_stored, read_regular, read_stored

LINEAGE = "lineage.json"  # file next to the checkpoints


@dataclass(frozen=True)
class RecordedLineage:
    """Content of `lineage.json`; see `Manifest` for both values."""

    lineage: Mapping[str, str]
    conditions: Mapping[str, str]


def read_lineage(folder: Path) -> RecordedLineage | None:
    """Return the record of a directory of checkpoints; None if it has no readable one."""
    with suppress(OSError, StoredFileError):
        return read_stored(folder / LINEAGE, RecordedLineage)
    return None


def write_lineage(folder: Path, record: RecordedLineage) -> None:
    """Write the record of the checkpoints that a run is about to write."""
    make_directory(folder)
    write_json(folder / LINEAGE, asdict(record))


def forget_scores(checkpoint: Path) -> int | None:
    """Remove all evaluations from the state of a checkpoint, and return the step of the best one, if there was any."""
    state = parse_stored(read_regular(checkpoint / STATE), dict[str, Any])
    best: int | None = state.get("best_global_step")
    forgotten = dict.fromkeys(("best_model_checkpoint", "best_metric", "best_global_step"))
    history = without_evaluations(state.get("log_history", []))
    write_json(checkpoint / STATE, {**state, **forgotten, "log_history": history})
    return best


def without_evaluations(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of `TrainerState.log_history` that are not those of evaluations."""
    return [entry for entry in log_history if not any(name.startswith("eval_") for name in entry)]


def forgotten_text(changed: Sequence[str]) -> str:
    """Return why the best checkpoint so far is skipped, if these conditions of its evaluation have changed."""
    return f"its score is for another {' and '.join(changed)}; only later ones are compared"
