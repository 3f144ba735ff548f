"""Confusion matrices: shares by row, the labels with the most errors, and the most confused pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MOST_LABELS = 30  # labels of a matrix that is shown completely
_CONFUSED = 20  # labels that are shown of a larger one


@dataclass(frozen=True)
class Pair:
    """Rows of a true label that got another label.

    Args:
        true: True label.
        predicted: Predicted label.
        count: Number of rows.
        share: Share of the rows with the true label, from 0 to 1.
    """

    true: str
    predicted: str
    count: int
    share: float


def row_shares(matrix: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each predicted label (columns) among the rows of a true label; NaN in place of 0."""
    totals = matrix.sum(axis=1)
    return matrix.div(totals.where(totals > 0), axis=0).where(matrix > 0)


def confused_labels(matrix: pd.DataFrame) -> list[Any]:
    """Return the labels to show: all if there are few, else those with the most wrong rows, in their order."""
    if len(matrix) <= MOST_LABELS:
        return [*range(len(matrix))]
    counts = matrix.to_numpy()
    wrong = counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal()
    return sorted(sorted(range(len(matrix)), key=lambda i: (-wrong[i], i))[:_CONFUSED])


def confused_pairs(matrix: pd.DataFrame, most: int = 20) -> list[Pair]:
    """Return the pairs of a true and another predicted label with the most rows."""
    counts = matrix.to_numpy()
    totals = counts.sum(axis=1)
    pairs = [
        Pair(str(matrix.index[i]), str(matrix.columns[j]), int(counts[i, j]), float(counts[i, j] / totals[i]))
        for i, j in zip(*counts.nonzero(), strict=True)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:most]
