"""Our Trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler
from transformers.trainer_utils import has_length

from hydratune.training.guard import GuardedTrainer
from hydratune.training.sampler import LengthGroupedSampler, lengths


class Trainer(GuardedTrainer):
    """Hugging Face's `Seq2SeqTrainer`, which is `Trainer` where nothing is generated, and which saves as it should.

    A step whose batch comes in parts, one after the other or on several devices, is the step over the whole batch:
    each part's loss counts by what it is the mean of. Upstream leaves that to the network, and many, BERT's heads
    among them, do not do it: their gradient is then the sum of that of the parts.

    Rows that are grouped by length come in an order that a resumed run finds again. Evaluation comes in the order of
    the rows: upstream shuffles it where training groups rows by length, and then predictions could not be held
    against their rows.
    """

    _whole: torch.Tensor | None = None  # of what the loss of a step is the mean; None where it is one part

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

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The parts of a step, and None for upstream's count, which not all networks use."""
        parts, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._whole = None
        if self.compute_loss_func is not None or self.args.n_gpu > 1 or len(parts) * self.args.world_size < 2:
            return parts, count
        total = torch.as_tensor(sum(self._counted(part) for part in parts), dtype=torch.float, device=device)
        self._whole = self.accelerator.gather(total).mean()  # DDP takes the mean over devices
        return parts, None

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss, of a part times its share of the step's batch."""
        if self._whole is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        share = self._counted(inputs) / self._whole.clamp(min=1)
        # training_step divides by the number of parts
        return super().compute_loss(model, inputs, *args, **kwargs) * share * self.current_gradient_accumulation_steps

    def _counted(self, batch: Mapping[str, Any]) -> torch.Tensor | int:
        """How many things a loss is the mean of: labels that are not ignored, or rows."""
        labels = batch.get("labels")
        if isinstance(labels, torch.Tensor) and not labels.is_floating_point():
            return (labels[..., 1:] if self._loss_shifts_labels else labels).ne(-100).sum()
        return len(next(iter(batch.values())))

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        """None: rows come in the order of the dataset."""
