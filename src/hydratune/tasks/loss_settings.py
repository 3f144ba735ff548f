"""Settings of the losses of tasks, and weights of labels from the training labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from hydratune.data.cache import arrow_column
from hydratune.data.label_names import label_text
from hydratune.data.streaming import is_stream
from hydratune.tasks.losses import BinaryCrossEntropy, CrossEntropy, Loss, have_row_weights
from hydratune.tasks.tokenize import IGNORED
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, similar

if TYPE_CHECKING:
    import numpy as np
    from datasets import DatasetDict

# `balanced`, the weights in the order of the label IDs, or label name -> weight, 1 for labels that are not named.
Weights = Literal["balanced"] | list[float] | dict[str, float] | None

_SHOWN = 8  # names that a message lists


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
        gamma = self.focal_gamma if self.loss == "focal" else None
        return replace(loss, focal_gamma=gamma, has_row_weights=have_row_weights(splits))


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
            yield Problem(key, f"{KEY}[{name!r}] must be a number {lowest}, not {weight!r}")


def weights_in_order(key: str, weights: list[float] | dict[Any, float] | None, names: Sequence[str]) -> Any:
    """Return a weight for each label name, or None without weights.

    Raises:
        ConfigError: If there is a weight for an unknown label, or a list of another length.
    """
    if weights is None:
        return None
    if isinstance(weights, dict):
        by_name = {name if isinstance(name, str) else label_text(name): weight for name, weight in weights.items()}
        if unknown := [name for name in by_name if name not in names]:
            hints = {name: similar("label", name, names) for name in unknown}
            raise ConfigError(*(Problem(key, f"unknown label {name!r} in {KEY}", hints[name]) for name in unknown))
        return tuple(float(by_name.get(name, 1.0)) for name in names)
    if len(weights) != len(names):
        text = f"{KEY} has {len(weights)} weights, but the data has {len(names)} labels"
        raise ConfigError(Problem(key, text, f"set a weight for each of them, in this order: {_listed(names)}"))
    return tuple(map(float, weights))


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
    """Return the (count,) IDs of all training labels that count; raise ConfigError for a stream, or without them."""
    import pyarrow as pa

    if "train" not in encoded:
        raise ConfigError(
            Problem(key, f"{KEY}=balanced needs the weights in metrics.json, which the run does not have")
        )
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
