"""Scores of entities by seqeval, which counts them as conlleval does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from seqeval import metrics, scheme

_NAMES = {"precision": "precision", "recall": "recall", "f1-score": "f1"}


def word_accuracy(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """Return the share of words with the right label."""
    return float(metrics.accuracy_score(true, predicted))


def entities(labels: Sequence[str], tagging: str | None = None) -> set[tuple[str, int, int]]:
    """Return the type, first word, and last word of each entity of one sentence, as `entity_scores` reads them."""
    if tagging is None:
        return {*metrics.sequence_labeling.get_entities(list(labels))}
    (parsed_entities,) = scheme.Entities([list(labels)], getattr(scheme, tagging)).entities
    return {(entity.tag, entity.start, entity.end) for entity in parsed_entities}


def entity_scores(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], tagging: str | None = None
) -> dict[str, float]:
    """Return `f1`, `precision`, and `recall` of all entities, and of each type, e.g. `f1_person`.

    An entity is right if its type and both its ends are right. Scores are 0 without entities.

    Args:
        true: True labels of each sentence.
        predicted: Predicted labels of each sentence.
        tagging: Scheme of seqeval, read strictly; None for the lenient reading of conlleval.
    """
    strict = {"mode": "strict", "scheme": getattr(scheme, tagging)} if tagging else {}
    scores = dict.fromkeys(_NAMES.values(), 0.0)
    if not any(label != "O" for sentence in (*true, *predicted) for label in sentence):
        return scores  # seqeval makes no report without entities
    with warnings.catch_warnings():  # about a mean over no types, if a strict reading finds no entities
        warnings.simplefilter("ignore", RuntimeWarning)
        report = metrics.classification_report(true, predicted, output_dict=True, zero_division=0, **strict)
    suffixes = {
        "micro avg": "",
        **{entity_type: f"_{entity_type}" for entity_type in report if not entity_type.endswith(" avg")},
    }
    for entity_type, suffix in suffixes.items():
        scores |= {f"{name}{suffix}": float(report[entity_type][report_key]) for report_key, name in _NAMES.items()}
    return scores
