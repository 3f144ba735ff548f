"""SQuAD's official scores of answers, and the search for the best span in a model's scores.

Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text, EMNLP 2016, and Know What You Don't
Know: Unanswerable Questions for SQuAD, ACL 2018; the definitions are those of the official evaluation scripts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = set(string.punctuation)


def normalized(answer: str) -> str:
    """Return an answer in lower case, without punctuation, articles, and extra spaces."""
    plain = "".join(letter for letter in answer.lower() if letter not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(prediction: str, answers: Sequence[str], version_2: bool) -> float:
    """Return 1 if the prediction is one of the answers, otherwise 0."""
    return max(float(normalized(prediction) == normalized(answer)) for answer in _gold(answers, version_2))


def f1(prediction: str, answers: Sequence[str], version_2: bool) -> float:
    """Return the best word F1 with one of the answers, from 0 to 1."""
    words = normalized(prediction).split()
    return max(_f1(words, normalized(answer).split(), version_2) for answer in _gold(answers, version_2))


def _gold(answers: Sequence[str], version_2: bool) -> Sequence[str]:
    """Return the answers to compare with; version 2 drops those that are only articles and punctuation.

    An empty answer means that the question has no answer.
    """
    return [answer for answer in answers if not version_2 or normalized(answer)] or [""]


def _f1(words: list[str], answer: list[str], version_2: bool) -> float:
    """Return the F1 of words; for two empty answers, it is 1 in version 2, and 0 in version 1."""
    if version_2 and not (words and answer):
        return float(words == answer)
    shared = (Counter(words) & Counter(answer)).total()
    return 2 * shared / (len(words) + len(answer)) if shared else 0.0


def scores(predictions: Sequence[str], answers: Sequence[Sequence[str]], version_2: bool) -> dict[str, float]:
    """Return `exact_match` and `f1` in percent, as the official script of the version computes them.

    If some questions have no answer, both scores are also computed for questions with and without answers, e.g.
    `f1_no_answer`.
    """
    rows_by_suffix = {
        "": list(range(len(predictions))),
        "_has_answer": [i for i, gold in enumerate(answers) if gold],
        "_no_answer": [i for i, gold in enumerate(answers) if not gold],
    }
    if not rows_by_suffix["_no_answer"]:
        rows_by_suffix = {"": rows_by_suffix[""]}
    return {
        f"{name}{suffix}": 100 * sum(score(predictions[i], answers[i], version_2) for i in rows) / len(rows)
        for suffix, rows in rows_by_suffix.items()
        if rows
        for name, score in (("exact_match", exact_match), ("f1", f1))
    }


class Span(NamedTuple):
    """Span of the context, with the model's score of it."""

    text: str
    score: float


@dataclass
class SpanCandidates:
    """Results of the windows of one question.

    Args:
        best: Most probable span of all windows.
        null: Lowest score of "no answer" of all windows, as in the official script.
    """

    best: Span = field(default_factory=lambda: Span("", float("-inf")))
    null: float = float("inf")

    @property
    def doubt(self) -> float:
        """Score of "no answer" minus the score of the best span."""
        return self.null - self.best.score

    def add(self, window: Mapping[str, Any], context: str, null: float, max_answer_length: int) -> None:
        """Add the scores of a window.

        Args:
            window: Numbers and scores of the best starts and ends, and the `offsets` (token -> characters of the
                context, None outside it).
            context: Text that the offsets refer to.
            null: The window's score of "no answer".
            max_answer_length: Maximum tokens of an answer.
        """
        self.null = min(self.null, null)
        offsets = window["offsets"]
        for start, score in zip(window["starts"], window["start_scores"], strict=True):
            for end, end_score in zip(window["ends"], window["end_scores"], strict=True):
                is_valid = 0 <= start <= end < min(start + max_answer_length, len(offsets))
                if is_valid and offsets[start] and offsets[end] and score + end_score > self.best.score:
                    self.best = Span(context[offsets[start][0] : offsets[end][1]], float(score + end_score))


def best_threshold(doubts: Sequence[float], gains: Iterable[float]) -> float:
    """Return the doubt up to which answering gains most over all questions.

    Args:
        doubts: Doubt of each question.
        gains: Gain of each question from answering: the F1 of the span, minus that of no answer.
    """
    total, best, threshold = 0.0, 0.0, float("-inf")
    for doubt, gain in sorted(zip(doubts, gains, strict=True)):
        total += gain
        if total > best:
            best, threshold = total, doubt
    return threshold if threshold > float("-inf") else min(doubts, default=0.0) - 1
