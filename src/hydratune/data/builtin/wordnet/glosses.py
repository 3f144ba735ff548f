"""Text generation datasets: definitions, and the words that they define."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hydratune.data.builtin.wordnet.database import PartOfSpeech, Synset
from hydratune.data.builtin.wordnet.dataset import Row, Wordnet

# Answer to "What kind of thing is this?" for each class.
IT_IS = {
    "noun.act": "an act",
    "noun.animal": "an animal",
    "noun.artifact": "an artifact",
    "noun.attribute": "an attribute",
    "noun.body": "a part of a body",
    "noun.cognition": "a thought",
    "noun.communication": "a piece of communication",
    "noun.event": "an event",
    "noun.food": "a food",
    "noun.group": "a group",
    "noun.location": "a place",
    "noun.object": "a natural object",
    "noun.person": "a person",
    "noun.phenomenon": "a phenomenon",
    "noun.plant": "a plant",
    "noun.possession": "a possession",
    "noun.process": "a process",
    "noun.quantity": "a quantity",
    "noun.relation": "a relation",
    "noun.state": "a state",
    "noun.substance": "a substance",
    "noun.time": "a time",
}


@dataclass(kw_only=True)
class WordnetGlosses(Wordnet):
    """A dictionary with one entry per row (`text`): word, part of speech, definition, examples; 1.9 MB for training."""

    rows: ClassVar[Mapping[str, int]] = {"train": 20000, "validation": 1000, "test": 1000}

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """Yield a row for each synset."""
        for synset in synsets:
            yield {"text": "; ".join([f"{synset.lemmas[0]} ({synset.pos}): {synset.gloss}", *synset.examples])}


@dataclass(kw_only=True)
class WordnetKinds(Wordnet):
    """Gloss of a noun -> its hypernym (`source`, `target`).

    About half of the targets occur in the gloss; the others require knowledge.
    """

    parts: ClassVar[Sequence[PartOfSpeech]] = ("noun",)
    rows: ClassVar[Mapping[str, int]] = {"train": 12000, "validation": 500, "test": 1000}

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """Yield a row for each noun with a parent."""
        for noun in synsets:
            if noun.parents:
                yield {"source": noun.gloss, "target": noun.parents[0].lemmas[0]}


@dataclass(kw_only=True)
class WordnetChat(Wordnet):
    """Questions about the kind of thing that a gloss describes, with answers (`prompt`, `completion`)."""

    parts: ClassVar[Sequence[PartOfSpeech]] = ("noun",)
    rows: ClassVar[Mapping[str, int]] = {"train": 8000, "validation": 500, "test": 1000}

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """Yield a row for each noun of a class in `IT_IS`."""
        for noun in synsets:
            if answer := IT_IS.get(noun.category):
                yield {"prompt": f"What kind of thing is this: {noun.gloss}?", "completion": f"It is {answer}."}
