"""Our Trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import find_batch_size, recursively_apply, slice_tensors
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler
from transformers.trainer_pt_utils import LengthGroupedSampler as UpstreamsLengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, has_length

from hydratune.config.configurable import Configurable
from hydratune.training.precision import full_precision
from hydratune.training.trainer.accumulation import GradientAccumulationMixin
from hydratune.training.trainer.nan_guard import NanGuardMixin
from hydratune.training.trainer.sampler import LengthGroupedSampler, ShuffledSampler, lengths
from hydratune.utils.rng import seeded_generator


class Trainer(NanGuardMixin, GradientAccumulationMixin, Configurable):
    """Hugging Face's `Seq2SeqTrainer`, which is `Trainer` where nothing is generated, made exact and safe.

    The order of training rows depends on the data seed and the epoch alone. Evaluation reads all rows in their order:
    upstream shuffles them where training groups rows by length, so that predictions could not be compared with their
    rows. The scores and the loss of several processes are those of one, at any batch size.
    """

    eval_precision: str | None = None  # `fp32` for evaluation without autocast

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._losses: list[torch.Tensor] = []  # of the batches of the evaluation in progress
        self._counts: list[torch.Tensor | int] = []  # labels or rows that each of these losses is the mean of
        self._divisor: torch.Tensor | int | None = None  # what a loss function of the user divides by
        super().__init__(*args, **kwargs)
        if self.args.fsdp and not self.is_fsdp_enabled:
            raise ValueError("fsdp without GPUs, where accelerate would leave all weights whole and not say so")

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """Returns a sampler whose order depends on the data seed and the epoch alone."""
        args, rows = self.args, self.train_dataset if train_dataset is None else train_dataset
        seed = args.seed if args.data_seed is None else args.data_seed
        strategy = args.train_sampling_strategy

        def grouped(tokens: Sequence[int]) -> LengthGroupedSampler:
            size, parts = args.train_batch_size * args.world_size, args.gradient_accumulation_steps
            return LengthGroupedSampler(tokens, size, seed, parts, args.dataloader_drop_last)

        if has_length(rows) and strategy == "group_by_length":
            names = getattr(self.processing_class, "model_input_names", ["input_ids"])
            tokens = lengths(rows, names[0])
            if tokens is not None:
                return grouped(tokens)
        sampler: Any = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, RandomSampler):  # accelerate would seed it with the sum of seed and epoch
            return ShuffledSampler(len(rows), seed)
        if isinstance(sampler, UpstreamsLengthGroupedSampler):  # of rows that are no `datasets.Dataset`
            return grouped(sampler.lengths)
        if isinstance(sampler, BatchRebalanceSampler):  # it adds the epoch to a seed that upstream leaves at 42
            sampler.seed = seeded_generator(seed).initial_seed()
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """None: rows come in the order of the dataset."""

    def _get_dataloader(self, *args: Any, is_training: bool = False, **kwargs: Any) -> DataLoader:
        """Returns upstream's DataLoader; `dataloader_drop_last` applies to training alone."""
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last and is_training
        try:
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last = drop_last

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Returns upstream's output without the rows that fill up the last batch, and with the mean loss.

        The loss is the mean over all counted labels, or over all rows. Upstream takes the mean of batch means, which
        depends on the batch size, and leaves out batches whose loss is not finite. The losses that balance the load of
        experts are for training alone: their value depends on the batch, too.
        """
        self.gather_function = self.accelerator.gather_for_metrics  # `Seq2SeqTrainer` keeps these rows
        self._losses, self._counts = [], []
        with _without_router_losses(self.model):
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if f"{metric_key_prefix}_loss" in output.metrics:
            loss = self._mean_loss()
            if math.isnan(loss) and not any(self._counts):  # the model has none of the labels, so there is no loss
                del output.metrics[f"{metric_key_prefix}_loss"]
            else:
                output.metrics[f"{metric_key_prefix}_loss"] = loss
        return output

    def _mean_loss(self) -> float:
        """The mean loss of the evaluation of all processes."""
        # (2,): the sum of losses and the count; in double precision on the CPU, since MPS has none.
        counts = torch.stack([torch.as_tensor(count, dtype=torch.float64, device="cpu") for count in self._counts])
        losses = torch.stack(self._losses).cpu().double()
        counted = counts > 0  # the loss of a batch without any counted label is 0 / 0
        totals = torch.stack([(losses[counted] * counts[counted]).sum(), counts.sum()])
        if self.args.world_size > 1:
            totals = self.accelerator.reduce(totals.to(self.args.device), "sum")
        return (totals[0] / totals[1]).item()

    def prediction_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """Returns upstream's loss, logits, and labels; the loss is that of the rows that do not fill up the batch."""
        count = find_batch_size(inputs)
        own = self._own_rows(count) if self.args.world_size > 1 else count
        # A model needs a row, also in a process that has only repeated ones.
        rows = slice_tensors(inputs, slice(max(own, 1))) if own < count else inputs
        counted = self._counted(rows) if own else 0  # before the step, which may remove labels from its inputs
        self._divisor = None
        with full_precision(self.model) if self.eval_precision else nullcontext():
            loss, logits, labels = super().prediction_step(model, rows, *args, **kwargs)
        if loss is not None:
            if self._divisor is not None and own:  # it counts the labels of all processes, and the loss is scaled up
                processes = self.args.world_size if self.args.average_tokens_across_devices else 1
                loss = loss * self._divisor / (counted * processes)
            self._losses.append(loss)
            self._counts.append(counted)
        return (loss, *((logits, labels) if own == count else (_filled(one, count) for one in (logits, labels))))

    def _get_num_items_in_batch(self, *args: Any) -> Any:
        self._divisor = super()._get_num_items_in_batch(*args)
        return self._divisor

    def _own_rows(self, count: int) -> int:
        """The number of the `count` rows of a batch that do not repeat others to fill up the last batch."""
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return count
        return min(max(state.remainder - self.args.process_index * count, 0), count)


@contextmanager
def _without_router_losses(model: nn.Module) -> Iterator[None]:
    """Let mixtures of experts return the loss of their labels alone.

    With `output_router_logits`, models add the load-balancing loss of a batch to its loss in evaluation, too.
    """
    configs = {id(config): config for one in model.modules() if (config := getattr(one, "config", None)) is not None}
    active = [config for config in configs.values() if getattr(config, "output_router_logits", None) is True]
    for config in active:
        config.output_router_logits = False
    try:
        yield
    finally:
        for config in active:
            config.output_router_logits = True


def _filled(tensors: Any, count: int) -> Any:
    """Tensors of `count` rows: the first row is repeated at the end, where it is dropped once all are gathered."""
    return recursively_apply(lambda one: torch.cat([one, one[:1].expand(count - len(one), *one.shape[1:])]), tensors)
