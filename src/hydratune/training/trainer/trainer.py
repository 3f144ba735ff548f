"""Hugging Face's Trainer with a reproducible row order and an exact evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers.trainer
from accelerate.utils import find_batch_size, recursively_apply, slice_tensors
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, Sampler
from transformers import trainer_utils
from transformers.trainer_pt_utils import BatchRebalanceSampler
from transformers.trainer_pt_utils import LengthGroupedSampler as UpstreamsLengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, has_length

from hydratune.config.configurable import Configurable
from hydratune.training.effective_precision import full_precision
from hydratune.training.trainer.accumulation import GradientAccumulationMixin
from hydratune.training.trainer.eval_sets import EvalSetsMixin
from hydratune.training.trainer.sampler import LengthGroupedSampler, ShuffledSampler, lengths
from hydratune.training.trainer.score_file import ScoreFile
from hydratune.training.trainer.unfreezing import UnfreezingMixin
from hydratune.utils import clock
from hydratune.utils.rng import seeded_generator

# Upstream subtracts two readings of `time.time` for its runtimes and speeds, which are wrong if the clock was set.
transformers.trainer.time = trainer_utils.time = clock


class Trainer(UnfreezingMixin, EvalSetsMixin, GradientAccumulationMixin, Configurable):
    """Hugging Face's `Seq2SeqTrainer`, made exact and safe; it acts as `Trainer` if nothing is generated.

    The order of training rows depends only on the data seed and the epoch. Evaluation reads all rows in their order.
    Upstream shuffles them if training groups rows by length, so that predictions could not be compared with their rows.
    Scores and loss of several processes equal those of one process, at any batch size.
    """

    compute_metrics: Any
    eval_precision: str | None = None  # `fp32` for evaluation without autocast

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._losses: list[torch.Tensor] = []  # batch losses of the current evaluation
        self._counts: list[torch.Tensor | int] = []  # labels or rows that each of these losses averages over
        self._divisor: torch.Tensor | int | None = None  # divisor of the user's loss function
        super().__init__(*args, **kwargs)
        if self.args.fsdp and not self.is_fsdp_enabled:
            raise ValueError("FSDP needs GPUs: on a CPU, accelerate would not shard the model")

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """Return a sampler whose order depends only on the data seed and the epoch."""
        args, rows = self.args, self.train_dataset if train_dataset is None else train_dataset
        seed = args.seed if args.data_seed is None else args.data_seed
        strategy = args.train_sampling_strategy

        def grouped(tokens: Sequence[int]) -> LengthGroupedSampler:
            size, accumulation_steps = args.train_batch_size * args.world_size, args.gradient_accumulation_steps
            return LengthGroupedSampler(tokens, size, seed, accumulation_steps, args.dataloader_drop_last)

        if has_length(rows) and strategy == "group_by_length":
            names = getattr(self.processing_class, "model_input_names", ["input_ids"])
            tokens = lengths(rows, names[0])
            if tokens is not None:
                return grouped(tokens)
        sampler: Any = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, RandomSampler):  # accelerate would seed it with the sum of seed and epoch
            return ShuffledSampler(len(rows), seed)
        if isinstance(sampler, UpstreamsLengthGroupedSampler):  # for rows that are not a `datasets.Dataset`
            return grouped(sampler.lengths)
        if isinstance(sampler, BatchRebalanceSampler):  # it adds the epoch to a seed that upstream leaves at 42
            sampler.seed = seeded_generator(seed).initial_seed()
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """Return None, so that rows come in the order of the dataset."""

    def _get_dataloader(self, *args: Any, is_training: bool = False, **kwargs: Any) -> DataLoader:
        """Return upstream's DataLoader; `dataloader_drop_last` applies only to training."""
        drop_last = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drop_last and is_training
        try:
            return super()._get_dataloader(*args, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last = drop_last

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Return upstream's output with the mean loss, and without the rows that fill up the last batch.

        The loss is the mean over all counted labels, or over all rows. Upstream averages batch means, which depends on
        the batch size, and omits batches with a non-finite loss. Load-balancing losses of mixtures of experts are only
        for training, because their value also depends on the batch.
        """
        self._losses, self._counts = [], []
        with _without_router_losses(self.model), self._scores_in_file():
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if f"{metric_key_prefix}_loss" in output.metrics:
            loss = self._mean_loss()
            if math.isnan(loss) and not any(self._counts):  # no label counts, so there is no loss
                del output.metrics[f"{metric_key_prefix}_loss"]
            else:
                output.metrics[f"{metric_key_prefix}_loss"] = loss
        return output

    @contextmanager
    def _scores_in_file(self) -> Iterator[None]:
        """Write matrices of probabilities to a file, and drop the rows that fill up the last batch.

        `Seq2SeqTrainer` does not drop these rows.
        """
        compute_metrics = self.compute_metrics
        with ScoreFile(Path(self.args.output_dir)) as scores:
            self.gather_function = lambda outputs: scores.take(self.accelerator.gather_for_metrics(outputs))
            self.compute_metrics = compute_metrics and scores.completing(compute_metrics)
            try:
                yield
            finally:
                self.compute_metrics = compute_metrics
                self.gather_function = self.accelerator.gather_for_metrics

    def _mean_loss(self) -> float:
        """Return the mean loss of the evaluation over all processes."""
        # `totals` (2,): the sum of losses and the count, in double precision on the CPU, since MPS has none.
        counts = torch.stack([torch.as_tensor(count, dtype=torch.float64, device="cpu") for count in self._counts])
        losses = torch.stack(self._losses).cpu().double()
        counted = counts > 0  # the loss of a batch without any counted label is 0 / 0
        totals = torch.stack([(losses[counted] * counts[counted]).sum(), counts.sum()])
        if self.args.world_size > 1:
            totals = self.accelerator.reduce(totals.to(self.args.device), "sum")
        return (totals[0] / totals[1]).item()

    def prediction_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        """Return upstream's loss, logits, and labels; the loss leaves out rows that fill up the last batch."""
        count = find_batch_size(inputs)
        num_own = self._own_rows(count) if self.args.world_size > 1 else count
        # A model needs at least one row, even in a process that has only repeated rows.
        rows = slice_tensors(inputs, slice(max(num_own, 1))) if num_own < count else inputs
        counted = self._counted(rows) if num_own else 0  # before the step, which may remove labels from its inputs
        self._divisor = None
        with full_precision(self.model) if self.eval_precision else nullcontext():
            loss, logits, labels = super().prediction_step(model, rows, *args, **kwargs)
        if loss is not None:
            if self._divisor is not None and num_own:  # it counts labels of all processes, and the loss is scaled up
                processes = self.args.world_size if self.args.average_tokens_across_devices else 1
                loss = loss * self._divisor / (counted * processes)
            self._losses.append(loss)
            self._counts.append(counted)
        return (
            loss,
            *((logits, labels) if num_own == count else (_filled(tensors, count) for tensors in (logits, labels))),
        )

    def _get_num_items_in_batch(self, *args: Any) -> Any:
        self._divisor = super()._get_num_items_in_batch(*args)
        return self._divisor

    def _own_rows(self, count: int) -> int:
        """Count the rows of a batch of `count` rows that do not repeat others to fill up the last batch."""
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return count
        return min(max(state.remainder - self.args.process_index * count, 0), count)


@contextmanager
def _without_router_losses(model: nn.Module) -> Iterator[None]:
    """Make mixtures of experts return only the loss of their labels.

    With `output_router_logits`, models add the load-balancing loss of a batch to its loss in evaluation, too.
    """
    configs = {
        id(config): config for module in model.modules() if (config := getattr(module, "config", None)) is not None
    }
    active = [config for config in configs.values() if getattr(config, "output_router_logits", None) is True]
    for config in active:
        config.output_router_logits = False
    try:
        yield
    finally:
        for config in active:
            config.output_router_logits = True


def _filled(tensors: Any, count: int) -> Any:
    """Fill tensors up to `count` rows with copies of the first row, which are dropped after gathering."""
    return recursively_apply(
        lambda tensor: torch.cat([tensor, tensor[:1].expand(count - len(tensor), *tensor.shape[1:])]), tensors
    )
