"""What the tasks share that give each row one label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.rows import BadRow
from hydratune.tasks.base import Evaluated, Task, column_values
from hydratune.tasks.labels import named_labels, unknown_labels

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from datasets import Dataset, DatasetDict
    from transformers import EvalPrediction


@dataclass(kw_only=True)
class OneLabel(Task):
    """A task with a column `label`: a string, an id or a truth value."""

    known_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "macro_f1", "matthews_correlation")
    shares: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "macro_f1")
    needs_names: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    objective: str = "eval_accuracy"

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Adds: labels that are none of the known ones."""
        yield from super().bad_rows(splits, label_names)
        yield from unknown_labels(splits, label_names)

    def relabelled(self, rows: Dataset, own: list[str] | None, trained: list[str]) -> Dataset:
        """Labels by their names."""
        return named_labels(rows, own, trained)

    def reduce_logits(self, logits: Any, labels: Any) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ARG002
        """(batch, labels) -> (batch,) the best label and (batch,) its probability."""
        scores = logits[0] if isinstance(logits, tuple) else logits
        best = scores.float().softmax(dim=-1).max(dim=-1)
        return best.indices, best.values

    def compute_metrics(self, prediction: EvalPrediction, evaluated: Evaluated) -> dict[str, float]:
        """The metrics that the config names."""
        return self._scores(prediction.label_ids, prediction.predictions[0], evaluated.head["num_labels"])

    def say(self, predictions: Any, evaluated: Evaluated) -> Iterable[Mapping[str, Any]]:
        """The name of the predicted label and its probability."""
        names = evaluated.head["id2label"]
        for best, probability in zip(*predictions, strict=True):
            yield {"prediction": names[int(best)], "probability": float(probability)}

    def decode(self, prediction: EvalPrediction, evaluated: Evaluated) -> Iterable[Mapping[str, Any]]:
        """The names of the true and of the predicted label."""
        names = evaluated.head["id2label"]
        for label, said in zip(prediction.label_ids, self.say(prediction.predictions, evaluated), strict=True):
            yield {"label": names[int(label)], **said}

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:
        """The confusion matrix, and the scores of each label."""
        from hydratune.tasks.tables import one_label

        true, said = column_values(rows, "label", "prediction")
        return one_label(true, said, [*head["id2label"].values()])

    def rescore(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
        """The metrics that the config names."""
        return self._scores(*_ids(rows, names), len(names))

    def ratios(self, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Accuracy, and the F1 of two labels, which is that of the second."""
        right = row["label"] == row["prediction"]
        found = {"accuracy": (float(right), 1.0)}
        if len(names) == 2:
            is_true, is_said = (row[key] == names[1] for key in ("label", "prediction"))
            found["f1"] = (2.0 * (is_true and is_said), float(is_true + is_said))
        return found

    def resampled(
        self, metric: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Callable[[Sequence[int]], float]:
        """Looks the ids up once."""
        true, said = _ids(rows, names)
        alone = replace(self, metrics=[metric])
        return lambda numbers: alone._scores(true[numbers], said[numbers], len(names))[metric]

    def _scores(self, true: Any, said: Any, count: int) -> dict[str, float]:
        """The metrics of (rows,) ids of `count` labels."""
        from hydratune.tasks.metrics import CLASSIFICATION

        return {name: float(CLASSIFICATION[name]().score(true, said, count)) for name in self.metrics}


def _ids(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[Any, Any]:
    """(rows,) ids of the true and of the predicted labels of decoded rows."""
    import numpy as np

    ids = {name: i for i, name in enumerate(names)}
    return np.array([ids[row["label"]] for row in rows]), np.array([ids[row["prediction"]] for row in rows])
