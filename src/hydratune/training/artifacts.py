"""Files that a run records about itself, in its directory and in its tracker."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config.dataset_name import data_name
from hydratune.data.cache import arrow_column, source_hash
from hydratune.data.dropped import DROPPED_ROWS, DroppedRows
from hydratune.data.splits import GROUPS, without_groups
from hydratune.data.streaming import is_stream
from hydratune.tasks.base import EvalSplit, Task
from hydratune.tracking.base import DatasetInfo, ModelInfo, RunLog
from hydratune.training.job import Job, resolved_yaml
from hydratune.training.run_params import training_args
from hydratune.training.sample import SAMPLE, write_sample
from hydratune.training.warm_cache import key_of
from hydratune.utils import provenance
from hydratune.utils.errors import optional_record
from hydratune.utils.files import (
    CONFIG,
    GROUP,
    LABELS,
    MODEL,
    OVERRIDES,
    PREDICTIONS,
    ROW,
    SET,
    TRAINING_ARGS,
    write_json,
    write_lines,
    write_text,
)

if TYPE_CHECKING:
    import pandas as pd
    from datasets import DatasetDict
    from transformers import TrainingArguments

    from hydratune.training.eval_sets import Evaluated

log = logging.getLogger(__name__)

ENVIRONMENT, DIFF = "environment.txt", "git.diff"
_DIGEST = 32  # characters; MLflow takes at most 36


def log_run_start(
    cfg: DictConfig, job: Job, splits: Sequence[DatasetInfo], args: TrainingArguments, run_log: RunLog
) -> None:
    """Record the config, the overrides, the training arguments, the environment, uncommitted changes, and the rows.

    Only the config is required, since `predict` and `evaluate` read it. The rest is optional.

    Args:
        cfg: Config of the run.
        job: Job of the run.
        splits: Rows of each split; see `dataset_infos`.
        args: Effective training arguments, after hardware and task have set theirs.
        run_log: Tracker's log of the run.

    Raises:
        ConfigError: If the rows differ from those that the sweep has used so far.
    """
    _write(job, run_log, CONFIG, resolved_yaml(cfg))
    texts: dict[str, Callable[[], str]] = {
        OVERRIDES: lambda: OmegaConf.to_yaml(OmegaConf.create(provenance.redacted_overrides(job.overrides))),
        TRAINING_ARGS: lambda: json.dumps(training_args(args), indent=2) + "\n",
        ENVIRONMENT: provenance.environment,
        DIFF: provenance.git_diff,
    }
    for name, make_text in texts.items():
        with optional_record(name):
            if text := make_text():
                _write(job, run_log, name, text)
    if check_rows := job.trial.check_rows if job.trial else job.check_rows:
        check_rows(
            provenance.text_hash(key_of(cfg.dataset, cfg.get("cv"))), {info.split: info.digest for info in splits}
        )
    for split in splits:
        run_log.dataset(split)


def _write(job: Job, run_log: RunLog, name: str, text: str) -> None:
    write_text(job.directory / name, text)
    run_log.artifact(job.directory / name)


def dataset_infos(cfg: DictConfig, job: Job, splits: DatasetDict) -> list[DatasetInfo]:
    """Return the rows of each split, or an empty list if they cannot be hashed.

    A sweep compares the digests, so its runs raise the error instead.
    """
    with nullcontext() if job.trial or job.check_rows else optional_record("datasets"):
        return list(_splits(cfg, job, splits))
    return []


def dropped_rows(job: Job, dropped: DroppedRows, run_log: RunLog) -> None:
    """List the rows that were dropped before training."""
    with optional_record(DROPPED_ROWS):
        if count := dropped.list_in(job.directory):
            log.warning("data: rows dropped: %s (listed in %s)", f"{count:,}", job.directory / DROPPED_ROWS)
            run_log.artifact(job.directory / DROPPED_ROWS)


def streamed_dropped_rows(job: Job, dropped: DroppedRows, run_log: RunLog) -> None:
    """Add to the list the rows that a stream has dropped by the end of training."""
    with optional_record(DROPPED_ROWS):
        if (count := dropped.merge_epochs()) > len(dropped.before):
            log.warning("data: rows dropped: %s (listed in %s)", f"{count:,}", job.directory / DROPPED_ROWS)
            run_log.artifact(job.directory / DROPPED_ROWS)


def describe_model(cfg: DictConfig, job: Job, task: Task, rows: Any, processor: Any, served: bool) -> ModelInfo:
    """Return the description of the model for a tracker, before any training.

    Args:
        cfg: Config of the run.
        job: Job of the run.
        task: Task of the run.
        rows: Raw rows, for an input example.
        processor: Tokenizer or image processor of the checkpoint.
        served: Whether the folder will hold a whole model, and not only an adapter.
    """
    base = cfg.model.get("pretrained_model_name_or_path") or cfg.model.get("model_type")
    params = {"base_model": base, "task": job.choices.get("task"), "dataset": job.choices.get("dataset")}
    example: Mapping[str, str] = {}
    if served and task.pipeline:
        with optional_record("input example"):
            example = task.example(next(iter(rows)), processor)
    return ModelInfo(
        folder=job.directory / MODEL,
        name="model",
        step=0,
        metrics={},
        pipeline=task.pipeline if served else None,
        example=example,
        params={name: value for name, value in params.items() if value},
    )


def decoded_rows(
    task: Task, sets: Mapping[str, Any], places: Sequence[tuple[str, int]], evaluated: Evaluated
) -> list[dict[str, Any]]:
    """Return the prediction for each row, with its inputs, its position in the files, and the name of its set.

    Args:
        task: Task of the run.
        sets: Set -> its rows of the data.
        places: Split and position of each of these rows in the files, one set after the other; empty if unknown.
        evaluated: Predictions for the rows.
    """
    decoded = []
    for name, rows in sets.items():
        predictions = [*task.predictions_with_labels(evaluated.outputs[name], evaluated.splits[name])]
        set_column = {SET: name} if name else {}
        decoded += [{**row, **set_column} for row in _with_inputs(task, rows, predictions)]
    if len(places) != len(decoded):
        return decoded
    return [{ROW: position, **row} for (_, position), row in zip(places, decoded, strict=True)]


def predictions(
    job: Job, task: Task, decoded: Sequence[dict[str, Any]], test: EvalSplit, run_log: RunLog
) -> Mapping[str, pd.DataFrame]:
    """Write the prediction for each test row, a sample that MLflow shows as a table, and tables by label.

    Returns:
        The tables by label; empty if they cannot be computed.
    """
    if not decoded:
        return {}
    write_lines(job.directory / PREDICTIONS, decoded)
    run_log.artifact(job.directory / PREDICTIONS)
    with optional_record(SAMPLE):
        for path, folder in write_sample(job.directory, decoded, test.rows):
            run_log.artifact(path, folder)
        run_log.tags({"mlflow.loggedArtifacts": json.dumps([{"path": SAMPLE, "type": "table"}])})
    if "id2label" in test.head:
        write_json(job.directory / LABELS, list(test.head["id2label"].values()))
        run_log.artifact(job.directory / LABELS)
    with optional_record("tables"):
        from hydratune.training import tables

        by_label = task.tables(decoded, test.head)
        for path in tables.write(by_label, job.directory / "tables"):
            run_log.artifact(path, "tables")
        return by_label
    return {}


def _splits(cfg: DictConfig, job: Job, splits: DatasetDict) -> Iterator[DatasetInfo]:
    """Yield the description of each split, with a hash of its rows, or of a stream's source."""
    config: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    source = json.dumps(provenance.redact(config))
    name = data_name(str(job.choices.get("dataset") or cfg.name), config)
    for split, rows in without_groups(splits).items():
        columns = {name: str(kind) for name, kind in (rows.features or {}).items()}
        digest = source_hash(rows)
        if is_stream(rows):  # for the Hub, the config has the revision
            digest = provenance.text_hash(f"{split} {source} {digest}")
        count = None if is_stream(rows) else len(rows)
        yield DatasetInfo(split, name, digest[:_DIGEST], source, count, columns)


def _with_inputs(task: Task, rows: Any, decoded: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each prediction after its texts and image file, and before its group, if each row has one prediction."""
    names = [name for name in task.inputs if name in rows.column_names and name in task.texts()]
    groups = [GROUPS] if GROUPS in rows.column_names else []
    images = _image_paths(task, rows) if len(decoded) == len(rows) else {}
    if len(decoded) != len(rows) or not (names or groups or images):
        yield from map(dict, decoded)
        return
    inputs = rows.select_columns([*names, *groups]) if names or groups else ({} for _ in decoded)
    for i, (row, prediction) in enumerate(zip(inputs, decoded, strict=True)):
        group = {GROUP: str(row.pop(GROUPS))} if groups else {}
        yield {**row, **{name: paths[i] for name, paths in images.items()}, **prediction, **group}


def _image_paths(task: Task, rows: Any) -> dict[str, list[str | None]]:
    """Return the paths of the rows' images, as the data has them, by column; None for an image without a path."""
    from datasets import Image

    paths: dict[str, list[str | None]] = {}
    for name in (name for name in task.images() if name in rows.column_names):
        if isinstance(rows.features[name], Image):
            files = arrow_column(rows.cast_column(name, Image(decode=False)), name)
            paths[name] = [file and file["path"] for file in files.to_pylist()]
        else:
            paths[name] = rows[name][:]
    return {name: column_paths for name, column_paths in paths.items() if any(column_paths)}
