"""Calibration, ROC, and precision-recall curves, from the probabilities of decoded test rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydratune.training.report.rows import confidence, target_keys
from hydratune.utils.figures import Curve, curves
from hydratune.utils.report_page import Html, figure, figures, paragraph
from hydratune.utils.report_style import MUTED
from hydratune.utils.short_forms import is_finite, number_text

_BINS = 10  # of equal width
_MOST_LABELS = 8  # labels with curves of their own
_FEW_ROWS = 20  # fewer rows make no curve


def blocks(rows: Sequence[Mapping[str, Any]]) -> Iterator[Html]:
    """Yield the figures that the rows have probabilities for; nothing without probabilities."""
    keys = target_keys(rows)
    if keys != ("label", "prediction") or len(rows) < _FEW_ROWS or not isinstance(rows[0]["label"], str):
        return
    drawings = []
    if all(confidence(row) is not None for row in rows):
        bins = calibration(rows)
        gap = sum(count * abs(share - mean) for mean, share, count in bins) / len(rows)
        yield paragraph(
            f"Expected calibration error {number_text(gap)} ({_BINS} bins of equal width, {len(rows):,} rows)"
        )
        reliability = [
            Curve("calibrated", [0, 1], [0, 1], MUTED, "dot"),
            Curve("model", [mean for mean, _, _ in bins], [share for _, share, _ in bins]),
        ]
        drawings.append(figure("Calibration", curves(reliability, x="mean confidence", y="share of correct rows")))
    drawings += _thresholds(rows)
    yield figures(*drawings)


def calibration(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, int]]:
    """Return mean confidence, share of correct rows, and number of rows of each bin with rows."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for row in rows:
        value = confidence(row) or 0.0
        bins[min(int(value * _BINS), _BINS - 1)].append((value, row["label"] == row["prediction"]))
    return [
        (sum(v for v, _ in part) / len(part), sum(ok for _, ok in part) / len(part), len(part)) for part in bins if part
    ]


def _is_complete(row: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Return whether a row has a finite probability of each label."""
    probabilities = row.get("probabilities") or {}
    return all(is_finite(probabilities.get(name)) for name in names)


def _thresholds(rows: Sequence[Mapping[str, Any]]) -> Iterator[Html]:
    """Yield ROC and precision-recall curves, of the second of two labels or of each of a few labels."""
    from sklearn import metrics

    names = sorted({name for row in rows for name in row.get("probabilities") or {}})
    if not 1 < len(names) <= _MOST_LABELS or not all(_is_complete(row, names) for row in rows):
        return
    roc, recall = [], []
    for name in names[1:] if len(names) == 2 else names:
        true = [row["label"] == name for row in rows]
        if not 0 < sum(true) < len(true):
            continue
        scores = [row["probabilities"][name] for row in rows]
        false_positives, true_positives, _ = metrics.roc_curve(true, scores)
        area = metrics.roc_auc_score(true, scores)
        roc.append(Curve(f"{name}: area {area:.3f}", false_positives.tolist(), true_positives.tolist()))
        precision, recalls, _ = metrics.precision_recall_curve(true, scores)
        mean = metrics.average_precision_score(true, scores)
        recall.append(Curve(f"{name}: average {mean:.3f}", recalls.tolist(), precision.tolist()))
    if roc:
        yield figure("ROC", curves(roc, x="false positive rate", y="true positive rate"))
        yield figure("Precision and recall", curves(recall, x="recall", y="precision"))
