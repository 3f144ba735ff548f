"""What a task is: the head, the preprocessing, the collator and the metrics that belong together."""

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
from hydratune.tasks.metrics.metric import LOSS, PREDICTIONS, REFERENCES, SCORES, Metric, is_valid_name
from hydratune.tasks.tokenize import Batch, encode_texts
from hydratune.utils.errors import ConfigError, Mistake, did_you_mean, nearest, one_of

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction, PretrainedConfig, PreTrainedModel, TrainerCallback

EXAMPLE = 200  # characters of an example, which any network takes


@dataclass(frozen=True)
class EncodedData:
    """Data in the shape that the network takes.

    Args:
        splits: What Trainer collates. Columns that the network does not take are dropped by Trainer, and are
            there for `compute_metrics` and `decode`.
        head: Arguments of the network's config that the data decides, e.g. `num_labels`.
        said: Sentences for the user, e.g. how many texts were cut.
    """

    splits: DatasetDict
    head: Mapping[str, Any]
    said: Sequence[str] = ()


@dataclass(frozen=True)
class EvalSplit:
    """What a prediction was made for.

    Args:
        rows: One split of `EncodedData`, in the order of the predictions.
        head: That of `EncodedData`.
        tuned: What was tuned on validation, by the names of `Task.tuned`; empty on validation itself.
    """

    rows: Dataset
    head: Mapping[str, Any]
    tuned: Mapping[str, float] = field(default_factory=dict)

    def true_names(self) -> list[Any] | None:
        """The names of the true labels of each row, if the head does not have all of them; else None."""
        if self.rows is None or TRUE_NAMES not in self.rows.column_names:
            return None
        names: list[Any] = self.rows[TRUE_NAMES][:]
        return names


@dataclass(kw_only=True)
class Task(Configurable, ABC):
    """A kind of problem; one subclass and one yaml a task (see docs/adding_a_task.md).

    Args:
        metrics: Names of the metrics to compute, of `known_metrics`; null for those that fit the data, where allowed.
        extra_metrics: Name -> `hydratune.tasks.Metric`, computed in addition (see docs/adding_a_task.md).
        objective: The metric that picks the best checkpoint, `eval_` and its name, or `eval_loss`.
        max_length: Cut texts to this many tokens; null for as many as the network has positions.
    """

    auto_model: ClassVar[str]  # the class of transformers that builds the network with its head
    processor: ClassVar[str] = "tokenizer"  # what turns a row into the network's inputs; or `image_processor`
    columns: ClassVar[Mapping[str, Column]]  # what it reads of the data
    inputs: ClassVar[tuple[str, ...]] = ("text", "text_pair")  # columns that make two rows the same example
    known_metrics: ClassVar[tuple[Metric, ...]]
    metric_inputs: ClassVar[tuple[str, ...]] = (PREDICTIONS, REFERENCES)  # what `extra_metrics` may be computed from
    shared_input: ClassVar[str] = ""  # an input that several rows have in common, e.g. the context of questions
    streams: ClassVar[bool] = False  # whether `prepare` takes training rows without a length
    needs_fast: ClassVar[bool] = False  # whether the tokenizer must know where each token is in the text
    pipeline: ClassVar[str | None] = None  # what serves the network: a task of transformers.pipeline
    tuned: ClassVar[tuple[str, ...]] = ()  # metrics that are values tuned on validation, for test to take
    needs_names: ClassVar[bool] = False  # whether `rescore` needs the names of the labels, in the order of their ids
    undecoded: ClassVar[str] = ""  # why `decode` yields no rows, where it never does

    metrics: list[str] | None
    objective: str = "eval_loss"
    extra_metrics: dict[str, Any] = field(default_factory=dict)
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Names each extra metric by its key."""
        extra = self.extra_metrics.items()
        self.extra_metrics = {n: replace(m, name=n) if isinstance(m, Metric) else m for n, m in extra}

    def higher_is_better(self, objective: str) -> bool:
        """The direction of an objective; raises ConfigError if no metric of the task has that name."""
        metric = self.metric(objective.removeprefix("eval_"))
        if metric is None:
            fix = did_you_mean(objective, self.objectives(), "Name a metric that the task reports.")
            raise ConfigError(Mistake("objective", one_of(self.objectives()), repr(objective), fix))
        return metric.higher_is_better

    def metric_names(self, head: Mapping[str, Any] | None = None) -> list[str]:  # noqa: ARG002 (others need it)
        """Names of the metrics to compute, of `known_metrics`.

        Args:
            head: That of `EncodedData`; None before the data is read, for all that may be computed.
        """
        return [*(self.metrics or ())]

    def objectives(self, head: Mapping[str, Any] | None = None) -> list[str]:
        """Names of the numbers that evaluation reports and that `objective` may name; see `metric_names`."""
        return ["eval_loss", *(f"eval_{name}" for name in (*self.metric_names(head), *self.extra_metrics))]

    def check_head(self, head: Mapping[str, Any], objective: str | None = None) -> None:
        """Raises ConfigError if the metrics or the objective are not defined for the data's head."""
        if objective is not None and objective not in (options := self.objectives(head)):
            fix = f"Set objective={nearest(objective, options) or options[-1]}."
            raise ConfigError(Mistake("objective", one_of(options), repr(objective), fix))

    def definitions(self) -> dict[str, Metric]:
        """Name -> definition of every metric that the task can report."""
        return {metric.name: metric for metric in (LOSS, *self.known_metrics, *self.extra_metrics.values())}

    def metric(self, name: str) -> Metric | None:
        """The definition of a metric, also of a part of one, e.g. `f1_person`; None for other numbers."""
        definitions = self.definitions()
        if name in definitions:
            return definitions[name]
        whole = max((one for one in definitions if name.startswith(f"{one}_")), key=len, default=None)
        return definitions[whole] if whole else None

    def row_metrics(self, names: Sequence[str] = ()) -> list[str]:  # noqa: ARG002 (others need it)
        """Names of the metrics that `rescore` can compute from rows of `decode`; `names` are those of the labels."""
        return [
            name
            for name, metric in self.definitions().items()
            if name != LOSS.name and SCORES not in metric.inputs.values()
        ]

    def with_metric(self, name: str) -> Self:
        """The same task with one metric alone."""
        if name in self.extra_metrics:
            return replace(self, metrics=[], extra_metrics={name: self.extra_metrics[name]})
        return replace(self, metrics=[name], extra_metrics={})

    def scores(self, head: Mapping[str, Any] | None = None, **inputs: Any) -> dict[str, float]:
        """Name -> value of all metrics of a task whose metrics each have a function."""
        definitions = self.definitions()
        named = {name: definitions[name].compute(inputs) for name in self.metric_names(head)}
        return named | self.extra_scores(**inputs)

    def extra_scores(self, **inputs: Any) -> dict[str, float]:
        """Name -> value of the extra metrics whose inputs are given."""
        metrics = self.extra_metrics.items()
        return {name: metric.compute(inputs) for name, metric in metrics if {*metric.inputs.values()} <= {*inputs}}

    def keeps_order(self) -> bool:
        """Whether rows that follow each other belong together, so that a split or a limit must not part them."""
        return False

    def input_columns(self) -> dict[str, Column]:
        """The columns that predictions are made from: all but those of what is predicted."""
        return {name: column for name, column in self.columns.items() if not column.target}

    def texts(self) -> list[str]:
        """Its columns of text, or of lists of texts."""
        return [name for name, column in self.columns.items() if column.kind in ("text", "texts")]

    def images(self) -> list[str]:
        """Its columns of images or of their paths."""
        return []

    def example(self, row: Mapping[str, Any], processor: Any) -> dict[str, str]:  # noqa: ARG002 (others need it)
        """An input of `pipeline` made of a raw row: column -> text of at most 200 characters."""
        texts = {name: row.get(name) for name in self.inputs}
        return {name: text[:EXAMPLE] for name, text in texts.items() if isinstance(text, str) and text}

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported."""
        known = [metric.name for metric in self.known_metrics]
        for name in self.metrics or ():
            if name not in known:
                fix = did_you_mean(name, known, f"Set task.metrics=[{known[0]}].")
                yield Mistake("metrics", one_of(known), repr(name), fix)
        for name, metric in self.extra_metrics.items():
            yield from (mistake.under(f"extra_metrics.{name}") for mistake in self._check_extra(name, metric, known))
        if self.max_length is not None and self.max_length < 1:
            yield Mistake("max_length", "a number of tokens above 0 or null", repr(self.max_length), "Raise it.")

    def _check_extra(self, name: str, metric: Any, known: Sequence[str]) -> Iterator[Mistake]:
        """Mistakes of one of `extra_metrics`, below its key."""
        if not self.metric_inputs:
            fix = "Leave task.extra_metrics out."
            yield Mistake("", f"no extra metrics: {type(self).__name__} predicts no rows", repr(name), fix)
        elif not is_valid_name(name) or name in known:
            fix = "Give it another name: letters, digits and _, and not that of another metric."
            yield Mistake("", "a name of its own", repr(name), fix)
        elif not isinstance(metric, Metric):
            function = "{_target_: my_package.my_metric, _partial_: true}"
            fix = f"Write {{_target_: hydratune.tasks.Metric, function: {function}}}."
            yield Mistake("", "a node of hydratune.tasks.Metric", repr(metric), fix)
        else:
            yield from metric.check(self.metric_inputs)

    def arguments(self, objective: str) -> dict[str, Any]:
        """Arguments of `TrainingArguments` that the task decides where the user said nothing."""
        counted = {"include_num_input_tokens_seen": "non_padding"} if self.processor == "tokenizer" else {}
        return {"greater_is_better": self.higher_is_better(objective), **counted}

    def check_network(self, config: PretrainedConfig) -> None:
        """Raises ConfigError where the kind of network cannot have this task's head."""
        import transformers

        heads = getattr(transformers, self.auto_model)._model_mapping
        brought = getattr(config, "auto_map", None) or {}  # by code of the hub's that may run, or there is no config
        if type(config) not in heads and self.auto_model not in brought:
            known = sorted({one.model_type for one in heads})
            fix = did_you_mean(config.model_type, known, f"It has none of transformers.{self.auto_model}.")
            raise ConfigError(Mistake("model", f"a network for {self.auto_model}", repr(config.model_type), fix))

    def check_processor(self, processor: Any) -> None:
        """Raises ConfigError where the tokenizer cannot do what this task asks of it."""
        if self.needs_fast and not processor.is_fast:
            fix = "Choose a checkpoint with a tokenizer.json."
            got = f"{type(processor).__name__}, which does not know where its tokens are in a text"
            raise ConfigError(Mistake("model", "a fast tokenizer", got, fix))

    def longest(self, config: PretrainedConfig, processor: Any) -> int | None:
        """The most tokens of an input: those that the network has positions for, or fewer; None for any number."""
        limits = [limit for limit in (self.max_length, max_positions(config, processor)) if limit]
        return min(limits, default=None)

    def callbacks(self, collator: Any) -> list[TrainerCallback]:  # noqa: ARG002
        """What Trainer is to call besides; `collator` is the one of this run."""
        return []

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """The rows and the label names in the order of their ids, before invalid rows are dropped.

        Args:
            splits: All rows, under the task's column names. If `names` maps values to names, the rows that are
                returned hold the names.
            names: Those of the config.
        """
        return splits, None if names is None else [*names.values()] if isinstance(names, Mapping) else list(names)

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:  # noqa: ARG002
        """Every row that cannot be trained on; raises ConfigError where a whole column is of a wrong type."""
        present = [
            (name, column.kind, split, rows)
            for name, column in self.columns.items()
            for split, rows in splits.items()
            if name in rows.column_names
        ]
        if wrong := [m for name, kind, split, rows in present if (m := wrong_type(kind, split, name, rows))]:
            raise ConfigError(*wrong)
        for name, kind, split, rows in present:
            yield from bad_values(kind, split, name, rows)

    def bad_inputs(self, rows: Dataset) -> Iterator[BadRow]:
        """Every row for which nothing can be predicted; `rows` have no column of what is to be predicted."""
        from datasets import DatasetDict

        return self.bad_rows(DatasetDict(train=rows), None)

    def encode(self, batch: Batch, processor: Any, max_length: int | None) -> dict[str, Any]:
        """What the network takes of a batch of rows, with or without labels; a row may become several."""
        return encode_texts(batch, processor, max_length)

    def relabelled(self, rows: Dataset, own: LabelNames, trained: list[str]) -> Dataset:  # noqa: ARG002
        """Rows whose labels `prepare` gives the ids of a head that is trained, if it is told `trained` as their names.

        Args:
            rows: Of other data than the head was trained on; they may have other labels and another order of them.
            own: The label names of the data's config.
            trained: The names of the labels that the head has, in the order of its ids.
        """
        return rows

    @abstractmethod
    def prepare(
        self, splits: DatasetDict, processor: Any, max_length: int | None, label_names: list[str] | None
    ) -> EncodedData:
        """Rows that the network takes and the head that fits them.

        Args:
            splits: Rows under the task's column names, without those of `bad_rows`.
            processor: The checkpoint's tokenizer or image processor.
            max_length: Tokens that the network can take, or fewer; None for any number.
            label_names: What the dataset calls its labels, in the order of their ids; None where it does not say.
        """

    def prepare_inputs(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Rows without labels as `prepare` makes them of the same inputs; some may say that they were `truncated`."""
        from datasets import Dataset

        return Dataset.from_dict(self.encode(rows[:], processor, max_length))

    def initialize(self, network: Network, data: EncodedData) -> None:
        """Gives new weights of a network a better start than chance."""

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """A callable that makes one batch of rows, padded to its own longest: `input_ids` (batch, seq) int64."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(processor)

    def inputs_collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """The collator of rows of `prepare_inputs`."""
        return self.collator(processor)

    def respond(self, network: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> Any:
        """What the network says to a batch without labels, as `reduce_logits` leaves it."""
        ignored = ("loss", *getattr(network.config, "keys_to_ignore_at_inference", ()))
        said = tuple(value for name, value in network(**batch).items() if name not in ignored)
        return self.reduce_logits(said if len(said) > 1 else said[0], None)

    def reduce_logits(self, logits: Any, labels: Any) -> Any:  # noqa: ARG002 (others need the labels)
        """The least of a batch's logits that the metrics need, so that evaluation never holds them all.

        Here (batch, ..., labels) -> (batch, ...) predicted ids.
        """
        scores = logits[0] if isinstance(logits, tuple) else logits
        return scores.argmax(dim=-1)

    @abstractmethod
    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Metric name -> value over a whole split; `prediction.predictions` comes from `reduce_logits`."""

    @abstractmethod
    def say(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """One JSON object a row of the data: what was predicted for it.

        Args:
            predictions: What `reduce_logits` or `respond` leaves of each of `evaluated.rows`; a tuple of such where it
                leaves several.
            evaluated: The rows, which may have no labels.
        """

    @abstractmethod
    def decode(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """One JSON object a row for `predictions.jsonl`: what was asked for and what was said; may be empty."""

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:  # noqa: ARG002
        """What the rows of `decode` add up to, label by label; nothing where there are no labels."""
        return {}

    @abstractmethod
    def rescore(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
        """What `compute_metrics` says, but for tuned values, of rows that `decode` made; any of them, in any number.

        Args:
            rows: At least one.
            names: Of the labels, in the order of their ids; used only where `needs_names`.
        """

    def ratios(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """What one row adds to both sums of each metric that is one sum over rows divided by another.

        With them thousands of resamples are scored without going through `rescore` each time.
        """
        return {}

    def resampled(
        self, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Callable[[Sequence[int]], float]:
        """A function from row numbers, which may repeat, to a metric of those rows; for those without `ratios`."""
        alone = self.with_metric(metric)
        return lambda numbers: alone.rescore([rows[i] for i in numbers], names)[metric]


def column_values(rows: Sequence[Mapping[str, Any]], *names: str) -> list[list[Any]]:
    """The values of each of these columns."""
    return [[row[name] for row in rows] for name in names]
