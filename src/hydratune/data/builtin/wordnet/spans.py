"""Datasets of sentences with the words that a gloss defines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hydratune.data.builtin.wordnet.database import EVERY, Synset, draw, share
from hydratune.data.builtin.wordnet.dataset import Row, Wordnet
from hydratune.data.builtin.wordnet.examples import WORD, Usage, usages
from hydratune.utils.errors import KEY, Problem, invalid_value


@dataclass(kw_only=True)
class WordnetTags(Wordnet):
    """Words of a gloss, a colon, and the words of a sentence -> B-, I-, and O tags (`tokens`, `labels`).

    The words in the sentence that the gloss defines are tagged with their part of speech.
    """

    labels: list[str] | None = field(default_factory=lambda: ["O", *(f"{at}-{part}" for part in EVERY for at in "BI")])

    def make(self, synsets: Sequence[Synset]) -> Iterator[Row]:
        """Yield a row for each synset with a word that an example uses."""
        for synset in synsets:
            if usage := next(usages(synset), None):
                gloss, words = WORD.findall(synset.gloss), WORD.findall(usage.example)
                inside = [f"I-{synset.pos}"] * (usage.last - usage.first - 1)
                tags = ["O"] * usage.first + [f"B-{synset.pos}", *inside] + ["O"] * (len(words) - usage.last)
                yield {"tokens": [*gloss, ":", *words], "labels": ["O"] * (len(gloss) + 1) + tags}


@dataclass(kw_only=True)
class WordnetSpans(Wordnet):
    """Extractive question answering: a gloss is the question, and the words that it defines are the answer.

    The context consists of sentences, and `answers` has the form of SQuAD.

    Args:
        no_answer: Share of the rows whose context lacks the sentence with the answer, as in SQuAD 2.
    """

    rows: ClassVar[Mapping[str, int]] = {"train": 3000, "validation": 300, "test": 500}

    no_answer: float = 0.0

    def check(self) -> Iterator[Problem]:
        """Add an error if `no_answer` is not a valid share."""
        yield from super().check()
        if not 0 <= self.no_answer < 1:
            hint = f"set {KEY}=0.3, or {KEY}=0 for an answer in every row"
            yield invalid_value("no_answer", "a fraction from 0 to below 1", repr(self.no_answer), hint)

    def make(self, synsets: Sequence[Synset]) -> Iterator[Row]:
        """Yield a row for each synset with a word that an example uses, with the examples of others as context."""
        pairs = [(synset, usage) for synset in synsets if (usage := next(usages(synset), None))]
        for index, (synset, usage) in enumerate(pairs):
            count = 24 if share(synset.id, salt="long") < 0.1 else 5 + index % 3  # some exceed 128 tokens
            others = [pairs[(index + 101 * step) % len(pairs)][1] for step in range(1, count + 1)]
            missing = share(synset.id, salt="answer") < self.no_answer
            sentences = sorted(
                others if missing else [usage, *others], key=lambda sentence: draw(sentence.example, synset.id)
            )
            yield {
                "id": synset.id,
                "question": synset.gloss,
                "context": " ".join(_sentence(sentence) for sentence in sentences),
                "answers": {"text": [], "answer_start": []} if missing else _answer(usage, sentences),
            }


def _answer(usage: Usage, sentences: Sequence[Usage]) -> dict[str, list[str] | list[int]]:
    before = sum(len(_sentence(sentence)) + 1 for sentence in sentences[: sentences.index(usage)])
    return {"text": [usage.example[usage.start : usage.end]], "answer_start": [before + usage.start]}


def _sentence(usage: Usage) -> str:
    return usage.example if usage.example[-1] in ".?!" else f"{usage.example}."
