"""Facts about a run in a few lines, for its report and for its note in the tracker."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydratune.training.results import split_metrics
from hydratune.utils.short_forms import is_finite, metric_name, number_text, short_name
from hydratune.utils.stats import PROPORTIONS, Scale, wilson_interval

if TYPE_CHECKING:
    from hydratune.tracking.base import DatasetInfo
    from hydratune.training.job import Job
    from hydratune.training.report.inputs import History

_SETTINGS = ("learning_rate", "effective_batch_size", "lr_scheduler_type", "weight_decay", "precision")
_DIGEST = 8  # characters that identify rows for a reader


def result_sentences(
    metrics: Mapping[str, Any], objective: str, is_best: bool, baseline: float | None = None, ties: str = ""
) -> Iterator[str]:
    """Yield sentences with the objective on test and on validation, its interval, the baseline, and the step.

    Args:
        metrics: Metrics of the run under Trainer's names, with `step`.
        objective: Metric that the run optimizes, e.g. `eval_accuracy`.
        is_best: Whether the weights are those of the checkpoint with the best objective, and not the last ones.
        baseline: Accuracy of the most frequent label of the test rows; None if it is not defined.
        ties: How many other evaluations have the best value, as text; see `ties_text`.
    """
    name = objective.removeprefix("eval_")
    step = f"step {metrics['step']:,}, {f'the best checkpoint by this metric{ties}' if is_best else 'the last one'}"
    if isinstance(metrics.get(f"test_{name}"), int | float):
        reference = (
            f"; the most frequent label would reach {number_text(baseline)}" if baseline and name == "accuracy" else ""
        )
        yield f"{_measured('test', name, metrics)}{reference}."
    if isinstance(metrics.get(f"eval_{name}"), int | float):
        yield f"{_measured('validation', name, metrics)} at {step}."


def _measured(split: str, name: str, metrics: Mapping[str, Any]) -> str:
    """Return the value of a metric on a split, with the interval of a proportion of rows."""
    prefix = "test" if split == "test" else "eval"
    value, rows = float(metrics[f"{prefix}_{name}"]), metrics.get(f"{prefix}_samples")
    text = f"{split.capitalize()} {metric_name(name)} {number_text(value)}"
    if name not in PROPORTIONS or not rows or not 0 <= value <= 1:
        return text
    interval = wilson_interval(value, Scale(0, 1, int(rows)))
    assert interval.low is not None and interval.high is not None  # of a proportion
    return f"{text} (95% interval {interval.low:.3f} to {interval.high:.3f}, {rows:,} rows)"


def majority_share(tables: Mapping[str, Any]) -> float | None:
    """Return the share of the most frequent true label among the test rows; None without a confusion matrix."""
    matrix = tables.get("confusion_matrix")
    if matrix is None or not len(matrix):
        return None
    counts = matrix.to_numpy().sum(axis=1)
    return float(counts.max() / counts.sum()) if counts.sum() else None


def data_facts(splits: Iterable[DatasetInfo]) -> Iterator[str]:
    """Yield a phrase for each split: its number of rows and the beginning of its digest."""
    for split in splits:
        rows = "stream" if split.rows is None else f"{split.rows:,} rows"
        yield f"{split.split} {rows} ({split.digest[:_DIGEST]})"


def setting_facts(job: Job, params: Mapping[str, str], splits: Sequence[DatasetInfo]) -> dict[str, str]:
    """Return name -> value of what was trained, and on which data."""
    name = splits[0].name if splits else job.choices.get("dataset")
    rows = ", ".join(data_facts(splits))
    checkpoint = params.get("model.pretrained_model_name_or_path")
    base = job.model_name(checkpoint) if checkpoint else job.choices.get("model")
    adapter = job.choices.get("adapter")
    length = "max_steps" if _is_set(params.get("max_steps")) else "num_train_epochs"
    settings = {name: params.get(name, "null") for name in (*_SETTINGS[:2], length, *_SETTINGS[2:])}
    values = {
        "task": job.choices.get("task"),
        "model": base if adapter in (None, "none", "full") else f"{base}, adapter {adapter}",
        "data": f"{name}: {rows}" if rows else name,
        "settings": ", ".join(f"{short_name(k)} {v}" for k, v in settings.items() if v != "null"),
        "seed": params.get("seed"),
    }
    return {key: str(value) for key, value in values.items() if value}


def _is_set(max_steps: str | None) -> bool:
    return max_steps is not None and max_steps.lstrip("-").isdigit() and int(max_steps) > 0


def cost(metrics: Mapping[str, Any], history: History, device: str | None) -> str:
    """Return the time of training, the speed, the peak memory, and the loads, as far as they were measured."""
    parts = []
    if is_finite(seconds := metrics.get("train_runtime")):
        parts.append(f"{datetime.timedelta(seconds=round(seconds))} of training" + (f" on {device}" if device else ""))
    if is_finite(speed := metrics.get("train_samples_per_second")):
        parts.append(f"{speed:.1f} rows/s")
    if memory := history.get("train/peak_memory_gib"):
        parts.append(f"peak memory {max(memory.values()):.1f} GiB")
    parts += [f"mean load of the {name} {load:.0f}%" for name, load in _loads(history)]
    return ", ".join(parts)


def _loads(history: History) -> Iterator[tuple[str, float]]:
    """Yield CPU, GPU 0, ... with their mean load in percent, as far as they were measured."""
    for name, points in history.items():
        device = name.removeprefix("system/").removesuffix("_utilization_percentage")
        if name == f"system/{device}_utilization_percentage" and points:
            yield device.replace("_", " ").upper(), statistics.fmean(points.values())


def columns(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return split -> metric -> value for the splits that were evaluated."""
    values = {"test": split_metrics(metrics, "test"), "validation": split_metrics(metrics, "eval")}
    return {split: column for split, column in values.items() if column}
