"""Scores of generated texts, by rouge-score and sacrebleu, as modules of `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from hydratune.tasks.references import Reference, streams, texts_of


class GenerationMetric(evaluate.Metric):
    """A metric of predicted and true texts; called `name`, it returns `{name: value}`."""

    name: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__(module_type="metric", keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description=type(self).__doc__ or "", citation="", features=features)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {self.name: float(self.score(list(references), list(predictions)))}

    def score(self, references: Sequence[Reference], predictions: Sequence[str]) -> float:
        """The value of the metric."""
        raise NotImplementedError


class Rouge1(GenerationMetric):
    """Mean F-measure of shared words, 0 to 1."""

    name = "rouge1"

    def score(self, references: Sequence[Reference], predictions: Sequence[str]) -> float:
        """See `rouge_score.rouge_scorer`; of several references, the best counts."""
        scorer = RougeScorer([self.name], use_stemmer=False)
        pairs = zip(map(texts_of, references), predictions, strict=True)
        values = [scorer.score_multi(*pair)[self.name].fmeasure for pair in pairs]
        return sum(values) / len(values)


class Rouge2(Rouge1):
    """Mean F-measure of shared pairs of words, 0 to 1."""

    name = "rouge2"


class RougeL(Rouge1):
    """Mean F-measure of the longest common subsequence of words, 0 to 1."""

    name = "rougeL"


class Bleu(GenerationMetric):
    """sacreBLEU over the whole split, 0 to 100."""

    name = "bleu"

    def score(self, references: Sequence[Reference], predictions: Sequence[str]) -> float:
        """See `sacrebleu.metrics.BLEU`."""
        return CORPUS[self.name]().corpus_score(predictions, streams(references)).score


class Chrf(GenerationMetric):
    """chrF over the whole split, 0 to 100."""

    name = "chrf"

    def score(self, references: Sequence[Reference], predictions: Sequence[str]) -> float:
        """See `sacrebleu.metrics.CHRF`."""
        return CORPUS[self.name]().corpus_score(predictions, streams(references)).score


class ExactMatch(GenerationMetric):
    """Share of predictions that are the reference, 0 to 1."""

    name = "exact_match"

    def score(self, references: Sequence[Reference], predictions: Sequence[str]) -> float:
        """Of whole texts, without spaces at their ends."""
        pairs = zip(map(texts_of, references), predictions, strict=True)
        return sum(any(text.strip() == said.strip() for text in texts) for texts, said in pairs) / len(references)


# Scores of a whole split that are no mean over its texts.
CORPUS: dict[str, type[BLEU] | type[CHRF]] = {"bleu": BLEU, "chrf": CHRF}


def over_corpus(
    name: str, references: Sequence[Reference], predictions: Sequence[str]
) -> Callable[[Sequence[int]], float]:
    """A function from row numbers to the score of `CORPUS` over those rows, by counts that are made once.

    The two calls are those of `sacrebleu.significance`, whose own test says nothing of the size of a difference.
    """
    metric = CORPUS[name]()
    counts = np.array(metric._extract_corpus_statistics(predictions, streams(references)))
    return lambda numbers: float(metric._compute_score_from_stats(counts[numbers].sum(axis=0).tolist()).score)


GENERATION: dict[str, type[GenerationMetric]] = {
    metric.name: metric for metric in (Rouge1, Rouge2, RougeL, Bleu, Chrf, ExactMatch)
}
