"""Our Trainer."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Sampler
from transformers.trainer_utils import has_length

from hydratune.training.guard import GuardedTrainer
from hydratune.training.parts import StepsOfParts
from hydratune.training.sampler import LengthGroupedSampler, lengths


class Trainer(GuardedTrainer, StepsOfParts):
    """Hugging Face's `Seq2SeqTrainer`, which is `Trainer` where nothing is generated, made exact and safe.

    Rows that are grouped by length come in an order that a resumed run finds again. Evaluation comes in the order of
    the rows: upstream shuffles it where training groups rows by length, and then predictions could not be held
    against their rows.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not has_length(rows):
            return super()._get_train_sampler(train_dataset)
        names = getattr(self.processing_class, "model_input_names", ["input_ids"])
        known = lengths(rows, names[0])
        if known is None:
            return super()._get_train_sampler(train_dataset)
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(known, together, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """None: rows come in the order of the dataset."""
