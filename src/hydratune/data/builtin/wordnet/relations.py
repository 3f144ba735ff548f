"""Datasets about the relations of glosses to the graph and the words of WordNet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

from hydratune.data.builtin.wordnet.database import PartOfSpeech, Synset, draw
from hydratune.data.builtin.wordnet.dataset import Row, Wordnet
from hydratune.data.builtin.wordnet.examples import Usage, usages

# Frequent ancestors of nouns in the middle of the graph: offset of the synset -> label.
ANCESTORS = {
    "00004258": "living thing",
    "00007846": "person",
    "00015388": "animal",
    "01471682": "vertebrate",
    "00017222": "plant",
    "13103136": "woody plant",
    "00021939": "artifact",
    "03575240": "instrument",
    "03183080": "device",
    "00019613": "substance",
    "00029378": "event",
    "00030358": "act",
    "00031264": "group",
    "00024264": "attribute",
    "00024720": "state",
    "13920835": "condition",
    "00033020": "communication",
    "00023271": "cognition",
    "00027167": "location",
    "08630985": "region",
}


@dataclass(kw_only=True)
class WordnetAncestors(Wordnet):
    """Gloss of a noun -> its ancestors among 20 general classes (`text`, `labels`), e.g. living thing and person."""

    parts: ClassVar[Sequence[PartOfSpeech]] = ("noun",)

    labels: list[str] | None = field(default_factory=lambda: list(ANCESTORS.values()))

    def make(self, synsets: Sequence[Synset]) -> Iterator[Row]:
        """Yield a row for each noun below one of the ancestors."""
        for synset in synsets:
            ancestor_offsets = {ancestor.offset for ancestor in synset.ancestors() if ancestor is not synset}
            if labels := [name for offset, name in ANCESTORS.items() if offset in ancestor_offsets]:
                yield {"text": synset.gloss, "labels": labels}


@dataclass(kw_only=True)
class WordnetSimilarity(Wordnet):
    """Glosses of two nouns -> their similarity in the graph, above 0 to 1 (`text`, `text_pair`, `label`).

    Measure: Wu & Palmer, Verb Semantics and Lexical Selection, ACL 1994.
    """

    parts: ClassVar[Sequence[PartOfSpeech]] = ("noun",)

    def make(self, synsets: Sequence[Synset]) -> Iterator[Row]:
        """Yield a row for each synset; the partners cycle through six distances in the graph."""
        ordered = sorted(synsets, key=Synset.path)  # adjacent synsets in this order are close in the graph
        places = {synset: place for place, synset in enumerate(ordered)}
        for number, synset in enumerate(synsets):
            step = max(1, len(ordered) // 2 // 6 ** (number % 6))  # from half of the graph down to the adjacent synset
            partner = ordered[(places[synset] + step) % len(ordered)]
            yield {"text": synset.gloss, "text_pair": partner.gloss, "label": round(wu_palmer(synset, partner), 4)}


def wu_palmer(one: Synset, other: Synset) -> float:
    """Return the Wu-Palmer similarity, which is 2 d / (2 d + s).

    d is the depth of the lowest common ancestor, and s the number of steps from both synsets up to it.
    """
    up, across = one.ancestors(), other.ancestors()
    lowest = max(up.keys() & across.keys(), key=lambda synset: (synset.depth(), synset.offset))
    depth = 2 * lowest.depth()
    return depth / (depth + up[lowest] + across[lowest])


@dataclass(kw_only=True)
class WordnetPairs(Wordnet):
    """A word in a sentence and a gloss -> whether they match (`text`, `text_pair`, `label`: match or other).

    The other gloss is of the same broad class. Two words make four rows, so that one side alone has no information
    about the label.

    Args:
        by_part_of_speech: Whether validation and test have a set for each part of speech.
    """

    rows: ClassVar[Mapping[str, int]] = {"train": 8000, "validation": 600, "test": 1000}

    labels: list[str] | None = field(default_factory=lambda: ["other", "match"])
    by_part_of_speech: bool = False

    def validation_sets(self) -> list[str]:
        """Return the parts of speech if each is a separate set."""
        return [*self.parts] if self.by_part_of_speech else []

    def deal(self) -> dict[str, Sequence[Synset]]:
        """Return the synsets of each split, or of each set."""
        splits = {**super().deal()}
        if self.by_part_of_speech:
            for split, part in product(("validation", "test"), self.parts):
                splits[f"{split}.{part}"] = [synset for synset in splits[split] if synset.pos == part]
            del splits["validation"], splits["test"]
        return splits

    def make(self, synsets: Sequence[Synset]) -> Iterator[Row]:
        """Yield four rows for each two synsets of a class that have an example."""
        for group in _groups(synsets, 2):
            for (synset, usage), (other, _) in product(group, group):
                label = "match" if synset is other else "other"
                yield {"text": f"{usage.lemma}: {usage.example}", "text_pair": other.gloss, "label": label}


@dataclass(kw_only=True)
class WordnetChoices(Wordnet):
    """A word in a sentence -> its gloss among four choices (`text`, `choices`, `label`).

    The wrong choices are of the same broad class. Each gloss is right once and wrong three times, so that the choices
    alone have no information about the label.
    """

    rows: ClassVar[Mapping[str, int]] = {"train": 2000, "validation": 200, "test": 400}

    def make(self, synsets: Sequence[Synset]) -> Iterator[Row]:
        """Yield four rows for each four synsets of a class that have an example."""
        for group in _groups(synsets, 4):
            for synset, usage in group:
                shuffled = _shuffled([choice for choice, _ in group], synset.id)
                yield {
                    "text": f"{usage.lemma}: {usage.example}",
                    "choices": [choice.gloss for choice in shuffled],
                    "label": shuffled.index(synset),
                }


def _groups(synsets: Sequence[Synset], size: int) -> Iterator[list[tuple[Synset, Usage]]]:
    """Yield groups of `size` synsets of one broad class, with an example of each."""
    pending: dict[str, list[tuple[Synset, Usage]]] = defaultdict(list)
    for synset in synsets:
        if usage := next(usages(synset), None):
            group = pending[synset.category]
            group.append((synset, usage))
            if len(group) == size:
                yield pending.pop(synset.category)


def _shuffled(synsets: Sequence[Synset], salt: str) -> list[Synset]:
    return sorted(synsets, key=lambda synset: draw(synset.id, salt))
