"""Losses of classification tasks: cross entropy and focal loss with weights of classes and rows.

A loss is a weighted mean: a sum over items, divided by their total weight. An item is a label that counts, or a row of
multi-label data. Trainer adds both numbers up over micro-batches and processes, so that a step and an evaluation have
the loss of one large batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from hydratune.data.cache import arrow_column
from hydratune.data.columns import COLUMN, ROW_WEIGHT, BadRow, Column
from hydratune.data.label_names import label_text
from hydratune.data.streaming import is_stream
from hydratune.tasks.tokenize import IGNORED
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch
    from datasets import DatasetDict

# `balanced`, the weights in the order of the label IDs, or label name -> weight, 1 for labels that are not named.
Weights = Literal["balanced"] | list[float] | dict[str, float] | None

_SHOWN = 8  # names that a message lists
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


def _times_rows(values: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return (batch, ...) values times the (batch,) weights of their rows, if there are any."""
    weights = batch.get(ROW_WEIGHT)
    return values if weights is None else values * weights.to(values.dtype).view(-1, *[1] * (values.dim() - 1))


# --- settings --------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class LossSettings:
    """Settings of the loss that classification tasks share.

    Args:
        loss: `cross_entropy`, or `focal`, which gives labels with a high probability a small weight.
        focal_gamma: Exponent of the focal loss; 0 is cross entropy.
    """

    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0

    def check_loss(self) -> Iterator[Problem]:
        """Yield errors of the settings."""
        if self.focal_gamma < 0:
            yield invalid_value("focal_gamma", "a number of at least 0", self.focal_gamma)

    def configured(self, loss: Loss, splits: Mapping[str, Any]) -> Loss:
        """Return a loss with these settings, and with weights of rows if a split has them."""
        has_row_weights = any(ROW_WEIGHT in (rows.column_names or ()) for rows in splits.values())
        gamma = self.focal_gamma if self.loss == "focal" else None
        return replace(loss, focal_gamma=gamma, has_row_weights=has_row_weights)


@dataclass(kw_only=True)
class ClassLossSettings(LossSettings):
    """Settings of a loss over classes.

    Args:
        class_weights: Weights of the classes in the loss: `balanced`, a list in the order of the label IDs, or label
            name -> weight, 1 for labels that are not named; null for equal weights. `balanced` is inverse to the
            number of training labels, as in scikit-learn.
    """

    class_weights: Literal["balanced"] | list[float] | dict[str, float] | None = None

    def check_loss(self) -> Iterator[Problem]:
        """Also yield errors of the weights that need no label names."""
        yield from super().check_loss()
        yield from check_weights("class_weights", self.class_weights)

    def class_loss(self, splits: DatasetDict, encoded: DatasetDict, names: Sequence[str]) -> Loss:
        """Return the loss of a head with these label names.

        Args:
            splits: Rows under the task's column names.
            encoded: The same rows with `labels`; `balanced` needs the training rows.
            names: Label names in the order of the IDs.
        """
        key, setting = "task.class_weights", self.class_weights
        if setting == "balanced":
            weights = balanced_class_weights(_labels(encoded, key), names)
            balanced = {"class_weights": dict(zip(names, weights, strict=True))}
            return self.configured(CrossEntropy(label_weights=weights, balanced=balanced), splits)
        return self.configured(CrossEntropy(label_weights=weights_in_order(key, setting, names)), splits)


@dataclass(kw_only=True)
class MultiLabelLossSettings(LossSettings):
    """Settings of a loss over several labels per row.

    Args:
        pos_weight: Weights of the labels that a row has, as in `torch.nn.BCEWithLogitsLoss`: `balanced`, a list in the
            order of the label IDs, or label name -> weight, 1 for labels that are not named; null for equal weights.
            `balanced` is the number of training rows without a label, divided by the number of rows with it.
    """

    pos_weight: Literal["balanced"] | list[float] | dict[str, float] | None = None

    def check_loss(self) -> Iterator[Problem]:
        """Also yield errors of the weights that need no label names."""
        yield from super().check_loss()
        yield from check_weights("pos_weight", self.pos_weight, "above 0")

    def multi_label_loss(self, splits: DatasetDict, encoded: DatasetDict, names: Sequence[str]) -> Loss:
        """Return the loss of a head with these label names; for the arguments, see `class_loss`."""
        key, setting = "task.pos_weight", self.pos_weight
        if setting == "balanced":
            weights = balanced_pos_weights(_labels(encoded, key), len(encoded["train"]), names)
            balanced = {"pos_weight": dict(zip(names, weights, strict=True))}
            return self.configured(BinaryCrossEntropy(label_weights=weights, balanced=balanced), splits)
        return self.configured(BinaryCrossEntropy(label_weights=weights_in_order(key, setting, names)), splits)


def check_weights(key: str, weights: Weights, lowest: str = "of at least 0") -> Iterator[Problem]:
    """Yield an error for each weight that is not a finite number.

    Args:
        key: Key of the setting.
        weights: The setting.
        lowest: `of at least 0`, or `above 0`.
    """
    if not isinstance(weights, list | dict):
        return
    for name, weight in weights.items() if isinstance(weights, dict) else enumerate(weights):
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight)
        if not is_number or weight < 0 or (lowest == "above 0" and weight == 0):
            yield Problem(key, f"the weight of {name!r} in {KEY} must be a number {lowest}, not {weight!r}")


def weights_in_order(key: str, weights: list[float] | dict[Any, float] | None, names: Sequence[str]) -> Any:
    """Return a weight for each label name, or None without weights.

    Raises:
        ConfigError: If there is a weight for an unknown label, or a list of another length.
    """
    if weights is None:
        return None
    if isinstance(weights, dict):
        by_name = {name if isinstance(name, str) else label_text(name): weight for name, weight in weights.items()}
        if problems := [_unknown_label(key, name, names) for name in by_name if name not in names]:
            raise ConfigError(*problems)
        return tuple(float(by_name.get(name, 1.0)) for name in names)
    if len(weights) != len(names):
        text = f"{KEY} has {len(weights)} weights, but the data has {len(names)} labels"
        raise ConfigError(Problem(key, text, f"set a weight for each of them, in this order: {_listed(names)}"))
    return tuple(map(float, weights))


def _unknown_label(key: str, name: str, names: Sequence[str]) -> Problem:
    close = nearest(name, names)
    hint = f"a similar label exists: {close}" if close else f"the labels are {_listed(names)}"
    return Problem(key, f"unknown label {name!r} in {KEY}", hint)


# --- weights from the training labels --------------------------------------------------------------------


def balanced_class_weights(labels: np.ndarray, names: Sequence[str]) -> tuple[float, ...]:
    """Return a weight for each class that is inverse to its number of labels, and 1 on average over the labels.

    Raises:
        ConfigError: If a class has no labels.
    """
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    ids = np.arange(len(names))
    if missing := [names[i] for i in np.setdiff1d(ids, labels)]:
        raise ConfigError(_unbalanced("task.class_weights", missing, "no labels in train"))
    return tuple(compute_class_weight("balanced", classes=ids, y=labels).tolist())


def balanced_pos_weights(labels: np.ndarray, rows: int, names: Sequence[str]) -> tuple[float, ...]:
    """Return for each label the number of rows without it, divided by the number of rows with it.

    Raises:
        ConfigError: If no row has a label, or if all rows have it.
    """
    import numpy as np

    counts = np.bincount(labels, minlength=len(names))
    for count, reason in ((0, "no rows in train"), (rows, "all rows of train")):
        if undefined := [name for name, label_count in zip(names, counts, strict=True) if label_count == count]:
            raise ConfigError(_unbalanced("task.pos_weight", undefined, reason))
    return tuple(((rows - counts) / counts).tolist())


def _labels(encoded: DatasetDict, key: str) -> np.ndarray:
    """Return the (count,) IDs of all training labels that count; raise ConfigError for a stream."""
    import pyarrow as pa

    if is_stream(encoded["train"]):
        text = f"{KEY}=balanced needs all rows of train, but they are streamed"
        raise ConfigError(Problem(key, text, "set dataset.streaming=false"))
    column = arrow_column(encoded["train"], "labels")
    flat = pa.compute.list_flatten(column) if pa.types.is_nested(column.type) else column
    labels: np.ndarray = flat.to_numpy()
    return labels[labels != IGNORED]


def _unbalanced(key: str, names: Sequence[str], reason: str) -> Problem:
    text = f"{KEY}=balanced is undefined for labels with {reason}: {_listed(names)}"
    return Problem(key, text, f"set {KEY} to a list of weights, or to label names with weights")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


# --- rows ------------------------------------------------------------------------------------------------


def row_weights(batch: Mapping[str, list[Any]]) -> dict[str, list[float]]:
    """Return the weights of a batch of rows as a column, if it has any; 1 for rows of a source without weights."""
    if ROW_WEIGHT not in batch:
        return {}
    return {ROW_WEIGHT: [1.0 if weight is None else float(weight) for weight in batch[ROW_WEIGHT]]}


def negative_weights(splits: DatasetDict) -> Iterator[BadRow]:
    """Yield a bad row for each negative weight; missing weights are reported with other missing numbers."""
    for split, rows in splits.items():
        weights = arrow_column(rows, ROW_WEIGHT).to_pylist() if ROW_WEIGHT in rows.column_names else []
        for row, weight in enumerate(weights):
            if weight is not None and weight < 0:
                text = f"{COLUMN} must be a number of at least 0, not {weight}"
                yield BadRow(split, row, ROW_WEIGHT, text, value=repr(weight))
