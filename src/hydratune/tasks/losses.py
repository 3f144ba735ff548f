"""Losses of tasks: cross entropy, focal loss, and squared error, with weights of classes and rows.

A loss is a weighted mean: a sum over items, divided by their total weight. An item is a label that counts, or a row of
multi-label data. Trainer adds both numbers up over micro-batches and processes, so that a step and an evaluation have
the loss of one large batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.data.cache import arrow_column
from hydratune.data.columns import COLUMN, ROW_WEIGHT, BadRow, Column
from hydratune.tasks.tokenize import IGNORED

if TYPE_CHECKING:
    import torch
    from datasets import DatasetDict

WEIGHT_COLUMN = Column("number", required=False, target=True)  # of `ROW_WEIGHT`


# --- losses ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss(ABC):
    """Loss of a task, from logits and a batch with `labels` and perhaps `ROW_WEIGHT`.

    Args:
        focal_gamma: Exponent of the focal loss; None for cross entropy.
        label_weights: Weight of each label, in the order of the IDs; None for equal weights.
        has_row_weights: Whether batches may have weights of rows.
        balanced: Name of the setting -> label name -> weight, for weights that were computed from the training labels.
    """

    focal_gamma: float | None = None
    label_weights: tuple[float, ...] | None = None
    has_row_weights: bool = False
    balanced: Mapping[str, Mapping[str, float]] | None = None

    def is_upstreams(self, label_smoothing: float) -> bool:  # noqa: ARG002 (others need it)
        """Return whether models and Trainer compute the same loss by themselves."""
        return self.focal_gamma is None and self.label_weights is None and not self.has_row_weights

    @abstractmethod
    def total_weight(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the total weight of the items of a batch, a scalar."""

    @abstractmethod
    def weighted_sum(
        self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor], label_smoothing: float
    ) -> torch.Tensor:
        """Return the sum of the losses of the items of a batch, each times its weight, a scalar."""

    def _label_weights(self, like: torch.Tensor) -> torch.Tensor | None:
        """Return the (labels,) float32 weights on the device of another tensor."""
        import torch

        weights = self.label_weights
        return None if weights is None else torch.tensor(weights, dtype=torch.float32, device=like.device)

    def _focused(self, losses: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
        """Return the focal losses: each loss times (1 - p)^gamma, where p is the probability of the true label.

        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 4; `torchvision.ops.sigmoid_focal_loss`
        is the same for two classes.

        Args:
            losses: Cross entropy of each item, with weights and label smoothing.
            plain: Cross entropy without them, -log(p).
        """
        import torch

        if self.focal_gamma is None:
            return losses
        # The minimum keeps the gradient finite at p = 1 for exponents below 1.
        wrong = (-torch.expm1(-plain)).clamp(min=torch.finfo(plain.dtype).tiny)
        return losses * wrong**self.focal_gamma


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross entropy or focal loss over labels: `labels` (batch,) or (batch, tokens) int64, `IGNORED` not counted.

    The weight of a label is that of its class times that of its row, as in `torch.nn.functional.cross_entropy`.
    """

    def total_weight(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the total weight of the labels that count."""
        labels = batch["labels"]
        weights = labels.ne(IGNORED).float()
        if (label_weights := self._label_weights(labels)) is not None:
            weights = weights * label_weights[labels.clamp(min=0)]
        return _times_rows(weights, batch).sum()

    def weighted_sum(
        self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor], label_smoothing: float
    ) -> torch.Tensor:
        """Return the weighted sum of the losses of the labels; `logits` are (batch, ..., labels)."""
        from torch.nn import functional

        labels = batch["labels"]
        arguments = logits.float().flatten(0, -2), labels.flatten()
        losses = functional.cross_entropy(
            *arguments, self._label_weights(labels), reduction="none", label_smoothing=label_smoothing
        )
        if self.focal_gamma is not None:
            losses = self._focused(losses, functional.cross_entropy(*arguments, reduction="none"))
        return _times_rows(losses.view(labels.shape), batch).sum()


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Binary cross entropy or focal loss of multi-label rows: `labels` (batch, labels) float32 of 0 and 1.

    The loss of a row is the mean over labels. `label_weights` are `pos_weight` of
    `torch.nn.functional.binary_cross_entropy_with_logits`: factors of the terms of labels that a row has.
    """

    def is_upstreams(self, label_smoothing: float) -> bool:
        """Return whether models compute the same loss; Trainer cannot smooth the labels of several per row."""
        return super().is_upstreams(label_smoothing) and not label_smoothing

    def total_weight(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the total weight of the rows."""
        return _times_rows(batch["labels"].new_ones(len(batch["labels"])), batch).sum()

    def weighted_sum(
        self, logits: torch.Tensor, batch: Mapping[str, torch.Tensor], label_smoothing: float
    ) -> torch.Tensor:
        """Return the weighted sum of the losses of the rows; `logits` are (batch, labels).

        Label smoothing moves targets towards 0.5, as `label_smoothing` of Keras' `BinaryCrossentropy` does.
        """
        from torch.nn import functional

        logits, labels = logits.float(), batch["labels"].float()
        targets = labels * (1 - label_smoothing) + label_smoothing / 2
        cross_entropy = functional.binary_cross_entropy_with_logits
        losses = cross_entropy(logits, targets, pos_weight=self._label_weights(labels), reduction="none")
        if self.focal_gamma is not None:
            losses = self._focused(losses, cross_entropy(logits, labels, reduction="none"))
        return _times_rows(losses.mean(dim=-1), batch).sum()


@dataclass(frozen=True)
class SquaredError(Loss):
    """Squared error of rows: `labels` (batch,) float32 and logits (batch, 1)."""

    def total_weight(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the total weight of the rows."""
        return _times_rows(batch["labels"].new_ones(len(batch["labels"])), batch).sum()

    def weighted_sum(
        self,
        logits: torch.Tensor,
        batch: Mapping[str, torch.Tensor],
        label_smoothing: float,  # noqa: ARG002 (numbers are not smoothed)
    ) -> torch.Tensor:
        """Return the weighted sum of the squared errors of the rows."""
        return _times_rows((logits.float().squeeze(-1) - batch["labels"].float()) ** 2, batch).sum()


def _times_rows(values: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return (batch, ...) values times the (batch,) weights of their rows, if there are any."""
    weights = batch.get(ROW_WEIGHT)
    return values if weights is None else values * weights.to(values.dtype).view(-1, *[1] * (values.dim() - 1))


# --- rows ------------------------------------------------------------------------------------------------


def row_weights(batch: Mapping[str, list[Any]]) -> dict[str, list[float]]:
    """Return the weights of a batch of rows as a column, if it has any; 1 for rows of a source without weights."""
    if ROW_WEIGHT not in batch:
        return {}
    return {ROW_WEIGHT: [1.0 if weight is None else float(weight) for weight in batch[ROW_WEIGHT]]}


def have_row_weights(splits: Mapping[str, Any]) -> bool:
    """Return whether a split has weights of rows."""
    return any(ROW_WEIGHT in (rows.column_names or ()) for rows in splits.values())


@dataclass
class RowWeightCollator:
    """Collator that adds the weights of rows to a batch of another collator, which does not take this column."""

    collate: Callable[[list[Any]], Mapping[str, torch.Tensor]]

    def __call__(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        """Return the batch, with a (batch,) float32 tensor of weights if the rows have them."""
        import torch

        batch = self.collate([{name: value for name, value in row.items() if name != ROW_WEIGHT} for row in rows])
        weights = row_weights({ROW_WEIGHT: [row[ROW_WEIGHT] for row in rows]} if ROW_WEIGHT in rows[0] else {})
        return {**batch, **{name: torch.tensor(values) for name, values in weights.items()}}


def negative_weights(splits: DatasetDict) -> Iterator[BadRow]:
    """Yield a bad row for each negative weight; missing weights are reported with other missing numbers."""
    for split, rows in splits.items():
        weights = arrow_column(rows, ROW_WEIGHT).to_pylist() if ROW_WEIGHT in rows.column_names else []
        for row, weight in enumerate(weights):
            if weight is not None and weight < 0:
                text = f"{COLUMN} must be a number of at least 0, not {weight}"
                yield BadRow(split, row, ROW_WEIGHT, text, value=repr(weight))
