"""Scores of a constant prediction, as a reference for those of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydratune.data.streaming import is_stream


@dataclass(frozen=True)
class Baseline:
    """A constant prediction and its scores.

    Args:
        description: What it predicts.
        scores: Split -> metric -> value.
    """

    description: str
    scores: Mapping[str, Mapping[str, float]]


def constant_baseline(splits: Mapping[str, Any], head: Mapping[str, Any]) -> Baseline | None:
    """Return the scores of the most frequent training label, or of the mean of the training numbers.

    Args:
        splits: Split -> rows with one label or number per row in `labels`.
        head: Arguments of the model's config that depend on the data, with `id2label` for labels.

    Returns:
        The baseline on validation and test; None for other data, such as several labels per row or a stream.
    """
    import numpy as np

    train = splits["train"]
    if is_stream(train) or "labels" not in train.column_names or not len(train):
        return None
    if not str(getattr(train.features["labels"], "dtype", "")).startswith(("int", "uint", "float")):
        return None
    labels = {split: np.array(rows["labels"][:]) for split, rows in splits.items() if not is_stream(rows)}
    values = labels.pop("train")
    if values.dtype.kind == "f":
        mean = float(values.mean())
        scores = {split: {"mse": float(((numbers - mean) ** 2).mean())} for split, numbers in labels.items()}
        return Baseline(f"the mean of the training rows, {mean:.4g}", scores)
    if "id2label" not in head:
        return None
    label = int(np.bincount(values[values >= 0]).argmax())
    scores = {split: {"accuracy": float((numbers == label).mean())} for split, numbers in labels.items()}
    return Baseline(f"the most frequent label of the training rows, {head['id2label'][label]}", scores)
