"""Metrics of generated texts, computed by rouge-score and sacrebleu."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import regex

from hydratune.tasks.metrics.metric import PREDICTIONS, REFERENCES, Metric, percentage, share
from hydratune.tasks.metrics.references import Reference, streams, texts_of

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU, CHRF

# Scripts without spaces between words: each character is a token, with its combining marks.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TOKEN = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]+", regex.V1)
UNSPACED = regex.compile(rf"[{_UNSPACED}]")

# --- ROUGE -----------------------------------------------------------------------------------------------


class UnicodeTokenizer:
    """Tokenizer for rouge-score, whose own drops every letter that is not ASCII; both agree on ASCII texts."""

    def tokenize(self, text: str) -> list[str]:
        """Return the case-folded words of letters, digits, and combining marks, or characters in unspaced scripts."""
        return _TOKEN.findall(unicodedata.normalize("NFC", text).casefold())


def rouge(predictions: Sequence[str], references: Sequence[Reference], kind: str) -> float:
    """Return the mean F-measure over texts; of several references, the best counts. See `rouge_score.rouge_scorer`.

    Args:
        predictions: Generated texts.
        references: True texts, one or several per prediction.
        kind: `rouge1` for words, `rouge2` for pairs of words, `rougeL` for the longest common subsequence.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind], tokenizer=UnicodeTokenizer())
    pairs = zip(map(texts_of, references), predictions, strict=True)
    return sum(scorer.score_multi(*pair)[kind].fmeasure for pair in pairs) / len(references)


# --- scores of a whole split, which are not means over its texts -----------------------------------------


def bleu(predictions: Sequence[str], references: Sequence[Reference], tokenizer: str) -> float:
    """Return BLEU; see `sacrebleu.metrics.BLEU`."""
    return _corpus("bleu", tokenizer).corpus_score(predictions, streams(references)).score


def chrf(predictions: Sequence[str], references: Sequence[Reference]) -> float:
    """Return chrF; see `sacrebleu.metrics.CHRF`."""
    return _corpus("chrf").corpus_score(predictions, streams(references)).score


def over_corpus(
    name: str, references: Sequence[Reference], predictions: Sequence[str], tokenizer: str
) -> Callable[[Sequence[int]], float]:
    """Return a function from row numbers to BLEU or chrF of those rows, by counts that are computed once.

    The two calls are those of `sacrebleu.significance`, whose own test does not return the size of a difference.
    """
    import numpy as np

    metric = _corpus(name, tokenizer)
    counts = np.array(metric._extract_corpus_statistics(predictions, streams(references)))
    return lambda numbers: float(metric._compute_score_from_stats(counts[numbers].sum(axis=0).tolist()).score)


def _corpus(name: str, tokenizer: str = "") -> BLEU | CHRF:
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(tokenize=tokenizer) if name == "bleu" else CHRF()


# --- texts as a whole ------------------------------------------------------------------------------------


def exact_match(predictions: Sequence[str], references: Sequence[Reference]) -> float:
    """Return the share of predictions that equal a reference, ignoring whitespace at their ends."""
    pairs = zip(map(texts_of, references), predictions, strict=True)
    return sum(any(text.strip() == output.strip() for text in texts) for texts, output in pairs) / len(references)


TOKENIZER = "tokenizer"  # input of the task: the tokenizer of BLEU
_TEXTS = {PREDICTIONS: PREDICTIONS, REFERENCES: REFERENCES}
BLEU_SCORE = Metric(name="bleu", function=bleu, low=0, high=100, inputs={**_TEXTS, TOKENIZER: TOKENIZER})
CORPUS = (BLEU_SCORE, percentage("chrf", chrf))
MEANS = (
    *(share(kind, functools.partial(rouge, kind=kind)) for kind in ("rouge1", "rouge2", "rougeL")),
    share("exact_match", exact_match),
)
GENERATION: tuple[Metric, ...] = (*MEANS, *CORPUS)


def unsuited(texts: Sequence[Any]) -> float:
    """Return the share of texts in a script without spaces, which BLEU's default tokenizer cannot split into words."""
    return sum(bool(UNSPACED.search(" ".join(texts_of(text)))) for text in texts) / max(len(texts), 1)
