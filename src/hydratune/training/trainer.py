"""Our Trainer."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import find_batch_size, recursively_apply, slice_tensors
from torch import nn
from torch.utils.data import RandomSampler, Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler
from transformers.trainer_utils import EvalLoopOutput, has_length

from hydratune.training.guard import GuardedTrainer
from hydratune.training.parts import StepsOfParts
from hydratune.training.sampler import LengthGroupedSampler, ShuffledSampler, lengths, seeded_generator


class Trainer(GuardedTrainer, StepsOfParts):
    """Hugging Face's `Seq2SeqTrainer`, which is `Trainer` where nothing is generated, made exact and safe.

    Rows that are grouped by length come in an order that a resumed run finds again. Evaluation comes in the order of
    the rows: upstream shuffles it where training groups rows by length, and then predictions could not be held
    against their rows. Several processes score the rows that one would.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.fsdp and not self.is_fsdp_enabled:
            raise ValueError("fsdp without GPUs, where accelerate would leave all weights whole and not say so")

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """Returns a sampler whose order depends on the data seed and the epoch alone."""
        args, rows = self.args, self.train_dataset if train_dataset is None else train_dataset
        seed = args.seed if args.data_seed is None else args.data_seed
        strategy = args.train_sampling_strategy
        if has_length(rows) and strategy == "group_by_length":
            names = getattr(self.processing_class, "model_input_names", ["input_ids"])
            tokens = lengths(rows, names[0])
            if tokens is not None:
                size, parts = args.train_batch_size * args.world_size, args.gradient_accumulation_steps
                return LengthGroupedSampler(tokens, size, seed, parts, args.dataloader_drop_last)
        sampler: Any = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, RandomSampler):  # accelerate would seed it with the sum of seed and epoch
            return ShuffledSampler(len(rows), seed)
        if isinstance(sampler, BatchRebalanceSampler):  # it adds the epoch to a seed that upstream leaves at 42
            sampler.seed = seeded_generator(seed).initial_seed()
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """None: rows come in the order of the dataset."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """What upstream's returns, without the rows that fill up the last batch of several processes."""
        self.gather_function = self.accelerator.gather_for_metrics  # `Seq2SeqTrainer` keeps them
        return super().evaluation_loop(*args, **kwargs)

    def prediction_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """What upstream's returns, with the loss of a process's own rows and not of those that fill up its batch."""
        if self.args.world_size == 1:
            return super().prediction_step(model, inputs, *args, **kwargs)
        count = find_batch_size(inputs)
        own = slice(self._own_rows(count))
        loss, logits, labels = super().prediction_step(model, slice_tensors(inputs, own), *args, **kwargs)
        return loss, _filled(logits, count), _filled(labels, count)

    def _own_rows(self, count: int) -> int:
        """How many of the `count` rows of a batch are no repeated ones; 1 where all are, since a network needs one."""
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return count
        return min(max(state.remainder - self.args.process_index * count, 1), count)


def _filled(tensors: Any, count: int) -> Any:
    """Tensors of `count` rows, the first of which is repeated at the end; they are dropped when all are gathered."""
    return recursively_apply(lambda one: torch.cat([one, one[:1].expand(count - len(one), *one.shape[1:])]), tensors)
