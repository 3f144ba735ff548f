"""Gradient accumulation with exact losses, over micro-batches, devices, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import Seq2SeqTrainer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hydratune.data.columns import ROW_WEIGHT
from hydratune.models.parameters import unwrap_adapter
from hydratune.tasks.losses import Loss

Batch = Mapping[str, torch.Tensor]


class GradientAccumulationMixin(Seq2SeqTrainer):
    """Mixin that makes a step over micro-batches equal to a step over the whole batch.

    The mean loss of each micro-batch counts in proportion to the labels or rows that it averages over.

    Upstream passes the number of labels in the whole batch to the model, which has to divide by it. Upstream assumes
    that a model does so if its `forward` accepts arbitrary keywords. BERT's heads, T5, and many others accept the
    number but divide by their own count. Their gradient is then too large by a factor of the number of micro-batches.
    For GPT-2, the number includes one label too many per row, so the loss is too small. With this mixin, a model
    averages over its own micro-batch and never receives the number.
    """

    loss: Loss | None = None  # loss of the task; None for the model's own loss, or upstream's label smoothing

    # Labels or rows of the step, or their weights, averaged over devices; None if the loss is not rescaled.
    _whole: torch.Tensor | None = None

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        return super()._get_num_items_in_batch(batch_samples, device) if self._is_upstreams else None

    @property
    def _is_upstreams(self) -> bool:
        """Return whether upstream normalizes the loss: for the user's loss function, or for several GPUs."""
        return self.compute_loss_func is not None or self.args.n_gpu > 1

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """Return the micro-batches of a step, and the number of labels if upstream normalizes the loss."""
        micro_batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._whole = None
        # A single micro-batch on one device needs no scaling: its mean is that of the whole batch.
        if not self._is_upstreams and len(micro_batches) * self.args.world_size > 1:
            total = torch.as_tensor(
                sum(self._counted(micro_batch) for micro_batch in micro_batches), dtype=torch.float, device=device
            )
            self._whole = self.accelerator.gather(total).mean()  # gradients are averaged over devices
        return micro_batches, num_items

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss; for a micro-batch in training, scaled by its share of the step."""
        if self.loss is not None:
            return self._task_loss(self.loss, model, inputs, *args, **kwargs)
        if self._whole is None or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        num_items = self._counted(inputs)
        if not num_items:  # the mean over no labels is NaN, and NaN times zero remains NaN
            inputs = {**inputs, "labels": torch.zeros_like(inputs["labels"])}
        # Means over micro-batches, each times its share, add up to the mean over the whole batch.
        share = num_items / self._whole * self.current_gradient_accumulation_steps  # upstream divides by this number
        return super().compute_loss(model, inputs, *args, **kwargs) * share

    def _task_loss(
        self,
        loss: Loss,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002 (it is None: the loss counts its items)
    ) -> Any:
        """Return the weighted mean loss of the task; for a micro-batch in training, its part of that of the step."""
        outputs = model(**{name: value for name, value in inputs.items() if name not in ("labels", ROW_WEIGHT)})
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        weighted_sum = loss.weighted_sum(logits, inputs, self.args.label_smoothing_factor)
        if self._whole is None or not model.training:
            total = loss.total_weight(inputs)
        else:
            total = self._whole / self.current_gradient_accumulation_steps  # upstream divides by this number
        mean = weighted_sum / total.where(total > 0, 1)  # the sum over no weight is 0
        return (mean, outputs) if return_outputs else mean

    def _set_signature_columns_if_needed(self) -> None:
        """Add the weights of rows to the columns that are not dropped."""
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if self.loss is not None and ROW_WEIGHT not in columns:
            columns.append(ROW_WEIGHT)

    def _counted(self, batch: Batch) -> torch.Tensor | int:
        """Count the items that the loss averages over: labels that are not ignored (-100), or rows.

        With a loss of the task, their weights are counted.
        """
        if self.loss is not None:
            return self.loss.total_weight(batch)
        labels = batch.get("labels")
        if labels is None or labels.is_floating_point():
            return len(next(iter(batch.values())))
        return (labels[..., 1:] if self._predicts_next else labels).ne(-100).sum()

    @cached_property
    def _predicts_next(self) -> bool:
        """Return whether the model shifts labels, so that no row's first label counts; upstream misses GPT-2."""
        network = unwrap_adapter(self.accelerator.unwrap_model(self.model))
        return self._loss_shifts_labels or type(network).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
