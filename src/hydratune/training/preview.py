"""Facts about a run that a sample of its data and its architecture without weights show; nothing is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.config.instantiate import build
from hydratune.data.label_typos import label_column, label_warning
from hydratune.data.splits import without_groups
from hydratune.data.streaming import head, is_stream, length
from hydratune.models.base import Checkpoint
from hydratune.models.parameters import freeze
from hydratune.tasks.labels import collect_labels
from hydratune.training.estimates import Estimates, Schedule, Workload, estimate, planned_steps
from hydratune.training.setup import cross_validation, load_checkpoint

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from hydratune.tasks.base import EncodedData, Task

SAMPLE = 1000  # rows of a split that are tokenized
_UNLIMITED = 1_000_000  # tokens


@dataclass(frozen=True)
class TokenLengths:
    """Numbers of tokens of the sampled rows.

    Args:
        median: Median, before truncation if `truncated` is set.
        p95: 95th percentile.
        longest: Maximum.
        limit: Maximum tokens of a row that the model gets; None without a limit.
        truncated: Share of rows that are truncated; None if long rows become several rows, or rows are packed.
        inputs_per_row: Rows for the model per row of the data.
    """

    median: int
    p95: int
    longest: int
    limit: int | None
    truncated: float | None
    inputs_per_row: float


@dataclass(frozen=True)
class LabelBalance:
    """Shares of the labels in the training rows.

    Args:
        shares: Label name -> share, the largest first.
        sampled: Whether only the sampled rows were counted.
        warning: Warning about labels that may be typos; empty if there are none.
    """

    shares: Mapping[str, float]
    sampled: bool
    warning: str = ""


@dataclass(frozen=True)
class Preview:
    """Facts about a run.

    Args:
        rows: Split -> number of rows; None for a stream.
        dropped: Number of invalid rows that are left out.
        sampled: Number of training rows in the sample.
        tokens: Token lengths; None for images.
        labels: Label balance; None for a task without labels.
        model: Class of the model.
        parameters: Number of its parameters, with the adapter.
        trainable: Number of those that are trained.
        schedule: Batch size and steps.
        estimates: Memory and time.
    """

    rows: Mapping[str, int | None]
    dropped: int
    sampled: int
    tokens: TokenLengths | None
    labels: LabelBalance | None
    model: str
    parameters: int
    trainable: int
    schedule: Schedule
    estimates: Estimates


def preview(cfg: DictConfig, loaded: Checkpoint | None) -> Preview:
    """Load the data, tokenize a sample, and build the model without weights.

    Args:
        cfg: Config that passed `preflight`.
        loaded: Config and processor that `preflight` has loaded.

    Raises:
        ConfigError: For errors that only the data can show.
    """
    source, task = build(cfg.dataset), build(cfg.task)
    _, config, processor, _ = loaded = loaded or load_checkpoint(cfg, task, build(cfg.model))
    task.check_processor(processor)
    limit = task.max_tokens(config, processor)
    splits, sample, encoded = encoded_sample(cfg, source, task, loaded)
    prepare = partial(task.prepare, sample, processor, label_names=source.label_names)
    sampled, inputs = len(sample["train"]), encoded.splits["train"]
    tokens = _token_lengths(task, processor, limit, inputs, sampled, lambda: prepare(max_length=_UNLIMITED))
    workload = _workload(cfg, task, config, processor, encoded)
    n_rows = length(splits["train"])
    schedule = planned_steps(cfg, task, None if n_rows is None else n_rows * len(inputs) / sampled)
    weights = [(parameter.numel(), parameter.requires_grad) for parameter in workload.network.parameters()]
    balance = _label_balance(splits["train"], task, source.label_names, encoded)
    return Preview(
        {split: length(splits[split]) for split in splits},
        len(source.dropped.before),
        sampled,
        tokens,
        balance and replace(balance, warning=label_warning(splits, task.columns)),
        type(workload.module).__name__,
        sum(count for count, _ in weights),
        sum(count for count, trains in weights if trains),
        schedule,
        estimate(workload, schedule),
    )


def encoded_sample(
    cfg: DictConfig, source: Any, task: Task, loaded: Checkpoint
) -> tuple[DatasetDict, DatasetDict, EncodedData]:
    """Return the rows of each split, a sample of them, and the inputs of the model for the sample.

    Raises:
        ConfigError: For errors that only the rows can show.
    """
    splits = source.load(task, cross_validation(cfg))
    sample = without_groups(_sample(splits, task))
    limit = task.max_tokens(loaded.config, loaded.processor)
    encoded = task.prepare(sample, loaded.processor, limit, source.label_names)
    task.check_head(encoded.head, cfg.objective, source.validation_sets())
    return splits, sample, encoded


def _sample(splits: DatasetDict, task: Task) -> DatasetDict:
    """Return up to `SAMPLE` rows of each split, evenly spaced, and the first training row of each label."""
    samples = {}
    for split, rows in splits.items():
        if is_stream(rows):
            samples[split] = head(rows)
        elif len(rows) <= SAMPLE:
            samples[split] = rows
        elif task.keeps_order():
            samples[split] = rows.select(range(SAMPLE))
        else:
            positions = {i * len(rows) // SAMPLE for i in range(SAMPLE)}
            positions |= _first_of_each_label(rows, task) if split == "train" else set()
            samples[split] = rows.select(sorted(positions))
    return type(splits)(samples)


def _first_of_each_label(rows: Dataset, task: Task) -> set[int]:
    if (column := label_column(rows, task.columns)) is None:
        return set()
    first: dict[Any, int] = {}
    for position, value in enumerate(rows[column][:]):
        for label in value if isinstance(value, list) else [value]:
            first.setdefault(label, position)
    return {*first.values()}


def _token_lengths(
    task: Task,
    processor: Any,
    limit: int | None,
    inputs: Dataset,
    sampled: int,
    prepare_untruncated: Callable[[], EncodedData],
) -> TokenLengths | None:
    """Return the token lengths of a sample; two encodings of it show which rows are truncated."""
    from hydratune.training.trainer.sampler import lengths

    names = getattr(processor, "model_input_names", ["input_ids"]) if task.processor == "tokenizer" else []
    seen = lengths(inputs, names[0]) if names else None
    if not seen:
        return None
    full = lengths(prepare_untruncated().splits["train"], names[0]) or []
    are_rows = len(full) == len(seen) == sampled
    truncated = sum(long > short for long, short in zip(full, seen, strict=True)) / sampled if are_rows else None
    shown = full if are_rows else seen
    middle, p95 = (percentile(shown, percent) for percent in (50, 95))
    return TokenLengths(middle, p95, max(shown), limit, truncated, len(seen) / sampled)


def percentile(values: Sequence[int], percent: int) -> int:
    """Return the smallest value that is not below `percent` percent of the values."""
    return sorted(values)[max(-(-len(values) * percent // 100) - 1, 0)]


def _label_balance(rows: Any, task: Task, names: Sequence[str] | None, encoded: EncodedData) -> LabelBalance | None:
    """Count the labels of all rows if each has one, else those of the sample, as the model gets them."""
    if "id2label" not in encoded.head:
        return None
    is_single = any(column.kind == "label" for column in task.columns.values()) and not is_stream(rows)
    if is_single:
        column = str(label_column(rows, task.columns))
        labels = collect_labels({"train": rows}, names, column)
        counts = Counter(labels.name(value) for value in rows[column][:])
    else:
        counts = Counter(
            encoded.head["id2label"][label]
            for value in encoded.splits["train"]["labels"][:]
            for label in (value if isinstance(value, list) else [value])
            if label in encoded.head["id2label"]
        )
    total = sum(counts.values())
    shares = {name: counts[name] / max(total, 1) for name in encoded.head["id2label"].values()}
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    is_sampled = not is_single and (is_stream(rows) or len(rows) > SAMPLE)
    return LabelBalance(dict(ordered), is_sampled)


def _workload(cfg: DictConfig, task: Task, config: Any, processor: Any, encoded: EncodedData) -> Workload:
    """Build the model with the head of the data and with its adapter, without weights."""
    model, adapter = build(cfg.model), build(cfg.adapter)
    for name, value in encoded.head.items():
        setattr(config, name, value)
    outline = model.outline(task.auto_model, config)
    if model.freeze:
        freeze(outline.module, model.freeze)
    network = adapter.apply(outline)
    dtype = None if model.dtype == "auto" else model.torch_dtype()
    is_quantized = adapter.quantization() is not None
    return Workload(network, outline.module, dtype, is_quantized, task.collator(processor), encoded.splits["train"])
