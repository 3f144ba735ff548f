"""Tables of results per label, by scikit-learn and seqeval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from seqeval import metrics as seqeval_metrics
from seqeval import scheme as seqeval_scheme
from sklearn import metrics
from sklearn.preprocessing import MultiLabelBinarizer

from hydratune.tasks.metrics.probabilistic import BINS, calibration_bins

CONFUSION, PER_LABEL, RELIABILITY = "confusion_matrix", "per_label", "reliability"
_NAMES = {"precision": "precision", "recall": "recall", "f1-score": "f1", "support": "support"}


def one_label(true: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the confusion matrix (rows are true labels) and the scores of each label."""
    matrix = pd.DataFrame(metrics.confusion_matrix(true, predicted, labels=names), index=names, columns=names)
    report = metrics.classification_report(true, predicted, labels=names, output_dict=True, zero_division=0)
    return {CONFUSION: matrix.rename_axis("true"), PER_LABEL: _table(report, names)}


def reliability(hits: Sequence[bool], confidences: Sequence[float]) -> dict[str, pd.DataFrame]:
    """Return the mean confidence, the share of hits, and the number of rows of each bin of the calibration error."""
    rows, hit_sums, confidence_sums = calibration_bins(hits, confidences)
    columns = {"confidence": confidence_sums / rows.clip(1), "accuracy": hit_sums / rows.clip(1), "rows": rows}
    table = pd.DataFrame(columns, index=[round(i / BINS, 4) for i in range(BINS + 1)])
    return {RELIABILITY: table[rows > 0].astype({"rows": int}).rename_axis("from")}


def label_sets(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], names: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return the scores of each label, for rows with any number of labels."""
    binary = MultiLabelBinarizer(classes=names).fit([])
    rows = (binary.transform(labels) for labels in (true, predicted))
    report = metrics.classification_report(*rows, target_names=names, output_dict=True, zero_division=0)
    return {PER_LABEL: _table(report, names)}


def entities(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], tagging: str | None
) -> dict[str, pd.DataFrame]:
    """Return the scores of each entity type; empty without entities."""
    if not any(label != "O" for sentence in (*true, *predicted) for label in sentence):
        return {}
    strict = {"mode": "strict", "scheme": getattr(seqeval_scheme, tagging)} if tagging else {}
    report = seqeval_metrics.classification_report(true, predicted, output_dict=True, zero_division=0, **strict)
    return {PER_LABEL: _table(report, [entity_type for entity_type in report if not entity_type.endswith(" avg")])}


def _table(report: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Return one row per label: precision, recall, f1, support."""
    rows = {name: {column: report[name][report_key] for report_key, column in _NAMES.items()} for name in names}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("label")
