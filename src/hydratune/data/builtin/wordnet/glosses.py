"""Text to write: definitions, and the words that they define."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hydratune.data.builtin.wordnet.database import PartOfSpeech, Synset
from hydratune.data.builtin.wordnet.dataset import Row, Wordnet

# What one says of a thing of each class.
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
    """A dictionary, an entry a row (`text`): word, part of speech, definition, examples; 1.9 MB to train on."""

    rows: ClassVar[Mapping[str, int]] = {"train": 20000, "validation": 1000, "test": 1000}

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """A row each."""
        for one in synsets:
            yield {"text": "; ".join([f"{one.lemmas[0]} ({one.pos}): {one.gloss}", *one.examples])}


@dataclass(kw_only=True)
class WordnetKinds(Wordnet):
    """Gloss of a noun -> what it is a kind of, in a word or two (`source`, `target`).

    About half of the targets are in the gloss; the others have to be known.
    """

    parts: ClassVar[Sequence[PartOfSpeech]] = ("noun",)
    rows: ClassVar[Mapping[str, int]] = {"train": 12000, "validation": 500, "test": 1000}

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """A row for each noun but the topmost."""
        for noun in synsets:
            if noun.parents:
                yield {"source": noun.gloss, "target": noun.parents[0].lemmas[0]}


@dataclass(kw_only=True)
class WordnetChat(Wordnet):
    """What kind of thing is this: a gloss? It is ... (`prompt`, `completion`)."""

    parts: ClassVar[Sequence[PartOfSpeech]] = ("noun",)
    rows: ClassVar[Mapping[str, int]] = {"train": 8000, "validation": 500, "test": 1000}

    def make(self, synsets: Sequence[Synset]) -> Iterable[Row]:
        """A row for each noun of a class that has a name."""
        for noun in synsets:
            if said := IT_IS.get(noun.category):
                yield {"prompt": f"What kind of thing is this: {noun.gloss}?", "completion": f"It is {said}."}
