"""What a user sees of a run."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydratune.run import RunResult

_BOOKKEEPING = ("runtime", "per_second", "model_preparation_time", "flos")


def quieten() -> None:
    """Sends transformers' and datasets' messages to the run's log, and drops bars that say nothing of the run."""
    import datasets
    import transformers

    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    transformers.utils.logging.disable_progress_bar()  # of loading and saving weights; Trainer's bar stays
    datasets.utils.logging.enable_propagation()
    logging.getLogger("datasets.packaged_modules").setLevel(logging.CRITICAL)  # a broken file is told by us, once


def show(result: RunResult) -> None:
    """Prints the metrics of validation and test side by side, where the files are, and how to open MLflow."""
    from rich.console import Console
    from rich.table import Table

    columns = {
        split: {
            name.removeprefix(f"{split}_"): value
            for name, value in result.metrics.items()
            if name.startswith(f"{split}_") and not name.endswith(_BOOKKEEPING)
        }
        for split in ("eval", "test")
    }
    columns = {split: scores for split, scores in columns.items() if scores}
    table = Table("", *({"eval": "validation"}.get(split, split) for split in columns))
    for name in columns["eval"]:
        table.add_row(name, *(f"{scores[name]:.4f}" for scores in columns.values()))
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"files    {os.path.relpath(result.directory)}", markup=False)
    if result.link:
        console.print(f"MLflow   {result.link}", markup=False)
