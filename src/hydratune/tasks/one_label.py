"""What the tasks share that give each row one label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from hydratune.data.rows import BadRow
from hydratune.tasks.base import Evaluated, Task, column_values
from hydratune.tasks.labels import unknown_labels

if TYPE_CHECKING:
    import pandas as pd
    from datasets import DatasetDict
    from transformers import EvalPrediction


@dataclass(kw_only=True)
class OneLabel(Task):
    """A task with a column `label`: a string, an id or a truth value."""

    known_metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "macro_f1", "matthews_correlation")

    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    objective: str = "eval_accuracy"

    def bad_rows(self, splits: DatasetDict, label_names: list[str] | None) -> Iterator[BadRow]:
        """Adds: labels that are none of the known ones."""
        yield from super().bad_rows(splits, label_names)
        yield from unknown_labels(splits, label_names)

    def compute_metrics(self, prediction: EvalPrediction, evaluated: Evaluated) -> dict[str, float]:
        """The metrics that the config names."""
        from hydratune.tasks.metrics import CLASSIFICATION

        pairs = {"predictions": prediction.predictions, "references": prediction.label_ids}
        count = evaluated.head["num_labels"]
        return {name: CLASSIFICATION[name]().compute(**pairs, num_labels=count)[name] for name in self.metrics}

    def decode(self, prediction: EvalPrediction, evaluated: Evaluated) -> Iterable[Mapping[str, Any]]:
        """The names of the true and of the predicted label."""
        names = evaluated.head["id2label"]
        for label, said in zip(prediction.label_ids, prediction.predictions, strict=True):
            yield {"label": names[int(label)], "prediction": names[int(said)]}

    def tables(self, rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> Mapping[str, pd.DataFrame]:
        """The confusion matrix, and the scores of each label."""
        from hydratune.tasks.tables import one_label

        true, said = column_values(rows, "label", "prediction")
        return one_label(true, said, [*head["id2label"].values()])
