"""Steps whose batch comes in parts: one after the other, on several devices, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import Seq2SeqTrainer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

Batch = Mapping[str, torch.Tensor]


class GradientAccumulationMixin(Seq2SeqTrainer):
    """A step over parts is the step over the whole batch: each part's mean loss counts by what it is the mean of.

    Upstream hands the number of labels in the whole batch to the network, for it to divide by, and takes it for done
    where `forward` accepts any keyword. BERT's heads, T5 and many others accept it and divide by their own: the
    gradient is then as many times too large as there are parts. And for GPT-2 the number has a label too many in each
    row, so that the loss is too small. Here a network takes the mean of its own part, and never sees a number.
    """

    _whole: torch.Tensor | None = None  # what the loss of the step's batch is the mean of; None where it is one part

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        return super()._get_num_items_in_batch(batch_samples, device) if self._is_upstreams else None

    @property
    def _is_upstreams(self) -> bool:
        """Whether the user brought a loss that wants the number, or there are GPUs whose losses upstream averages."""
        return self.compute_loss_func is not None or self.args.n_gpu > 1

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """The parts of a step."""
        parts, number = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._whole = None
        if not self._is_upstreams and len(parts) * self.args.world_size > 1:
            total = torch.as_tensor(sum(self._counted(part) for part in parts), dtype=torch.float, device=device)
            self._whole = self.accelerator.gather(total).mean()  # gradients are averaged over devices
        return parts, number

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss; of a part, times its share in the step."""
        if self._whole is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        own = self._counted(inputs)
        if not own:  # the mean of nothing is no number, whose gradient no factor makes zero
            inputs = {**inputs, "labels": torch.zeros_like(inputs["labels"])}
        share = own / self._whole * self.current_gradient_accumulation_steps  # upstream divides by it
        return super().compute_loss(model, inputs, *args, **kwargs) * share

    def _counted(self, batch: Batch) -> torch.Tensor | int:
        """How many things a loss is the mean of: labels that are not ignored, or rows."""
        labels = batch.get("labels")
        if labels is None or labels.is_floating_point():
            return len(next(iter(batch.values())))
        return (labels[..., 1:] if self._predicts_next else labels).ne(-100).sum()

    @cached_property
    def _predicts_next(self) -> bool:
        """Whether the network shifts labels, so that no row's first one counts; upstream misses GPT-2."""
        network: Any = self.accelerator.unwrap_model(self.model)
        network = network.get_base_model() if hasattr(network, "get_base_model") else network  # below an adapter
        return self._loss_shifts_labels or type(network).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
