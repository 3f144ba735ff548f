"""Search for the words of a synset in its example sentences, inflected or not."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from hydratune.data.builtin.wordnet.database import PartOfSpeech, Synset, exceptions

WORD = re.compile(r"\w+(?:['-]\w+)*|[^\w\s]")
# Rules of detachment of morphy(7WN): the ending of a form -> the ending of the word.
ENDINGS: dict[PartOfSpeech, list[tuple[str, str]]] = {
    "noun": [("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("ies", "y")],
    "verb": [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    "adj": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    "adv": [],
}


class Usage(NamedTuple):
    """The use of a lemma in an example sentence: `example[start:end]`, from word `first` to before word `last`."""

    lemma: str
    example: str
    start: int
    end: int
    first: int
    last: int


def usages(synset: Synset) -> Iterator[Usage]:
    """Yield the uses of lemmas that occur exactly once in an example."""
    for example in synset.examples:
        words = list(WORD.finditer(example))
        forms = [bases(word.group().lower(), synset.pos) for word in words]
        for lemma in synset.lemmas:
            parts = lemma.lower().split()
            places = [i for i in range(len(words) - len(parts) + 1) if _fits(parts, forms[i : i + len(parts)])]
            if len(places) == 1:
                first, last = places[0], places[0] + len(parts)
                yield Usage(lemma, example, words[first].start(), words[last - 1].end(), first, last)


@functools.cache
def bases(form: str, part: PartOfSpeech) -> frozenset[str]:
    """Return the words that a lower-case word may be a form of, including itself."""
    regular = {form.removesuffix(end) + base for end, base in ENDINGS[part] if form.endswith(end)}
    return frozenset({form, *regular, *exceptions(part).get(form, ())})


def _fits(parts: list[str], forms: list[frozenset[str]]) -> bool:
    return all(part in form for part, form in zip(parts, forms, strict=True))
