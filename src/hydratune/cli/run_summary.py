"""Summary of a run in the terminal."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.cli.label_summary import label_line
from hydratune.training.hardware.batch_size import is_oom
from hydratune.training.results import SOUP, RunResult, split_metrics
from hydratune.utils.console import plain_console
from hydratune.utils.report_page import REPORT_PAGE
from hydratune.utils.short_forms import metric_name, number_text

if TYPE_CHECKING:
    from rich.table import Table

_LITTLE = 2**20  # bytes


def show(result: RunResult, cfg: Mapping[str, Any]) -> None:
    """Print the metrics of a run, its checkpoint, worst labels, report, and files, and the command that opens MLflow.

    Args:
        result: Result of the run.
        cfg: Config of the run.
    """
    console = plain_console(soft_wrap=True)
    console.print(metrics_table(result.metrics))
    if "step" in result.metrics:
        console.print(f"model    {_checkpoint(result.metrics, cfg)}")
    if not split_metrics(result.metrics, "test"):
        console.print(f"test     not measured: {_no_test(cfg['dataset'])}")
    for name, text in details(result.directory):
        console.print(f"{name:<8} {text}")
    console.print(f"files    {os.path.relpath(result.directory)}")
    if result.link:
        console.print(f"MLflow   {result.link}")


def details(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of the lines about the worst labels and the report of a finished run."""
    if labels := label_line(directory / "tables"):
        yield "labels", labels
    if (report := directory / REPORT_PAGE).is_file():
        yield "report", os.path.relpath(report)


def _checkpoint(metrics: Mapping[str, Any], cfg: Mapping[str, Any]) -> str:
    """Return which parameters were saved, and at which step of the training they were measured."""
    if steps := metrics.get(SOUP):
        return f"mean of the checkpoints of steps {', '.join(f'{step:,}' for step in steps)}"
    is_best = cfg["trainer"]["args"].get("load_best_model_at_end")
    kind = f"best checkpoint by validation {metric_name(cfg['objective'])}" if is_best else "last checkpoint"
    return f"{kind} (step {metrics['step']:,})"


def _no_test(dataset: Mapping[str, Any]) -> str:
    """Return why a run has no test metrics, and what to add to the command."""
    options = ["dataset.files.test=FILE"] if "files" in dataset else []
    options += ["dataset.test_size=0.1"] if "test_size" in dataset else []
    return "the data has no test split" + (f"; add {' or '.join(options)}" if options else "")


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Return a table of validation and test metrics, from Trainer's names -> values, with the step of the weights."""
    from rich.table import Table

    columns = {split: values for split in ("eval", "test") if (values := split_metrics(metrics, split))}
    step = metrics.get("step")
    table = Table(
        f"step {step:,}" if isinstance(step, int) else "",
        *({"eval": "validation"}.get(split, split) for split in columns),
    )
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        table.add_row(name, *(number_text(values.get(name)) for values in columns.values()))
    return table


def oom_hint(error: BaseException, directory: Path) -> str | None:
    """Return a fix for an error, if one is known.

    Args:
        error: Error that ended a run or a command.
        directory: Directory for the files. Libraries hide errors of the disk, so the state of its disk is checked.
    """
    if not directory.exists():
        return f"{os.path.relpath(directory)} was removed while the command was running; run the same command again"
    if fault := _disk_fault(error, directory):
        return f"{fault}; earlier checkpoints remain"
    if isinstance(error, Exception) and is_oom(error):
        return (
            "out of memory: lower trainer.args.per_device_train_batch_size and raise gradient_accumulation_steps, "
            "lower per_device_eval_batch_size or task.max_length, or set trainer.args.activation_checkpointing=true"
        )
    return None


def _disk_fault(error: BaseException, directory: Path) -> str | None:
    """Return a description of the fault of a directory's disk; None without a fault."""
    path, disk_stats = os.path.relpath(directory), os.statvfs(directory)
    error_number = error.errno if isinstance(error, OSError) else None
    if disk_stats.f_flag & os.ST_RDONLY or error_number == errno.EROFS:
        return f"the disk of {path} is read-only; make it writable"
    if disk_stats.f_files and not disk_stats.f_favail:
        return f"the disk of {path} has no free inodes; remove files (see df -i)"
    if disk_stats.f_bavail * disk_stats.f_frsize < _LITTLE or error_number in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {path} is full; free some space (see df -h)"
    return None
