"""Labels that are probably typos of frequent ones."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hydratune.data.cache import arrow_column
from hydratune.data.columns import Column
from hydratune.data.streaming import is_stream

if TYPE_CHECKING:
    from datasets import Dataset

_MOST_ROWS = 3  # of a typo
_RATIO = 20  # the intended label has at least so many times the rows of the typo
_LEAST_LETTERS = 5  # shorter labels, such as codes, differ in one letter by intention
_TAG = re.compile(r"[A-Z][-_]")  # prefix of a tag such as B-PER
_LISTED = 3  # pairs in the warning


def label_column(rows: Dataset, columns: Mapping[str, Column]) -> str | None:
    """Return the column of labels, or of lists of labels; None for a task without labels."""
    names = (name for name, column in columns.items() if column.kind in ("label", "labels"))
    return next((name for name in names if name in rows.column_names), None)


def label_warning(splits: Mapping[str, Dataset], columns: Mapping[str, Column]) -> str:
    """Return the warning about labels that may be typos; empty without any. Streams are not read.

    All splits count together, since a label with a single row may be held out.
    """
    from pyarrow import compute, types

    counts = Counter[str]()
    for rows in splits.values():
        if is_stream(rows) or (column := label_column(rows, columns)) is None:
            continue
        values = arrow_column(rows, column)
        while types.is_list(values.type) or types.is_large_list(values.type):
            values = compute.list_flatten(values)
        if types.is_string(values.type) or types.is_large_string(values.type):
            counts.update(
                {item["values"]: item["counts"] for item in compute.value_counts(values.drop_null()).to_pylist()}
            )
    return typo_warning(counts)


def label_typos(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield each rare label with the frequent label that it is probably a typo of.

    >>> [*label_typos({"positive": 500, "postive": 1, "negative": 480})]
    [('postive', 'positive')]

    Args:
        counts: Label -> number of its training rows.
    """
    rare = (name for name, count in counts.items() if 0 < count <= _MOST_ROWS)
    for name in rare:
        frequent = (other for other, count in counts.items() if count >= _RATIO * counts[name])
        if intended := max(filter(lambda other: _is_typo(name, other), frequent), key=counts.__getitem__, default=""):
            yield name, intended


def typo_warning(counts: Mapping[str, int]) -> str:
    """Return the warning about likely typos, with the numbers of rows; empty without any."""
    pairs = [*label_typos(counts)]
    texts = [f"{name!r} ({counts[name]:,}) of {other!r} ({counts[other]:,} rows)" for name, other in pairs[:_LISTED]]
    more = f", and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
    return f"labels that may be typos: {', '.join(texts)}{more}" if texts else ""


def _is_typo(name: str, other: str) -> bool:
    """Return whether two labels differ only in case and spaces, or in one letter or two swapped ones."""
    prefixes = [match[0] if (match := _TAG.match(text)) else "" for text in (name, other)]
    if prefixes[0] != prefixes[1]:
        return False
    first, second = (" ".join(text.casefold().split()) for text in (name, other))
    if first == second:
        return True
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    edits = [edit for edit in matcher.get_opcodes() if edit[0] != "equal"]
    changed = "".join(first[a:b] + second[c:d] for _, a, b, c, d in edits)
    is_swap = len(edits) == 2 and len(changed) == 2 and changed[0] == changed[1] and sorted(first) == sorted(second)
    is_one_letter = len(edits) == 1 and max(max(b - a, d - c) for _, a, b, c, d in edits) == 1
    return min(len(first), len(second)) >= _LEAST_LETTERS and changed.isalpha() and (is_swap or is_one_letter)
