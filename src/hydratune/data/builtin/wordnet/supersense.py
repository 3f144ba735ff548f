"""Classification datasets of glosses of nouns by their broad class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from hydratune.data.builtin.wordnet.database import PartOfSpeech, Synset, draw, read_synsets
from hydratune.data.builtin.wordnet.dataset import Row, Wordnet

if TYPE_CHECKING:
    from datasets import Features

CLASSES = 22  # the largest noun supersenses; the other four have too few glosses for balanced splits
A_CLASS = {"train": 240, "validation": 30, "test": 30}  # rows per class


@dataclass(kw_only=True)
class WordnetSupersense(Wordnet):
    """Gloss -> one of 22 noun supersenses (`text`, `label`), balanced, 240/30/30 rows per class, split by synset.

    Glosses that several synsets share are left out. Classes: Ciaramita & Johnson, Supersense Tagging of Unknown Nouns
    in WordNet, EMNLP 2003.
    """

    rows: ClassVar[Mapping[str, int]] = {split: CLASSES * count for split, count in A_CLASS.items()}

    def deal(self) -> dict[str, list[Synset]]:
        """Return the synsets of each split, with equally many of each class."""
        by_class = _unambiguous(read_synsets(["noun"]))
        largest = sorted(by_class, key=lambda name: (-len(by_class[name]), name))[:CLASSES]
        splits, start = {}, 0
        for split, size in A_CLASS.items():
            chosen = [noun for name in largest for noun in by_class[name][start : start + size]]
            splits[split] = sorted(chosen, key=lambda noun: draw(noun.offset, salt="order"))
            start += size
        return splits

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """Return a row for each synset."""
        return ({"text": noun.gloss, "label": noun.category} for noun in synsets)

    def features(self, rows: Sequence[Row]) -> Features | None:
        """Return features with labels as a `ClassLabel`."""
        from datasets import ClassLabel, Features, Value

        return Features({"text": Value("string"), "label": ClassLabel(names=sorted({row["label"] for row in rows}))})


@dataclass(kw_only=True)
class WordnetStates(Wordnet):
    """Gloss of a noun -> whether it is a state (`text`, `label`: other or state).

    The labels have their natural frequencies: 4.4% of the nouns are states, e.g. illnesses, conditions, or moods.
    """

    parts: ClassVar[Sequence[PartOfSpeech]] = ("noun",)
    rows: ClassVar[Mapping[str, int]] = {"train": 3000, "validation": 1500, "test": 3000}

    labels: list[str] | None = field(default_factory=lambda: ["other", "state"])

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """Return a row for each synset."""
        return (
            {"text": noun.gloss, "label": "state" if noun.category == "noun.state" else "other"} for noun in synsets
        )


def _unambiguous(nouns: Sequence[Synset]) -> dict[str, list[Synset]]:
    """Return the synsets of each supersense, ordered by hash, without glosses that occur twice."""
    occurrences = Counter(noun.gloss for noun in nouns)
    by_class: dict[str, list[Synset]] = defaultdict(list)
    for noun in sorted(nouns, key=lambda noun: draw(noun.offset)):
        if occurrences[noun.gloss] == 1:
            by_class[noun.category].append(noun)
    return by_class
