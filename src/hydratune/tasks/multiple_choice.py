"""Multiple choice: select the one of several texts that fits."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.cache import arrow_column
from hydratune.data.columns import COLUMN, KINDS, ROW_WEIGHT, BadRow, Column, preview
from hydratune.data.label_names import LabelNames, label_text
from hydratune.tasks.base import EncodedData, EvalSplit, Task
from hydratune.tasks.loss_settings import LossSettings
from hydratune.tasks.losses import WEIGHT_COLUMN, CrossEntropy, RowWeightCollator, row_weights
from hydratune.tasks.metrics.classification import ACCURACY
from hydratune.tasks.metrics.metric import (
    CONFIDENCES,
    LABEL_NAMES,
    OF_PROBABILITIES,
    PREDICTIONS,
    TOP_K,
    Metric,
)
from hydratune.tasks.metrics.probabilistic import BRIER, ECE, LOG_LOSS, TOP_K_ACCURACY
from hydratune.tasks.probabilities import FIELD, check_top_k, first_logits, shortest, true_label_inputs
from hydratune.tasks.tokenize import Batch, cut, encode_splits, say_truncated, truncated
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction

_CHOICE_LABELS = "choice_labels"


@dataclass(kw_only=True)
class MultipleChoice(LossSettings, Task):
    """Multiple choice on columns `text`, `choices`, and `label`: the number of the right choice from 0, or its text.

    Every row has the same number of choices. `dataset.labels` names the choices of data with another numbering, e.g.
    `[A,B,C,D]` or `[1,2,3,4]`. If these names differ between rows, as in ARC, the optional column `choice_labels` has
    the names of each row. An optional column `start` is put before each choice, like SWAG's `sent2`.

    Args:
        top_k: Number of choices of the metric `top_k_accuracy`.

    Example:
        >>> MultipleChoice(metrics=["accuracy"]).objectives()
        ['eval_loss', 'eval_accuracy']
    """

    auto_model: ClassVar[str] = "AutoModelForMultipleChoice"
    columns: ClassVar[Mapping[str, Column]] = {
        "text": Column("text"),
        "start": Column("text", required=False),
        "choices": Column("texts"),
        "choice_labels": Column("texts", required=False, target=True),
        "label": Column("label", target=True),
        ROW_WEIGHT: WEIGHT_COLUMN,
    }
    inputs: ClassVar[tuple[str, ...]] = ("text", "start", "choices")
    has_confidence: ClassVar[bool] = True
    known_metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY, LOG_LOSS, BRIER, ECE, TOP_K_ACCURACY)

    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    objective: str = "eval_accuracy"
    top_k: int = 2

    def check(self) -> Iterator[Problem]:
        """Also yield errors of the loss and of `top_k`."""
        yield from super().check()
        yield from self.check_loss()
        yield from check_top_k(self.top_k)

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """Return the rows with the text of the right choice as their label, if the choices have names."""
        if isinstance(names, Mapping):
            hint = f"set {KEY}=[A,B,C,D] in the order of the choices"
            raise ConfigError(invalid_value("dataset.labels", "a list of names", repr(names), hint))
        have_names = any(_CHOICE_LABELS in rows.column_names for rows in splits.values())
        if have_names and names is not None:
            text = f"{KEY} and the column {_CHOICE_LABELS} both name the choices"
            hint = f"set {KEY}=null or dataset.columns.{_CHOICE_LABELS}=null"
            raise ConfigError(Problem("dataset.labels", text, hint))
        if not all(_hold_texts(rows) for rows in splits.values()):
            return splits, None  # the type of the column is reported with the invalid rows
        if have_names or names is not None:
            return type(splits)({split: _with_choices(rows, names) for split, rows in splits.items()}), None
        _check_numbers(splits)
        return splits, None

    def align_labels(self, rows: Dataset, own: LabelNames, trained: list[str]) -> Dataset:  # noqa: ARG002
        """Return the rows as `name_labels` returns them."""
        from datasets import DatasetDict

        return self.name_labels(DatasetDict(train=rows), own)[0]["train"]

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Also yield blank choices, rows with another number of choices than most, and labels that are not choices."""
        yield from super().bad_rows(splits, label_names)
        counts = Counter(map(len, filter(None, arrow_column(splits["train"], "choices").to_pylist())))
        choice_count = max(counts, key=lambda count: counts[count], default=0)
        for split, rows in splits.items():
            labels = arrow_column(rows, "label").to_pylist() if "label" in rows.column_names else [None] * len(rows)
            pairs = zip(arrow_column(rows, "choices").to_pylist(), labels, strict=True)
            for row, (choices, label) in enumerate(pairs):
                if not choices or None in choices:  # reported by the base class
                    continue
                if len(choices) != choice_count:
                    text = f"{COLUMN} must have {choice_count} elements, as in most rows, not {len(choices)}"
                    yield BadRow(split, row, "choices", text, value=preview(choices))
                elif not all(choice.strip() for choice in choices):
                    text = f"empty choice in {COLUMN}: {preview(choices)}"
                    yield BadRow(split, row, "choices", text, value=preview(choices))
                elif label is not None and _place(label, choices) is None:
                    wanted = f"an integer from 0 to {len(choices) - 1} or one of the choices"
                    text = f"{COLUMN} must be {wanted}, not {preview(label)}"
                    yield BadRow(split, row, "label", text, value=preview(label))

    def encode(self, batch: Batch, processor: Any, max_length: int | None) -> dict[str, Any]:
        """Return lists of `input_ids`, one per choice, with the texts of the choices."""
        starts = batch.get("start") or [""] * len(batch["text"])
        choices = [
            [f"{start} {choice}".strip() for choice in row] for start, row in zip(starts, batch["choices"], strict=True)
        ]
        texts = [text for text, row in zip(batch["text"], choices, strict=True) for _ in row]
        flat_choices = [choice for row in choices for choice in row]
        encoded = processor(texts, flat_choices, **cut(max_length))
        is_cut = truncated(processor, encoded, texts, flat_choices)
        size = len(choices[0])
        grouped = {name: _grouped(values, size) for name, values in {**encoded, "truncated": is_cut}.items()}
        return {**grouped, "truncated": [any(row) for row in grouped["truncated"]], "choices": batch["choices"]}

    def prepare(
        self,
        splits: DatasetDict,
        processor: Any,
        max_length: int | None,
        label_names: list[str] | None,  # noqa: ARG002 (choices have no names)
    ) -> EncodedData:
        """Return rows of `labels` and lists of `input_ids`, one per choice; the longer text of a pair is truncated."""

        def encode(batch: Batch) -> dict[str, Any]:
            labels = [_place(label, row) for label, row in zip(batch["label"], batch["choices"], strict=True)]
            return self.encode(batch, processor, max_length) | {"labels": labels, **row_weights(batch)}

        key = {"task": "multiple_choice/2", "max_length": max_length}
        rows, messages = say_truncated(encode_splits(splits, encode, processor, key), max_length)
        return EncodedData(rows, {}, messages, self.configured(CrossEntropy(), splits))

    def collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator that pads to the longest choice: `input_ids` (batch, choices, seq) int64."""
        from transformers import DataCollatorForMultipleChoice

        return RowWeightCollator(DataCollatorForMultipleChoice(processor))

    def inputs_collator(self, processor: Any) -> Callable[[list[Any]], Mapping[str, torch.Tensor]]:
        """Return a collator without labels; the collator of transformers needs some, so they are added and dropped."""
        collate = self.collator(processor)

        def without_labels(rows: list[Any]) -> dict[str, torch.Tensor]:
            batch = collate([{**row, "labels": 0} for row in rows])
            return {name: values for name, values in batch.items() if name != "labels"}

        return without_labels

    def row_metrics(self, names: Sequence[str] = ()) -> list[str]:  # noqa: ARG002 (choices have no names)
        """Return all metrics, since predictions list the probabilities of all choices."""
        return [*self.definitions()][1:]

    def reduce_logits(self, logits: Any, labels: Any) -> dict[str, torch.Tensor]:  # noqa: ARG002 (Trainer's call)
        """Reduce (batch, choices) to the (batch,) best choice and the (batch, choices) probabilities."""
        probabilities = first_logits(logits).softmax(dim=-1)
        return {PREDICTIONS: probabilities.argmax(dim=-1), FIELD: probabilities}

    def compute_metrics(self, prediction: EvalPrediction, evaluated: EvalSplit) -> dict[str, float]:
        """Return the metrics that the config names; of two choices with the same text, either is right."""
        return self.metrics_from_predictions(list(self.predictions_with_labels(prediction, evaluated)), ())

    def format_predictions(self, predictions: Any, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the chosen text, its number from 0, and the probabilities of all choices in their order."""
        columns = evaluated.rows["choices"], predictions[PREDICTIONS], predictions[FIELD]
        for choices, best, values in zip(*columns, strict=True):
            probabilities = [shortest(value) for value in values]
            yield {"prediction": choices[int(best)], "index": int(best), FIELD: probabilities}

    def predictions_with_labels(self, prediction: EvalPrediction, evaluated: EvalSplit) -> Iterable[Mapping[str, Any]]:
        """Yield the right and the chosen text, with their numbers."""
        predictions = self.format_predictions(prediction.predictions, evaluated)
        for choices, label, predicted in zip(evaluated.rows["choices"], prediction.label_ids, predictions, strict=True):
            yield {"label": choices[int(label)], "label_index": int(label), **predicted}

    def metrics_from_predictions(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """Return the metrics that the config names; predictions and references are the texts of the choices."""
        references, predictions = ([row[key] for row in rows] for key in ("label", "prediction"))
        return self.scores(predictions=predictions, references=references, **self._probability_inputs(rows))

    def _probability_inputs(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the inputs of metrics of probabilities, if metrics need them and the rows have them."""
        import torch

        needed = self.needed_inputs()
        if needed.isdisjoint((CONFIDENCES, *OF_PROBABILITIES)) or any(FIELD not in row for row in rows):
            return {}
        probabilities = torch.tensor([row[FIELD] for row in rows], dtype=torch.float32)
        labels, best = (torch.tensor([row[key] for row in rows]) for key in ("label_index", "index"))
        values = true_label_inputs(probabilities, labels, needed)
        values[CONFIDENCES] = probabilities.gather(1, best[:, None]).squeeze(1)
        inputs = {name: value.numpy() for name, value in values.items()}
        return {LABEL_NAMES: range(probabilities.shape[1]), TOP_K: self.top_k, **inputs}

    def row_contributions(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:  # noqa: ARG002
        """Return the sums of a row for accuracy."""
        return {"accuracy": (float(row["label"] == row["prediction"]), 1.0)}


def _place(label: Any, choices: list[str]) -> int | None:
    """Return the number of the right choice; None if the label is not a choice."""
    if isinstance(label, str) and label in choices:
        return choices.index(label)
    number = int(label) if isinstance(label, int) or str(label).isdecimal() else -1
    return number if 0 <= number < len(choices) else None


def _rows(rows: Dataset) -> Iterator[tuple[Any, list[str]]]:
    """Yield the label and the choices of each row that has both."""
    if "label" in rows.column_names and "choices" in rows.column_names:
        columns = (arrow_column(rows, name).to_pylist() for name in ("label", "choices"))
        yield from ((label, choices) for label, choices in zip(*columns, strict=True) if label is not None and choices)


def _hold_texts(rows: Dataset) -> bool:
    """Return whether the choices of a split, and their names, are lists of texts."""
    present = (rows.features[name] for name in ("choices", _CHOICE_LABELS) if name in rows.column_names)
    return all(KINDS["texts"].fits(feature) for feature in present)


def _check_numbers(splits: DatasetDict) -> None:
    """Raise ConfigError if labels are names such as A, numbers from 1, or numbers as well as texts of choices."""
    rows = [row for split_rows in splits.values() for row in _rows(split_rows)]
    labels = [(label, choices) for label, choices in rows if label not in choices]
    numbers = [(int(label), choices) for label, choices in labels if str(label).isdecimal()]
    names = [(label, choices) for label, choices in labels if str(label).strip() and not str(label).isdecimal()]
    if 2 * len(names) > len(rows):  # fewer may be errors of single rows
        text = f"{KEY} is required: labels such as {preview(names[0][0])} are neither indices nor texts of choices"
        letters = string.ascii_uppercase[: len(names[0][1])]
        hint = (
            f"name the choices in their order, e.g. {KEY}=[{','.join(letters)}]\n"
            f"if each row names its choices, set dataset.columns.{_CHOICE_LABELS}=COLUMN"
        )
        raise ConfigError(Problem("dataset.labels", text, hint))
    if any(number == len(choices) for number, choices in numbers) and all(number > 0 for number, _ in numbers):
        max_number = max(number for number, _ in numbers)
        hint = f"set {KEY}=[{','.join(map(str, range(1, max_number + 1)))}]"
        text = f"{KEY} is required: the labels are 1 to {max_number}, but indices of choices count from 0"
        raise ConfigError(Problem("dataset.labels", text, hint))
    texts = [(label, choices) for label, choices in rows if label in choices]
    indices = [int(label) if label.isdecimal() else len(choices) for label, choices in texts]
    pairs = [*zip(indices, texts, strict=True)]
    ambiguous = [row for i, row in pairs if i < len(row[1]) and row[1].index(row[0]) != i]
    are_texts = len(texts) == len(rows) and any(i >= len(choices) for i, (_, choices) in pairs)
    if ambiguous and not are_texts:
        label, choices = ambiguous[0]
        text = f"the label {label!r} is ambiguous: a choice of {preview(choices)}, and the index of another"
        hint = f"for indices, set {KEY}=[{','.join(map(str, range(len(choices))))}]"
        raise ConfigError(Problem("dataset.labels", text, hint))


def _with_choices(rows: Dataset, names: Sequence[str] | None) -> Dataset:
    """Return `rows` with the text of the right choice instead of its name.

    Args:
        rows: Rows with labels that are names of choices.
        names: Names of the choices in their order; None to take them from the column `choice_labels` of each row.
    """
    from datasets import Value

    column_names = [name for name in ("label", "choices", _CHOICE_LABELS) if name in rows.column_names]
    choice_names = (
        arrow_column(rows, _CHOICE_LABELS).to_pylist() if _CHOICE_LABELS in column_names else [names] * len(rows)
    )
    rows = rows.remove_columns(_CHOICE_LABELS) if _CHOICE_LABELS in column_names else rows
    if not {"label", "choices"} <= {*column_names}:
        return rows
    source = "dataset.labels" if names else _CHOICE_LABELS

    def text(label: Any, choices: list[str], row_names: Sequence[Any]) -> Any:
        if label is None or not str(label).strip():
            return None
        is_clear = names or len({*row_names}) == len(row_names) == len(choices)
        choice = dict(zip(row_names, choices, strict=False)).get(label_text(label)) if is_clear else None
        if choice is None and not (names and label in choices):
            return f"{label} (not in {source})"
        return label if choice is None else choice

    columns = (arrow_column(rows, "label").to_pylist(), arrow_column(rows, "choices").to_pylist(), choice_names)
    texts = [text(label, choices or [], row_names or []) for label, choices, row_names in zip(*columns, strict=True)]
    return rows.remove_columns("label").add_column("label", texts, feature=Value("string"))


def _grouped(values: list[Any], size: int) -> list[list[Any]]:
    return [values[i : i + size] for i in range(0, len(values), size)]
