"""Trainer mixin for several validation sets."""

from __future__ import annotations

from typing import Any

from transformers import Seq2SeqTrainer

from hydratune.training.eval_sets import EvalSets


class EvalSetsMixin(Seq2SeqTrainer):
    """Mixin that evaluates several validation sets together.

    Upstream logs each set alone and calls the callbacks after each, so early stopping and pruning would see metrics of
    one set. With this mixin, they get the metrics of all sets and their summaries together.
    """

    validation_sets: EvalSets | None = None  # sets of an evaluation; None for upstream's `eval_dataset`

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Return the metrics of all validation sets, log them, and call the callbacks once."""
        if self.validation_sets is None or eval_dataset is not None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix, **gen_kwargs)
        options = {"ignore_keys": ignore_keys, **gen_kwargs}
        metrics = self.validation_sets.predict(self, metric_key_prefix, **options).metrics
        self.log(metrics)
        trainer: Any = self  # upstream does not annotate `control`
        trainer.control = self.callback_handler.on_evaluate(self.args, self.state, trainer.control, metrics)
        return metrics
