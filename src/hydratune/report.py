"""What a user sees of a run."""

from __future__ import annotations

import os

from hydratune.console import plain_console
from hydratune.hardware.fit import ran_out
from hydratune.training.results import RunResult, split_metrics


def show(result: RunResult) -> None:
    """Prints the metrics of validation and test side by side, where the files are, and how to open MLflow."""
    from rich.table import Table

    columns = {split: found for split in ("eval", "test") if (found := split_metrics(result.metrics, split))}
    table = Table("", *({"eval": "validation"}.get(split, split) for split in columns))
    for name in dict.fromkeys(name for found in columns.values() for name in found):
        table.add_row(name, *(_number(found.get(name)) for found in columns.values()))
    console = plain_console(soft_wrap=True)
    console.print(table)
    console.print(f"files    {os.path.relpath(result.directory)}")
    if result.link:
        console.print(f"MLflow   {result.link}")


def _number(value: object) -> str:
    """A score as the table shows it; a custom metric may be no number, or be measured on one split only."""
    return "" if value is None else f"{value:.4f}" if isinstance(value, int | float) else str(value)


def advice(error: Exception) -> str | None:
    """What to change after an error that says it badly; None for others."""
    if ran_out(error):
        return (
            "out of memory: lower trainer.args.per_device_train_batch_size and raise gradient_accumulation_steps, "
            "lower per_device_eval_batch_size or task.max_length, or set trainer.args.activation_checkpointing=true"
        )
    return None
