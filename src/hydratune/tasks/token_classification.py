"""Token classification: one label per word of a sentence, e.g. named entities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hydratune.data.cache import arrow_column
from hydratune.data.columns import ROW_WEIGHT, BadRow, Column
from hydratune.data.label_names import LabelNames
from hydratune.tasks.base import EXAMPLE, EncodedData, EvalSplit, Task, column_values
from hydratune.tasks.labels import collect_labels, name_labels, named_labels, unknown_labels
from hydratune.tasks.loss_settings import ClassLossSettings
from hydratune.tasks.losses import WEIGHT_COLUMN, row_weights
from hydratune.tasks.metrics.classification import BALANCED_ACCURACY, COHEN_KAPPA
from hydratune.tasks.metrics.metric import (
    CONFIDENCES,
    LABEL_NAMES,
    OF_PROBABILITIES,
    PREDICTIONS,
    REFERENCES,
    TOP_K,
    Metric,
    share,
)
from hydratune.tasks.metrics.probabilistic import BRIER, ECE, LOG_LOSS, TOP_K_ACCURACY
from hydratune.tasks.probabilities import (
    FIELD,
    check_top_k,
    confidences,
    first_logits,
    refuse_large_top_k,
    shortest,
    true_label_inputs,
)
from hydratune.tasks.tokenize import IGNORED, Batch, cut, encode_splits
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction

_ENTITY_METRICS = ("f1", "precision", "recall")
_WORD_METRICS = (BALANCED_ACCURACY, COHEN_KAPPA, LOG_LOSS, BRIER, ECE, TOP_K_ACCURACY)
_SHORTEST = 8  # minimum tokens of a window, so that windows always advance
# Prefixes of the tags that seqeval reads: without a scheme, and in each scheme.
_PREFIXES = {
    None: "BIES",
    "IOB1": "BI",
    "IOB2": "BI",
    "IOE1": "IE",
    "IOE2": "IE",
    "IOBES": "BIES",
    "BILOU": "BILU",
}


@dataclass(kw_only=True)
class TokenClassification(ClassLossSettings, Task):
    """Token classification on `tokens`, a list of words, and `labels`, one per word, e.g. `B-person`, `I-person`, `O`.

    The first subword of a word has its label. A sentence that is too long becomes several overlapping windows. Each
    word counts in the first window that contains it, so no word is lost.

    Args:
        stride: Tokens of context that a window repeats from the previous one.
        scheme: Tagging scheme of entities, which seqeval reads strictly; null reads tags as conlleval does.
        per_type: Whether to report the scores of each entity type, e.g. `f1_person`.
        top_k: Number of labels of the metric `top_k_accuracy`.

    Example:
        >>> rows = [{"labels": ["B-PER", "O"], "predictions": ["B-PER", "O"]}]
        >>> TokenClassification(metrics=["f1"]).metrics_from_predictions(rows, ["O", "B-PER"])["f1"]
        1.0
    """

    auto_model: ClassVar[str] = "AutoModelForTokenClassification"
    pipeline: ClassVar[str | None] = "token-classification"
    columns: ClassVar[Mapping[str, Column]] = {
        "tokens": Column("texts"),
        "labels": Column("labels", target=True),
        ROW_WEIGHT: WEIGHT_COLUMN,
    }
    inputs: ClassVar[tuple[str, ...]] = ("tokens",)
    needs_fast: ClassVar[bool] = True
    has_confidence: ClassVar[bool] = True
    known_metrics: ClassVar[tuple[Metric, ...]] = (*map(share, _ENTITY_METRICS), share("accuracy"), *_WORD_METRICS)

    metrics: list[str] = field(default_factory=lambda: ["f1"])
    objective: str = "eval_f1"
    stride: int = 16
    scheme: Literal["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"] | None = None
    per_type: bool = True
    top_k: int = 5

    def check(self) -> Iterator[Problem]:
        """Also yield errors of the loss, and of sizes with which windows would not advance."""
        yield from super().check()
        yield from self.check_loss()
        yield from check_top_k(self.top_k)
        if self.max_length is not None and 0 < self.max_length < _SHORTEST:
            yield invalid_value("max_length", f"null or an integer of at least {_SHORTEST}", self.max_length)
        if self.stride < 0 or (self.max_length is not None and self.stride >= self.max_length - 2):
            requirement = "an integer of at least 0"
            if self.max_length is not None:
                requirement += f" and below {NODE}max_length - 2 ({self.max_length - 2})"
            yield invalid_value("stride", requirement, self.stride, f"set {KEY}=0")

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Also yield unknown labels, and rows without one label for each word."""
        import pyarrow.compute as pc

        yield from super().bad_rows(splits, label_names)
        yield from unknown_labels(splits, label_names, "labels")
        for split, rows in splits.items():
            if "labels" not in rows.column_names:  # rows to predict for
                continue
            words, labels = (pc.list_value_length(arrow_column(rows, name)) for name in ("tokens", "labels"))
            for row in pc.indices_nonzero(pc.fill_null(pc.not_equal(words, labels), False)).to_pylist():
                text = f"number of labels ({labels[row]}) must match number of tokens ({words[row]})"
                yield BadRow(split, row, "labels", text)

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """Return the rows, and the names of the values in `labels`."""
        return name_labels(splits, names, "labels")

    def align_labels(self, rows: Dataset, own: LabelNames, trained: list[str]) -> Dataset:
        """Return rows with labels as names."""
        return named_labels(rows, own, trained, "labels")

    def encode(self, batch: Batch, processor: Any, max_length: int | None) -> dict[str, Any]:
        """Return the token IDs of each window; the first one of a sentence also has its `tokens`."""
        stride = min(self.stride, (max_length or self.stride + 4) // 2)
        options = {**cut(max_length), "stride": stride} if max_length else {}
        encoded = processor(batch["tokens"], is_split_into_words=True, return_overflowing_tokens=True, **options)
        sentences = encoded.pop("overflow_to_sample_mapping")
        return {**encoded, **_windows(sentences, list(map(encoded.word_ids, range(len(sentences)))), batch["tokens"])}

    def prepare_inputs(self, rows: Dataset, processor: Any, max_length: int | None) -> Dataset:
        """Return rows of `input_ids`, one per window."""
        _open_words(processor)
        return super().prepare_inputs(rows, processor, max_length)

    def prepare(
        self, splits: DatasetDict, processor: Any, max_length: int | None, label_names: list[str] | None
    ) -> EncodedData:
        """Return rows of `input_ids` and `labels`, one per window, with the numbers and places of its words."""
        labels = collect_labels(splits, label_names, "labels")
        unseen = [labels.name(value) for rows in splits.values() for value in labels.unseen(rows, "labels")]
        self._refuse_other_tags([*labels.names, *unseen])
        _open_words(processor)

        def encode(batch: Batch) -> dict[str, Any]:
            encoded = self.encode(batch, processor, max_length)
            names = [[labels.name(value) for value in row] for row in batch["labels"]]
            ids = [labels.encode(row) for row in batch["labels"]]
            return encoded | _window_labels(encoded, ids, names, row_weights(batch))

        sizes = {"max_length": max_length, "stride": self.stride}
        key = {"task": "token_classification/3", "labels": labels.names, **sizes}
        encoded = encode_splits(splits, encode, processor, key)
        messages = [
            f"{len(splits[split]):,} sentences of {split} became {len(rows):,} windows of up to {max_length} tokens"
            for split, rows in encoded.items()
            if len(rows) != len(splits[split])
        ]
        return EncodedData(encoded, labels.head(), messages, self.class_loss(splits, encoded, labels.names))

    def _refuse_other_tags(self, names: Sequence[str]) -> None:
        """Raise ConfigError for tags that seqeval cannot read, if any metric is about entities."""
        if not {*self.metrics} & {*_ENTITY_METRICS}:
            return
        tags = [name for name in names if name != "O"]
        if unreadable := _unread(tags, self.scheme):
            schemes = [scheme for scheme in _PREFIXES if scheme and not _unread(tags, scheme)]
            if not schemes:
                text = f"the entity metrics in {KEY} need tags such as B-x, I-x, and O, not {unreadable[:3]}"
                hint = f"set {KEY}=[accuracy] objective=eval_accuracy"
                hint += "\nname the IDs, e.g. dataset.labels=[O,B-x,I-x]" if "".join(unreadable).isdecimal() else ""
                raise ConfigError(Problem("task.metrics", text, hint))
            text = f"{KEY}={self.scheme or 'null'} has no tags such as {unreadable[0]!r}"
            raise ConfigError(Problem("task.scheme", text, f"set {KEY}={schemes[0]}"))

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest window: `input_ids` and `labels` (batch, seq) int64."""
        from transformers import DataCollatorForTokenClassification

        processor.padding_side = "right"  # `predictions_with_labels` counts positions from the left
        return DataCollatorForTokenClassification(processor)

    def check_head(self, head: Mapping[str, Any], objective: str | None = None, sets: Sequence[str] = ()) -> None:
        """Also raise ConfigError if `top_k_accuracy` is 1 for any model."""
        refuse_large_top_k(self.metrics, self.top_k, head["num_labels"])
        super().check_head(head, objective, sets)

    def reduce_logits(self, logits: Any, labels: Any) -> dict[str, torch.Tensor]:
        """Reduce (batch, seq, labels) to (batch, seq) predictions, their probabilities, and the inputs of metrics."""
        probabilities = first_logits(logits).softmax(dim=-1)
        outputs = confidences(probabilities, probabilities.argmax(dim=-1))
        if labels is not None:
            outputs |= true_label_inputs(probabilities, labels, self.needed_inputs())
        return outputs

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names, and those of each entity type, over whole sentences."""
        outputs = {name: values for name, values in prediction.predictions.items() if name in OF_PROBABILITIES}
        places = evaluated.rows["places"] if outputs else []
        inputs = {name: _at_places(values, places) for name, values in outputs.items()}
        inputs[LABEL_NAMES] = [*evaluated.head["id2label"].values()]
        return self._scores(list(self.predictions_with_labels(prediction, evaluated)), inputs)

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics that the config names, and those of each entity type."""
        return self._scores(rows, {})

    def _scores(self, rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics of decoded rows.

        Args:
            rows: Decoded rows.
            inputs: Inputs of metrics over words that the rows do not have.
        """
        from hydratune.tasks.metrics.sequence_labeling import entity_scores, word_accuracy

        labels, predicted = column_values(rows, "labels", "predictions")
        scores = {"accuracy": word_accuracy(labels, predicted)} if "accuracy" in self.metrics else {}
        if {*self.metrics} & {*_ENTITY_METRICS}:
            scores |= entity_scores(labels, predicted, self.scheme)
        for metric in _WORD_METRICS:
            if metric.name in self.metrics:
                scores[metric.name] = self.score(metric, {**_words(rows, metric), TOP_K: self.top_k, **inputs})
        entity_metrics = [name for name in scores if name.partition("_")[0] in self.metrics] if self.per_type else []
        selected = {name: scores[name] for name in dict.fromkeys((*self.metrics, *entity_metrics))}
        return selected | self.extra_scores(predictions=predicted, references=labels)

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """Return the sums of a row for all metrics except those of each entity type."""
        from hydratune.tasks.metrics.sequence_labeling import entities

        correct = sum(label == predicted for label, predicted in zip(row["labels"], row["predictions"], strict=True))
        true, predicted = (entities(row[key], self.scheme) for key in ("labels", "predictions"))
        common = float(len(true & predicted))
        return {
            "accuracy": (float(correct), float(len(row["labels"]))),
            "f1": (2 * common, float(len(true) + len(predicted))),
            "precision": (common, float(len(predicted))),
            "recall": (common, float(len(true))),
        }

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Return the words of each sentence, their predicted labels, and the probabilities of these.

        A word without any token has no probability.
        """
        names, rows = evaluated.head["id2label"], evaluated.rows
        outside = "O" if "O" in names.values() else names[0]  # label of a word without any token
        sentences: list[dict[str, list[Any]]] = []
        columns = rows["tokens"], rows["words"], rows["places"], predictions[PREDICTIONS], predictions[CONFIDENCES]
        for tokens, words, places, predicted, probabilities in zip(*columns, strict=True):
            if tokens:  # the first window of a sentence
                count = len(tokens)
                sentences.append({"tokens": tokens, "predictions": [outside] * count, FIELD: [None] * count})
            for word, place in zip(words, places, strict=True):
                sentences[-1]["predictions"][word] = names[int(predicted[place])]
                sentences[-1][FIELD][word] = shortest(probabilities[place])
        return sentences

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the words of each sentence, their true labels, their predicted labels, and the probabilities."""
        true = (labels for labels in evaluated.rows["word_labels"] if labels)  # of the first windows
        for labels, predicted in zip(true, self.format_predictions(prediction.predictions, evaluated), strict=True):
            yield {"tokens": predicted["tokens"], "labels": labels, **predicted}

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:  # noqa: ARG002
        """Return a table with the scores of each entity type, if any metric is about entities."""
        from hydratune.tasks.metrics.tables import entities

        true, predicted = column_values(rows, "labels", "predictions")
        return entities(true, predicted, self.scheme) if {*self.metrics} & {*_ENTITY_METRICS} else {}

    def example(self, row: Mapping[str, Any], processor: Any) -> dict[str, str]:  # noqa: ARG002
        """Return the words as a text, which the pipeline splits by itself."""
        return {"text": " ".join(row["tokens"])[:EXAMPLE]}


def _at_places(values: Any, places: Sequence[Sequence[int]]) -> Any:
    """Return the (words,) values of (windows, seq) at the first token of each word that a window counts."""
    import numpy as np

    return np.concatenate([row[window] for row, window in zip(values, places, strict=True)])


def _words(rows: Sequence[Mapping[str, Any]], metric: Metric) -> dict[str, Any]:
    """Return the inputs of a metric over words that decoded rows have; words without a probability may not count."""
    import numpy as np

    names = {REFERENCES: "labels", PREDICTIONS: "predictions"}
    columns = {name: [word for row in rows for word in row[field]] for name, field in names.items()}
    if not metric.needs_confidences or any(FIELD not in row for row in rows):
        return columns
    columns[CONFIDENCES] = [word for row in rows for word in row[FIELD]]
    is_counted = [value is not None for value in columns[CONFIDENCES]]
    return {name: np.array(values)[is_counted] for name, values in columns.items()}


def _unread(tags: list[str], scheme: str | None) -> list[str]:
    """Return the tags that a scheme does not have."""
    return [tag for tag in tags if tag[:1] not in (*_PREFIXES[scheme],) or tag[1:2] not in ("", "-")]


def _open_words(tokenizer: Any) -> None:
    """Make byte-level tokenizers such as RoBERTa's, which mark a word by a space before it, mark each listed word."""
    from tokenizers.pre_tokenizers import ByteLevel

    if isinstance(tokenizer.backend_tokenizer.pre_tokenizer, ByteLevel):
        tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True


def _windows(
    sentences: list[int], word_ids: list[list[int | None]], tokens: list[list[str]]
) -> dict[str, list[list[Any]]]:
    """Return for each window the numbers of the `words` that it counts, and the `places` of their first tokens.

    Args:
        sentences: Number of each window's sentence.
        word_ids: Number of the word of each token of each window.
        tokens: Words of each sentence; the first window of a sentence has them as its `tokens`.
    """
    columns: dict[str, list[list[Any]]] = {name: [] for name in ("words", "places", "tokens")}
    last_sentence, counted = None, -1
    for sentence, window in zip(sentences, word_ids, strict=True):
        is_first, last_sentence = sentence != last_sentence, sentence
        counted = -1 if is_first else counted  # the last word of the sentence that was counted
        words, places = [], []
        for place, word in enumerate(window):
            if word is not None and word > counted:
                words.append(word)
                places.append(place)
                counted = word
        columns["words"].append(words)
        columns["places"].append(places)
        columns["tokens"].append(tokens[sentence] if is_first else [])
    return columns


def _window_labels(
    windows: Mapping[str, list[Any]],
    ids: list[list[int]],
    names: list[list[str]],
    weights: Mapping[str, list[float]],
) -> dict[str, list[Any]]:
    """Return the label IDs of each window's tokens (`labels`), and the label names of a sentence at its first window.

    The names (`word_labels`) include those of labels that the head does not have, whose tokens have no ID. A window
    also has the weights of its sentence.
    """
    columns: dict[str, list[Any]] = {"labels": [], "word_labels": [], **{name: [] for name in weights}}
    sentence = -1
    for tokens, words, places, inputs in zip(
        *(windows[name] for name in ("tokens", "words", "places", "input_ids")), strict=True
    ):
        sentence += bool(tokens)
        labels = [IGNORED] * len(inputs)
        for word, place in zip(words, places, strict=True):
            labels[place] = ids[sentence][word]
        columns["labels"].append(labels)
        columns["word_labels"].append(names[sentence] if tokens else [])
        for name, values in weights.items():
            columns[name].append(values[sentence])
    return columns
