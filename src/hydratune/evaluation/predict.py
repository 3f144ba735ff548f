"""Predictions of a finished run for unlabeled data."""

from __future__ import annotations

import inspect
import json
import logging
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from hydratune.data.columns import BadRow, unknown_columns
from hydratune.data.eval_sets import flat_sets
from hydratune.data.local import LocalFiles
from hydratune.data.unusable_rows import left_out
from hydratune.evaluation.load_run import (
    LoadedRun,
    build_task,
    change_config,
    load,
    load_processor,
    open_run,
    overriding,
)
from hydratune.evaluation.writer import check_output, writing
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.decisions import abstain
from hydratune.utils.console import plain_console
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, similar
from hydratune.utils.file_suffixes import suffix
from hydratune.utils.files import ROW
from hydratune.utils.logs import quiet_libraries, shows_bars

if TYPE_CHECKING:
    from datasets import Dataset

    from hydratune.tasks.base import Task

log = logging.getLogger(__name__)

CHUNK = 1000  # minimum number of rows that are held in memory
# Keys of a run's config that overrides may change: parsing of the file, hardware, and the length of generated text.
_PARSING = (
    "delimiter",
    "header",
    "column_names",
    "comment",
    "decimal",
    "ignore_extra_cells",
    "list_separator",
    "max_splits",
    "quoting",
    "escapechar",
    "skip_initial_space",
)
CHANGES = (
    "dataset.columns",
    "dataset.encoding",
    "dataset.format",
    *(f"dataset.{name}" for name in _PARSING),
    "dataset.splits.train",
    "hardware",
    "task.max_new_tokens",
)


class PredictRequest(NamedTuple):
    """Arguments of `hydratune predict`.

    Args:
        run: A run directory or an MLflow run id.
        file: File with the rows.
        overrides: Overrides of the keys in `CHANGES`.
        out: Output file, or None for stdout.
        batch_size: Rows per batch; None for the run's batch size.
        max_samples: Maximum number of rows; None for all.
        skip_bad_rows: Leave out bad rows; otherwise they are an error.
        columns: Columns of the file to write next to the predictions; None for all except images and binary data.
        uri: MLflow store of the run that the user typed; None for the default.
        min_confidence: Probability below which a prediction is null.
    """

    run: str
    file: Path
    overrides: Sequence[str] = ()
    out: Path | None = None
    batch_size: int | None = None
    max_samples: int | None = None
    skip_bad_rows: bool = False
    columns: Sequence[str] | None = None
    uri: str | None = None
    min_confidence: float | None = None


def predict(asked: PredictRequest) -> None:
    """Write one row for each row of the file: its number from 0, its columns, and the prediction.

    Raises:
        ConfigError: If an argument is invalid, or if bad rows may not be skipped. Then nothing is written.
    """
    run = open_run(asked.run, asked.uri)
    cfg = _changed(run.cfg, asked)
    task = build_task(cfg)
    if asked.min_confidence is not None and not task.has_confidence:
        text = f"{KEY} is not possible: {type(task).__name__} has no probability of a prediction"
        raise ConfigError(Problem("--min-confidence", text, f"leave {KEY} out"))
    source = _source(cfg, asked, task)
    quiet_libraries()
    processor = load_processor(run, task)
    data = _rows(task, source, asked)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(replace(run, cfg=cfg), task, processor, Path(folder), asked.batch_size)
    predictor = Predictor(task, loaded, run.tuned(task))
    with writing(asked.out) as write:
        for numbers in _chunks(data, predictor.chunk):
            predictions = predictor.rows(data.inputs.select(numbers))
            if (minimum := asked.min_confidence) is not None:
                predictions = (abstain(prediction, minimum) for prediction in predictions)
            write([*_records(data, numbers, predictions)])
    if predictor.cut:
        log.warning("data: %s inputs were truncated to the maximum length of the model", f"{predictor.cut:,}")
    if asked.out:
        log.info("predictions: %s rows in %s", f"{len(data.inputs) - len(data.bad):,}", asked.out)


# --- arguments -------------------------------------------------------------------------------------------


def _changed(cfg: DictConfig, request: PredictRequest) -> DictConfig:
    """Return the run's config with the overrides; raise ConfigError for all invalid arguments together."""
    problems = [*check_output(request.out, request.file)]
    for name in ("batch_size", "max_samples"):
        value = getattr(request, name)
        if value is not None and value < 1:
            problems.append(invalid_value(f"--{name.replace('_', '-')}", "at least 1", value))
    if request.min_confidence is not None and not 0 <= request.min_confidence <= 1:
        problems.append(invalid_value("--min-confidence", "a probability from 0 to 1", request.min_confidence))
    with overriding(request.overrides) as override_request:
        cfg, unchangeable = change_config(cfg, override_request, CHANGES)
    problems += unchangeable
    if problems:
        raise ConfigError(*problems)
    return cfg


def _source(cfg: DictConfig, request: PredictRequest, task: Task) -> LocalFiles:
    """Return the file as a dataset with the run's column names, without the labels."""
    node = cfg.dataset
    column_names: Any = OmegaConf.to_container(node.get("columns") or OmegaConf.create({}))
    if unknown := [*unknown_columns(column_names, task.columns)]:
        raise ConfigError(*(problem.under("dataset") for problem in unknown))
    input_columns = task.input_columns()
    source = LocalFiles(
        files={"train": str(request.file)},
        columns={column: file_column for column, file_column in column_names.items() if column in input_columns},
        encoding=node.get("encoding") or "utf-8",
        splits={"train": node.splits.train} if _is_typed("splits.train", request) else {},
        format=node.format if _is_typed("format", request) or (_is_like(node, request) and "format" in node) else None,
        **{
            name: node[name]
            for name in _PARSING
            if name in node and (_is_typed(name, request) or _is_like(node, request))
        },
    )
    problems = [*source.check()] or [*source.check_columns(input_columns)]
    if problems:
        errors = [
            replace(problem.under("dataset"), key="FILE") if problem.key == "files.train" else problem.under("dataset")
            for problem in problems
        ]
        raise ConfigError(*errors)
    return source


def _is_typed(name: str, request: PredictRequest) -> bool:
    """Return whether a key of the dataset is on the command line."""
    return any(override.lstrip("+").startswith(f"dataset.{name}=") for override in request.overrides)


def _is_like(node: DictConfig, request: PredictRequest) -> bool:
    """Return whether the file has a suffix of the run's files, so that it is read with the same options."""
    files: Any = OmegaConf.to_container(node.get("files") or OmegaConf.create({}))
    paths = [
        path for value in flat_sets(files).values() for path in (value if isinstance(value, list) else [value]) if path
    ]
    return suffix(request.file) != "" and suffix(request.file) in {suffix(Path(path)) for path in paths}


# --- rows ------------------------------------------------------------------------------------------------


class InputRows(NamedTuple):
    """The rows of the file.

    Args:
        inputs: Rows under the task's column names.
        columns: The same rows with the columns to write, under the file's column names.
        bad: Numbers of the bad rows, which have no prediction.
        number: Number of a row -> its position in the file, from 0.
    """

    inputs: Dataset
    columns: Dataset
    bad: set[int]
    number: Callable[[int], int]


def _rows(task: Task, source: LocalFiles, request: PredictRequest) -> InputRows:
    """Read the file, and find the bad rows; raise ConfigError if they must not be skipped."""
    input_columns = task.input_columns()
    split, raw = source.read_one(input_columns)
    rows = raw.splits[split]
    rows = rows.select(range(min(request.max_samples or len(rows), len(rows))))
    inputs = source.under_task_names(type(raw.splits)({split: rows}), input_columns)[split]
    bad_rows = raw.located(_bad_rows(task, inputs))
    bad_lines = raw.bad if request.max_samples is None else ()  # with a maximum, lines may be after the last row
    log.info("data: %s rows of %s", f"{len(rows):,}", request.file)
    bad = left_out(len(rows), [*bad_lines, *bad_rows], "FILE", None if request.skip_bad_rows else "--on-bad-rows skip")
    columns = rows.select_columns(_written(rows, request))
    if request.out and request.out.suffix == ".parquet":
        columns = _with_json_text(columns)
    return InputRows(inputs, columns, bad, partial(raw.number, split))


def _with_json_text(rows: Dataset) -> Dataset:
    """Convert columns with values of several types, which Parquet does not support, to JSON text."""
    from datasets import Features, Json, Value

    mixed = [name for name, feature in rows.features.items() if isinstance(feature, Json)]
    if not mixed:
        return rows
    features = Features({**rows.features, **dict.fromkeys(mixed, Value("string"))})
    return rows.map(lambda row: {name: json.dumps(row[name], ensure_ascii=False) for name in mixed}, features=features)


def _written(rows: Dataset, request: PredictRequest) -> list[str]:
    """Return the columns of the file to write: those of `--columns`, else all except images and binary data."""
    if request.columns is None:
        return [name for name, feature in rows.features.items() if _is_plain(name, feature, rows.features)]
    if unknown := [name for name in request.columns if name not in rows.column_names]:
        text = f"{request.file} has no {'columns' if len(unknown) > 1 else 'column'} {', '.join(map(repr, unknown))}"
        raise ConfigError(Problem("--columns", text, similar("column", unknown[0], rows.column_names)))
    return [*request.columns]


def _is_plain(name: str, feature: Any, features: Mapping[str, Any]) -> bool:
    """Return whether a column is a column of the file itself, and JSON can represent its values."""
    from datasets import Json

    from_object = "." in name and name.partition(".")[0] in features  # a field that was read for the task
    is_media = hasattr(feature, "decode_example") and not isinstance(feature, Json)
    return not from_object and not is_media and "binary" not in str(feature)


def _records(
    data: InputRows, numbers: Sequence[int], predictions: Iterator[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows with their predictions.

    Raises:
        ConfigError: If a column of the file has a name that the output uses.
    """
    output_rows = data.columns.select(numbers) if data.columns.column_names else ({} for _ in numbers)
    for i, columns, prediction in zip(numbers, output_rows, predictions, strict=True):
        identical = {name for name in prediction if name in columns and columns[name] == prediction[name]}
        if conflicting := [name for name in (ROW, *prediction) if name in columns and name not in identical]:
            others = ",".join(name for name in columns if name not in conflicting)
            text = f"the output already has a column with the name of this input column: {', '.join(conflicting)}"
            hint = f"rename the column, or select the columns to write: --columns={shlex.quote(others)}"
            raise ConfigError(Problem("FILE", text, hint))
        yield {ROW: data.number(i), **columns, **prediction}


def _bad_rows(task: Task, rows: Dataset) -> Iterator[BadRow]:
    """Yield the rows that the task cannot predict, reading the inputs in chunks."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows.select(range(start, min(start + CHUNK, len(rows))))
        for bad_row in task.bad_inputs(chunk):
            yield replace(bad_row, row=(bad_row.row or 0) + start)


def _chunks(data: InputRows, size: int) -> Iterator[list[int]]:
    """Yield the numbers of the valid rows in chunks, with a progress bar on a terminal."""
    from rich.progress import Progress

    count = len(data.inputs)
    with Progress(console=plain_console(stderr=True), disable=not shows_bars()) as progress:
        task_id = progress.add_task("predicting", total=count - len(data.bad))
        for start in range(0, count, size):
            numbers = [i for i in range(start, min(start + size, count)) if i not in data.bad]
            if numbers:
                yield numbers
            progress.advance(task_id, len(numbers))


# --- predictions -----------------------------------------------------------------------------------------


@dataclass
class Predictor:
    """Inference with the model of a run.

    Args:
        task: Task of the run.
        loaded: Model and processor of the run.
        tuned: Values that were tuned on validation.
        cut: Number of inputs that were truncated so far.
    """

    task: Task
    loaded: LoadedRun
    tuned: Mapping[str, float] = field(default_factory=dict)
    cut: int = 0

    @property
    def chunk(self) -> int:
        """Number of rows per chunk: whole batches, at least `CHUNK` rows."""
        size = self.loaded.args.eval_batch_size
        return -(-CHUNK // size) * size

    def rows(self, rows: Dataset) -> Iterator[dict[str, Any]]:
        """Yield the prediction for each row."""
        inputs = self.task.prepare_inputs(rows, self.loaded.processor, self.loaded.longest)
        if "truncated" in inputs.column_names:
            self.cut += sum(inputs["truncated"])
        yield from map(
            dict, self.task.format_predictions(self._responses(inputs), EvalSplit(inputs, self.loaded.head, self.tuned))
        )

    def _responses(self, inputs: Dataset) -> Any:
        """Return the results of `Task.predict_batch` in the order of the inputs.

        Batches hold inputs of similar length, longest first, so that batches have little padding.
        """
        import torch

        model, args = self.loaded.network, self.loaded.args
        collate = self.task.inputs_collator(self.loaded.processor)
        order = self._by_length(inputs)
        inputs = inputs.select_columns(self._taken(inputs))
        dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        outputs = []
        for start in range(0, len(order), args.eval_batch_size):
            batch = collate([inputs[i] for i in order[start : start + args.eval_batch_size]])
            device_batch = {name: value.to(args.device) for name, value in batch.items()}
            with torch.inference_mode(), torch.autocast(args.device.type, dtype=dtype, enabled=dtype is not None):
                outputs.append(self.task.predict_batch(model, device_batch))
        return _in_order(_joined(outputs), order)

    def _by_length(self, inputs: Dataset) -> list[int]:
        """Return the row numbers from the longest input to the shortest; in the original order for images."""
        from hydratune.training.trainer.sampler import lengths

        names = getattr(self.loaded.processor, "model_input_names", ["input_ids"])
        token_counts = lengths(inputs, names[0])
        numbers = range(len(inputs))
        return [*numbers] if token_counts is None else sorted(numbers, key=lambda i: -token_counts[i])

    def _taken(self, inputs: Dataset) -> list[str]:
        """Return the columns that the model's `forward` accepts, or all if the task keeps unused columns."""
        if not self.loaded.args.remove_unused_columns:
            return list(inputs.column_names)
        accepted = inspect.signature(self.loaded.network.forward).parameters
        return [name for name in inputs.column_names if name in accepted]


def _joined(batches: Sequence[Any]) -> Any:
    """Return the rows of all batches, which may differ in width; a tuple or dict of lists if batches are such."""
    if isinstance(batches[0], dict):
        return {name: _joined([batch[name] for batch in batches]) for name in batches[0]}
    if isinstance(batches[0], tuple):
        return tuple(_joined(column) for column in zip(*batches, strict=True))
    return [row for batch in batches for row in (batch.float() if batch.is_floating_point() else batch).cpu().numpy()]


def _in_order(values: Any, order: Sequence[int]) -> Any:
    """Undo a reordering, where `values[k]` belongs to row `order[k]`; a tuple or dict holds several such lists."""
    if isinstance(values, dict):
        return {name: _in_order(column, order) for name, column in values.items()}
    if isinstance(values, tuple):
        return tuple(_in_order(column, order) for column in values)
    ordered: list[Any] = [None] * len(order)
    for position, value in zip(order, values, strict=True):
        ordered[position] = value
    return ordered
