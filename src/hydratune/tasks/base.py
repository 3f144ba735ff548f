"""Base class of tasks: the head, preprocessing, collator, and metrics that belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from hydratune.config.configurable import Configurable
from hydratune.data.columns import BadRow, Column, bad_values, wrong_type
from hydratune.data.label_names import LabelNames
from hydratune.models.base import Network, max_positions
from hydratune.tasks.labels import TRUE_NAMES
from hydratune.tasks.losses import Loss, negative_weights
from hydratune.tasks.metrics.metric import LOSS, PREDICTIONS, REFERENCES, RESERVED, Metric, is_valid_name
from hydratune.tasks.metrics.over_sets import lookup, with_sets
from hydratune.tasks.tokenize import Batch, encode_texts
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, similar

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction, PretrainedConfig, PreTrainedModel, TrainerCallback

EXAMPLE = 200  # characters of an example, which fit any model
# Class of a head -> hint if a model cannot have it.
_OTHER_MODEL = {
    "AutoModelForCausalLM": "choose a decoder-only model, e.g. model=gpt_tiny",
    "AutoModelForMaskedLM": "for a decoder-only model, set task=causal_lm",
    "AutoModelForSeq2SeqLM": "choose an encoder-decoder model, e.g. model=minilm_seq2seq",
}


@dataclass(frozen=True)
class EncodedData:
    """Data in the form that the model takes.

    Args:
        splits: Rows that Trainer collates. Trainer drops the columns that the model does not take; they are for
            `compute_metrics` and `predictions_with_labels`.
        head: Arguments of the model's config that depend on the data, e.g. `num_labels`.
        notes: Sentences for the user, e.g. the number of truncated texts.
        loss: Loss that the config chooses; None for that of the model.
    """

    splits: DatasetDict
    head: Mapping[str, Any]
    notes: Sequence[str] = ()
    loss: Loss | None = None


@dataclass(frozen=True)
class EvalSplit:
    """Data that predictions were made for.

    Args:
        rows: One split of `EncodedData`, in the order of the predictions.
        head: Head of `EncodedData`.
        tuned: Values that were tuned on validation, by the names in `Task.tuned_metrics`; empty on validation itself.
    """

    rows: Dataset
    head: Mapping[str, Any]
    tuned: Mapping[str, float] = field(default_factory=dict)

    def true_names(self) -> list[Any] | None:
        """Return the names of the true labels of each row, or None if the head has all of them."""
        if self.rows is None or TRUE_NAMES not in self.rows.column_names:
            return None
        names: list[Any] = self.rows[TRUE_NAMES][:]
        return names


@dataclass(kw_only=True)
class Task(Configurable, ABC):
    """Base class of tasks, with one subclass and one YAML file per task (see docs/adding_a_task.md).

    Args:
        metrics: Names of metrics in `known_metrics` to compute; null for those that fit the data, where allowed.
        extra_metrics: Name -> `hydratune.tasks.Metric`, computed in addition (see docs/adding_a_task.md).
        objective: Metric that selects the best checkpoint: `eval_` and its name, or `eval_loss`.
        max_length: Maximum tokens of a text, which is truncated; null for as many as the model has positions.
    """

    auto_model: ClassVar[str]  # class of transformers that builds the model with its head
    processor: ClassVar[str] = "tokenizer"  # converts a row to model inputs; or `image_processor`
    columns: ClassVar[Mapping[str, Column]]  # columns that the task reads
    inputs: ClassVar[tuple[str, ...]] = ("text", "text_pair")  # rows that are equal in these columns are duplicates
    known_metrics: ClassVar[tuple[Metric, ...]]
    metric_inputs: ClassVar[tuple[str, ...]] = (PREDICTIONS, REFERENCES)  # possible inputs of `extra_metrics`
    shared_input: ClassVar[str] = ""  # input that several rows share, e.g. the context of questions
    has_confidence: ClassVar[bool] = False  # whether predictions have probabilities, so that `predict` can abstain
    streams: ClassVar[bool] = False  # whether `prepare` takes training rows without a length
    needs_fast: ClassVar[bool] = False  # whether the tokenizer must return the place of each token in the text
    pipeline: ClassVar[str | None] = None  # task of transformers.pipeline that serves the model
    tuned_metrics: ClassVar[tuple[str, ...]] = ()  # metrics that are values tuned on validation and used on test
    needs_names: ClassVar[bool] = False  # whether `metrics_from_predictions` needs the label names, ordered by ID
    no_predictions_reason: ClassVar[str] = ""  # reason why `predictions_with_labels` never yields rows, if so

    metrics: list[str] | None
    objective: str = "eval_loss"
    extra_metrics: dict[str, Any] = field(default_factory=dict)
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Name each extra metric by its key."""
        extra = self.extra_metrics.items()
        self.extra_metrics = {n: replace(m, name=n) if isinstance(m, Metric) else m for n, m in extra}

    def higher_is_better(self, objective: str) -> bool:
        """Return whether an objective is better if it is higher; raise ConfigError if the task has no such metric."""
        metric = self.metric(objective.removeprefix("eval_"))
        if metric is None:
            raise ConfigError(_wrong_objective(f"unknown objective {objective!r}", objective, self.objectives()))
        return metric.higher_is_better

    def metric_names(self, head: Mapping[str, Any] | None = None) -> list[str]:  # noqa: ARG002 (others need it)
        """Return the metrics to compute; all that may be computed without a `head`, before the data is read."""
        return [*(self.metrics or ())]

    def objectives(self, head: Mapping[str, Any] | None = None, sets: Sequence[str] = ()) -> list[str]:
        """Return the names that `objective` may have, see `metric_names`; `sets` are names of validation sets."""
        names = [LOSS.name, *self.metric_names(head), *self.extra_metrics]
        return [f"eval_{name}" for name in with_sets(names, sets, self.definitions())]

    def check_head(self, head: Mapping[str, Any], objective: str | None = None, sets: Sequence[str] = ()) -> None:
        """Raise ConfigError if the metrics or the objective are not defined for the data's head."""
        if objective is not None and objective not in (options := self.objectives(head, sets)):
            is_of_others = objective in self.objectives(None, sets) and "num_labels" in head
            reason = f" with {head['num_labels']} labels" if is_of_others else ""
            raise ConfigError(_wrong_objective(f"{KEY}={objective} is not computed{reason}", objective, options))

    def definitions(self) -> dict[str, Metric]:
        """Return name -> definition of every metric that the task can report."""
        return {metric.name: metric for metric in (LOSS, *self.known_metrics, *self.extra_metrics.values())}

    def metric(self, name: str) -> Metric | None:
        """Return the definition of a metric, see `lookup`; None for other numbers."""
        return lookup(name, self.definitions())

    def row_metrics(self, names: Sequence[str] = ()) -> list[str]:  # noqa: ARG002 (others need it)
        """Return the metrics that `metrics_from_predictions` can compute; `names` are label names."""
        metrics = self.definitions().values()
        return [metric.name for metric in metrics if metric is not LOSS and not metric.needs_all_probabilities]

    def needed_inputs(self) -> frozenset[str]:
        """Return the names of the inputs that the metrics of the config take."""
        metrics = map(self.definitions().__getitem__, (*self.metric_names(), *self.extra_metrics))
        return frozenset(source for metric in metrics for source in metric.inputs.values())

    def with_metric(self, name: str) -> Self:
        """Return this task with a single metric."""
        if name in self.extra_metrics:
            return replace(self, metrics=[], extra_metrics={name: self.extra_metrics[name]})
        return replace(self, metrics=[name], extra_metrics={})

    def scores(self, head: Mapping[str, Any] | None = None, **inputs: Any) -> dict[str, float]:
        """Return name -> value of all metrics, for a task whose metrics all have a function."""
        values = {name: self.score(self.definitions()[name], inputs) for name in self.metric_names(head)}
        return values | self.extra_scores(**inputs)

    def score(self, metric: Metric, inputs: Mapping[str, Any]) -> float:
        """Return the value of a metric; raise ConfigError if decoded rows do not have the probabilities for it."""
        if {*metric.inputs.values()} <= {*inputs}:
            return metric.compute(inputs)
        raise ConfigError(Problem("task.metrics", f"{metric.name} needs predictions with all probabilities"))

    def extra_scores(self, **inputs: Any) -> dict[str, float]:
        """Return name -> value of the extra metrics whose inputs are available."""
        metrics = self.extra_metrics.items()
        return {name: metric.compute(inputs) for name, metric in metrics if {*metric.inputs.values()} <= {*inputs}}

    def keeps_order(self) -> bool:
        """Return whether consecutive rows belong together, so that a split or a limit must not separate them."""
        return False

    def input_columns(self) -> dict[str, Column]:
        """Return the columns that predictions are made from: all columns except targets."""
        return {name: column for name, column in self.columns.items() if not column.target}

    def texts(self) -> list[str]:
        """Return the names of the columns of texts, or of lists of texts."""
        return [name for name, column in self.columns.items() if column.kind in ("text", "texts")]

    def images(self) -> list[str]:
        """Return the names of the columns of images or of their paths."""
        return []

    def example(self, row: Mapping[str, Any], processor: Any) -> dict[str, str]:  # noqa: ARG002 (others need it)
        """Return an input of `pipeline` from a raw row: column -> text of at most 200 characters."""
        texts = {name: row.get(name) for name in self.inputs}
        return {name: text[:EXAMPLE] for name, text in texts.items() if isinstance(text, str) and text}

    def check(self) -> Iterator[Problem]:
        """Yield the errors that can be detected before heavy imports."""
        names = [metric.name for metric in self.known_metrics]
        for name in self.metrics or ():
            if name not in names:
                yield Problem("metrics", f"unknown metric {name!r} in {KEY}", similar("metric", name, names))
        for name, metric in self.extra_metrics.items():
            yield from (problem.under(f"extra_metrics.{name}") for problem in self._check_extra(name, metric, names))
        if self.max_length is not None and self.max_length < 1:
            yield invalid_value("max_length", "null or an integer of at least 1", self.max_length)

    def _check_extra(self, name: str, metric: Any, reserved_names: Sequence[str]) -> Iterator[Problem]:
        """Yield the errors of one of `extra_metrics`, with keys relative to its own key."""
        if not self.metric_inputs:
            yield Problem("", f"{KEY} needs a task with one prediction per row", f"remove {KEY}")
        elif name in (*reserved_names, *RESERVED):
            yield Problem("", f"{KEY} has the name of a built-in metric")
        elif not is_valid_name(name):
            hint = "start the name with a letter, and use only letters, digits, and _"
            yield Problem("", f"{KEY}: {name!r} is not a valid name of a metric", hint)
        elif not isinstance(metric, Metric):
            function = "{_target_: my_package.my_metric, _partial_: true}"
            hint = f"set it to {{_target_: hydratune.tasks.Metric, function: {function}}}"
            yield invalid_value("", "a node with _target_: hydratune.tasks.Metric", repr(metric), hint)
        else:
            yield from metric.check(self.metric_inputs)

    def tunes(self) -> bool:
        """Return whether evaluation tunes a value on validation that predictions use, see `tuned_metrics`."""
        return False

    def arguments(self, objective: str) -> dict[str, Any]:
        """Return the `TrainingArguments` that the task sets unless the user sets them."""
        token_args = {"include_num_input_tokens_seen": "non_padding"} if self.processor == "tokenizer" else {}
        return {"greater_is_better": self.higher_is_better(objective), **token_args}

    def check_network(self, config: PretrainedConfig) -> None:
        """Raise ConfigError if this type of model cannot have the task's head."""
        import transformers

        heads = getattr(transformers, self.auto_model)._model_mapping
        auto_map = getattr(config, "auto_map", None) or {}  # from trusted Hub code
        if type(config) not in heads and self.auto_model not in auto_map:
            text = f"transformers has no {self.auto_model} for {config.model_type} models"
            raise ConfigError(Problem("model", text, _OTHER_MODEL.get(self.auto_model, "")))

    def check_processor(self, processor: Any) -> None:
        """Raise ConfigError if the tokenizer does not support this task."""
        if self.needs_fast and not processor.is_fast:
            text = f"this task needs a fast tokenizer, not {type(processor).__name__}"
            raise ConfigError(Problem("model", text, "choose a checkpoint with a tokenizer.json"))

    def max_tokens(self, config: PretrainedConfig, processor: Any) -> int | None:
        """Return the maximum tokens of an input: the positions of the model, or fewer; None for any number."""
        limits = [limit for limit in (self.max_length, max_positions(config, processor)) if limit]
        return min(limits, default=None)

    def callbacks(self, collator: Any) -> list[TrainerCallback]:  # noqa: ARG002
        """Return additional callbacks for Trainer; `collator` is the one of this run."""
        return []

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """Return the rows, and the label names in the order of their IDs, before invalid rows are dropped.

        Args:
            splits: All rows, under the task's column names. If `names` maps values to names, the returned rows have
                the names.
            names: Label names in the config.
        """
        return splits, None if names is None else [*names.values()] if isinstance(names, Mapping) else list(names)

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:  # noqa: ARG002
        """Yield every row that cannot be trained on; raise ConfigError if a whole column has a wrong type."""
        columns = [
            (name, column.kind, split, rows)
            for name, column in self.columns.items()
            for split, rows in splits.items()
            if name in rows.column_names
        ]
        if errors := [m for name, kind, split, rows in columns if (m := wrong_type(kind, split, name, rows))]:
            raise ConfigError(*errors)
        for name, kind, split, rows in columns:
            yield from bad_values(kind, split, name, rows)
        yield from negative_weights(splits)

    def bad_inputs(self, rows: Dataset) -> Iterator[BadRow]:
        """Return every row that cannot be predicted for; `rows` have no target columns."""
        from datasets import DatasetDict

        return self.bad_rows(DatasetDict(train=rows), None)

    def encode(self, batch: Batch, processor: Any, max_length: int | None) -> dict[str, Any]:
        """Return the model inputs of a batch of rows, with or without labels; a row may become several."""
        return encode_texts(batch, processor, max_length)

    def align_labels(self, rows: Dataset, own: LabelNames, trained: list[str]) -> Dataset:  # noqa: ARG002
        """Return rows whose labels `prepare` maps to the IDs of a trained head, if `trained` are their names.

        Args:
            rows: Rows of data that the head was not trained on, perhaps with other labels or another order of labels.
            own: Label names in the config of these rows.
            trained: Label names of the head, in the order of its IDs.
        """
        return rows

    @abstractmethod
    def prepare(
        self, splits: DatasetDict, processor: Any, max_length: int | None, label_names: list[str] | None
    ) -> EncodedData:
        """Return the rows that the model takes, and the head that fits them.

        Args:
            splits: Rows under the task's column names, without those of `bad_rows`.
            processor: The checkpoint's tokenizer or image processor.
            max_length: Maximum tokens that the model can take, or fewer; None for any number.
            label_names: Label names of the dataset, in the order of their IDs; None if it has none.
        """

    def prepare_inputs(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Return rows without labels, with the same inputs as in `prepare`; they may have a column `truncated`."""
        from datasets import Dataset

        return Dataset.from_dict(self.encode(rows[:], processor, max_length))

    def initialize(self, network: Network, data: EncodedData) -> None:
        """Give newly initialized parameters of a model better values than random ones."""

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a callable that collates rows, padded to the longest one: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(processor)

    def inputs_collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return the collator for rows of `prepare_inputs`."""
        return self.collator(processor)

    def predict_batch(self, network: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> Any:
        """Return the predictions for a batch without labels, as `reduce_logits` returns them."""
        ignored = ("loss", *getattr(network.config, "keys_to_ignore_at_inference", ()))
        outputs = tuple(value for name, value in network(**batch).items() if name not in ignored)
        return self.reduce_logits(outputs if len(outputs) > 1 else outputs[0], None)

    def reduce_logits(self, logits: Any, labels: Any) -> Any:  # noqa: ARG002 (others need the labels)
        """Reduce a batch's logits to the minimum that the metrics need, so that evaluation never holds all logits.

        The default is (batch, ..., labels) -> (batch, ...) predicted IDs.
        """
        scores = logits[0] if isinstance(logits, tuple) else logits
        return scores.argmax(dim=-1)

    @abstractmethod
    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return metric name -> value over a whole split; `prediction.predictions` comes from `reduce_logits`."""

    @abstractmethod
    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Return one JSON object per row of the data, with its prediction.

        Args:
            predictions: Output of `reduce_logits` or `predict_batch` for `evaluated.rows`; a tuple if that returns
                several.
            evaluated: Rows, which may have no labels.
        """

    @abstractmethod
    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Return one JSON object per row for `predictions.jsonl`, with its target and prediction; may be empty."""

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:  # noqa: ARG002
        """Return tables of results per label, from lines of `predictions.jsonl`; empty without labels."""
        return {}

    @abstractmethod
    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
        """Return the metrics of `compute_metrics`, except tuned values, for any lines of `predictions.jsonl`.

        Args:
            rows: Rows, at least one.
            names: Label names in the order of their IDs; used only if `needs_names`.
        """

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """Return what a row adds to numerator and denominator of each metric that is a ratio of sums over rows.

        These sums let thousands of resamples be scored without a call of `metrics_from_predictions` for each.
        """
        return {}

    def bootstrap_metric(
        self, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Callable[[Sequence[int]], float]:
        """Return a function from row numbers, which may repeat, to a metric that has no `row_contributions`."""
        task = self.with_metric(metric)
        return lambda numbers: task.metrics_from_predictions([rows[i] for i in numbers], names)[metric]


def _wrong_objective(text: str, objective: str, options: Sequence[str]) -> Problem:
    name = f"eval_{objective.removeprefix('eval_')}"
    return Problem("objective", text, similar("objective", name, options, prefix=f"{KEY}="))


def column_values(rows: Sequence[Mapping[str, Any]], *names: str) -> list[list[Any]]:
    """Return the values of each of these columns."""
    return [[row[name] for row in rows] for name in names]
