"""What the tasks share that give each row one label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.label_names import LabelNames
from hydratune.data.rows import BadRow
from hydratune.tasks.base import Evaluated, Task, column_values
from hydratune.tasks.labels import name_labels, named_labels, unknown_labels

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

    def name_labels(self, splits: DatasetDict, names: LabelNames) -> tuple[DatasetDict, list[str] | None]:
        """Names of the values of `label`."""
        return name_labels(splits, names)

    def relabelled(self, rows: Dataset, own: LabelNames, trained: list[str]) -> Dataset:
        """Labels by their names."""
        return named_labels(rows, own, trained)

    def reduce_logits(self, logits: Any, labels: Any) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ARG002
        """(batch, labels) -> (batch,) the best label and (batch,) its probability."""
        scores = logits[0] if isinstance(logits, tuple) else logits
        best = scores.float().softmax(dim=-1).max(dim=-1)
        return best.indices, best.values

    def compute_metrics(self, prediction: EvalPrediction, evaluated: Evaluated) -> dict[str, float]:
        """The metrics that the config names."""
        names, true = [*evaluated.head["id2label"].values()], prediction.label_ids
        if (true_names := evaluated.true_names()) is not None:
            true = _true_ids(true_names, names)
        return self._scores(true, prediction.predictions[0], len(names))

    def say(self, predictions: Any, evaluated: Evaluated) -> Iterable[Mapping[str, Any]]:
        """The name of the predicted label and its probability."""
        names = evaluated.head["id2label"]
        for best, probability in zip(*predictions, strict=True):
            yield {"prediction": names[int(best)], "probability": float(probability)}

    def decode(self, prediction: EvalPrediction, evaluated: Evaluated) -> Iterable[Mapping[str, Any]]:
        """The names of the true and of the predicted label."""
        names = evaluated.head["id2label"]
        true = evaluated.true_names() or [names[int(label)] for label in prediction.label_ids]
        for label, said in zip(true, self.say(prediction.predictions, evaluated), strict=True):
            yield {"label": label, **said}

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:
        """The confusion matrix, and the scores of each label."""
        from hydratune.tasks.tables import one_label

        true, said = column_values(rows, "label", "prediction")
        return one_label(true, said, list(dict.fromkeys([*head["id2label"].values(), *true])))

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


def _true_ids(true: Sequence[str], names: Sequence[str]) -> Any:
    """(rows,) ids of labels; those that the head does not have follow its own, so that no prediction is right."""
    import numpy as np

    ids = {name: i for i, name in enumerate(dict.fromkeys((*names, *true)))}
    return np.array([ids[name] for name in true])


def _ids(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[Any, Any]:
    """(rows,) ids of the true and of the predicted labels of decoded rows."""
    import numpy as np

    true, predicted = column_values(rows, "label", "prediction")
    ids = {name: i for i, name in enumerate(names)}
    return _true_ids(true, names), np.array([ids[name] for name in predicted])
