"""Report of a run, from the objects that it trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.data.streaming import is_stream
from hydratune.training.job import Job
from hydratune.training.report import page
from hydratune.training.report.inputs import ReportInputs, metric_history
from hydratune.training.report.note import command, result_note
from hydratune.training.report.summary import columns, cost, majority_share, result_sentences
from hydratune.training.sample import thumbnail_reader
from hydratune.utils import provenance
from hydratune.utils.short_forms import ties_text

if TYPE_CHECKING:
    import pandas as pd

    from hydratune.tracking.base import RunLog
    from hydratune.training.setup import Setup


def report_inputs(
    cfg: DictConfig,
    job: Job,
    setup: Setup,
    facts: Mapping[str, str],
    metrics: Mapping[str, Any],
    results: tuple[Sequence[Mapping[str, Any]], Mapping[str, pd.DataFrame]],
    loading: str,
    link: str | None,
) -> ReportInputs:
    """Return the contents of a run's report.

    Args:
        cfg: Config of the run.
        job: Job of the run.
        setup: Objects of the run.
        facts: What was trained, and on which data; see `setting_facts`.
        metrics: Metrics under Trainer's names.
        results: Decoded test rows and tables by label.
        loading: Python code that loads the model.
        link: Command that shows the run in MLflow.
    """
    rows, tables = results
    args, history = setup.trainer.args, metric_history(job.directory, setup.trainer.state.log_history)
    values = [entry[cfg.objective] for entry in setup.trainer.state.log_history if cfg.objective in entry]
    ties = ties_text(values, metrics.get(cfg.objective, 0))
    summary = result_sentences(metrics, cfg.objective, has_best(setup.trainer), majority_share(tables), ties)
    return ReportInputs(
        name=str(provenance.redact(str(cfg.name))),
        directory=job.directory,
        summary=[*summary],
        facts={**facts, "cost": cost(metrics, history, args.device.type)},
        columns=columns(metrics),
        objective=str(cfg.objective),
        best_step=int(metrics["step"]),
        history=history,
        tables=tables,
        rows=rows,
        thumbnail=_thumbnails(setup, len(rows)),
        loading=loading,
        command=command(job),
        link=link,
    )


def has_best(trainer: Any) -> bool:
    """Return whether a Trainer ended with the weights of its best checkpoint, and not with the last ones."""
    return bool(trainer.args.load_best_model_at_end and trainer.state.best_global_step is not None)


def _thumbnails(setup: Setup, count: int) -> Callable[[int], bytes] | None:
    """Return the reader of the images of the test rows, if each of them has one prediction."""
    test = setup.data.splits.get("test")
    if not count or is_stream(test) or len(test) != count:
        return None
    return thumbnail_reader(test)


def record(inputs: ReportInputs, run_log: RunLog) -> Path:
    """Write the report, record it, and replace the note of the run by one with its result."""
    run_log.note(result_note(inputs))
    path = page.write(inputs)
    run_log.artifact(path)
    return path
