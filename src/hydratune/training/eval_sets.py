"""Evaluation on several named validation or test sets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hydratune.data.eval_sets import set_prefix, sets_of
from hydratune.tasks.base import EncodedData, EvalSplit, Task
from hydratune.tasks.metrics.over_sets import over_sets

if TYPE_CHECKING:
    from transformers import EvalPrediction, Trainer
    from transformers.trainer_utils import PredictionOutput

_RUNTIME = "runtime"
_NOTHING: Mapping[str, float] = MappingProxyType({})


def scorer(task: Task, evaluated: EvalSplit) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return the function that Trainer calls with the predictions of one split."""
    return functools.partial(task.compute_metrics, evaluated=evaluated)


def eval_splits(encoded: EncodedData, kind: str, tuned: Mapping[str, float] = _NOTHING) -> dict[str, EvalSplit]:
    """Return set -> its rows, for the validation or test sets; a single set has an empty name.

    Args:
        encoded: Inputs of the model.
        kind: `validation` or `test`.
        tuned: Values that were tuned on validation.
    """
    splits = sets_of(encoded.splits, kind)
    return {name: EvalSplit(encoded.splits[split], encoded.head, tuned) for name, split in splits.items()}


@dataclass(frozen=True)
class Evaluated:
    """Result of an evaluation.

    Args:
        metrics: Metrics of all sets under Trainer's names, with the summaries over sets first.
        outputs: Set -> output of Trainer.
        splits: Set -> its rows as inputs of the model.
    """

    metrics: dict[str, float]
    outputs: Mapping[str, PredictionOutput]
    splits: Mapping[str, EvalSplit]

    def rows(self) -> EvalSplit:
        """Return the rows of all sets, one set after the other."""
        from datasets import concatenate_datasets

        first, *others = self.splits.values()
        return replace(first, rows=concatenate_datasets([first.rows, *(split.rows for split in others)]))


@dataclass(frozen=True)
class EvalSets:
    """Validation or test sets, evaluated one after the other.

    Args:
        task: Task of the run.
        splits: Set -> its rows as inputs of the model; a single set may have an empty name.
    """

    task: Task
    splits: Mapping[str, EvalSplit]

    def predict(self, trainer: Trainer, prefix: str, **options: Any) -> Evaluated:
        """Return the metrics of all sets with the summaries over sets, and the predictions.

        Args:
            trainer: Trainer with the model.
            prefix: Prefix of the names of metrics: `eval` or `test`.
            options: More arguments of `Trainer.predict`.
        """
        outputs, own = {}, trainer.compute_metrics
        try:
            for name, split in self.splits.items():
                trainer.compute_metrics = scorer(self.task, split)
                outputs[name] = trainer.predict(split.rows, metric_key_prefix=set_prefix(prefix, name), **options)
        finally:
            trainer.compute_metrics = own
        metrics = {key: value for output in outputs.values() for key, value in output.metrics.items()}
        return Evaluated({**self._summaries(outputs, prefix), **metrics}, outputs, self.splits)

    def _summaries(self, outputs: Mapping[str, PredictionOutput], prefix: str) -> dict[str, float]:
        """Return the means over sets, the values of the worst set, and the time of all sets."""
        if "" in outputs:  # one set without a name
            return {}
        by_set = {
            name: {key.removeprefix(f"{set_prefix(prefix, name)}_"): value for key, value in output.metrics.items()}
            for name, output in outputs.items()
        }
        values = {f"{prefix}_{name}": value for name, value in over_sets(by_set, self.task.metric)}
        return values | {f"{prefix}_{_RUNTIME}": sum(metrics[_RUNTIME] for metrics in by_set.values())}
