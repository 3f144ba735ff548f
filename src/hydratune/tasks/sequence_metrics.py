"""Scores of entities, by seqeval, which counts them as conlleval does."""

from __future__ import annotations

from collections.abc import Sequence

from seqeval import metrics, scheme

_NAMES = {"precision": "precision", "recall": "recall", "f1-score": "f1"}


def entity_scores(
    true: Sequence[Sequence[str]], said: Sequence[Sequence[str]], tagging: str | None = None
) -> dict[str, float]:
    """`f1`, `precision`, `recall` of all entities, `accuracy` of words, and e.g. `f1_person` of each type.

    An entity is right where its type and both its ends are; 0 where there is none to score.

    Args:
        true: Labels of each sentence.
        said: The predicted ones.
        tagging: A scheme of seqeval, read strictly; None for the lenient reading of conlleval.
    """
    strict = {"mode": "strict", "scheme": getattr(scheme, tagging)} if tagging else {}
    scores = {"accuracy": float(metrics.accuracy_score(true, said)), "f1": 0.0, "precision": 0.0, "recall": 0.0}
    if not any(label != "O" for sentence in (*true, *said) for label in sentence):
        return scores  # of which seqeval makes no report
    report = metrics.classification_report(true, said, output_dict=True, zero_division=0, **strict)
    kinds = {"micro avg": "", **{kind: f"_{kind}" for kind in report if not kind.endswith(" avg")}}
    for kind, suffix in kinds.items():
        scores |= {f"{ours}{suffix}": float(report[kind][theirs]) for theirs, ours in _NAMES.items()}
    return scores
