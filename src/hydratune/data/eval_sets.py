"""Named validation and test sets, e.g. `dataset.files.validation={news: news.csv, web: web.csv}`.

Each set is a separate split, such as `validation.news`: the name of a split is also its key below `dataset.files`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydratune.utils.errors import KEY, NODE, Problem, invalid_value

_EVALUATED = ("validation", "test")
_RESERVED = ("best", "max", "mean", "min")  # parts of the names of metrics


def kind_of(split: str) -> str:
    """Return train, validation, or test: `validation` for `validation.news`."""
    return split.partition(".")[0]


def sets_of(splits: Iterable[str], kind: str) -> dict[str, str]:
    """Return set -> its split, for the splits of a kind; a single unnamed set has an empty name."""
    return {split.partition(".")[2]: split for split in splits if kind_of(split) == kind}


def set_prefix(prefix: str, name: str) -> str:
    """Return the prefix of the metrics of a set: `eval_news` for the prefix `eval` and the set `news`."""
    return f"{prefix}_{name}" if name else prefix


def flat_sets(by_split: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping of splits in which each named set is a split: `{validation: {a: x}}` -> `{validation.a: x}`."""
    flat: dict[str, Any] = {}
    for split, value in by_split.items():
        sets = {f"{split}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {split: value}
        flat |= sets
    return flat


def set_names(by_split: Mapping[str, Any], kind: str) -> list[str]:
    """Return the names of the sets of a kind in an option such as `files`; empty for one set without a name."""
    names = sets_of((split for split, value in flat_sets(by_split).items() if value), kind)
    return [*filter(None, names)]


def check_sets(option: str, by_split: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield an error for each invalid name of a set.

    Args:
        option: Option of the dataset that names the sets, e.g. `files`.
        by_split: Value of the option.
    """
    for split, value in by_split.items():
        if not isinstance(value, dict):
            continue
        key = f"{option}.{split}"
        if split not in _EVALUATED:
            hint = f"set {KEY} to a list to read several files\nname sets only in {NODE}{option}.validation and test"
            yield invalid_value(key, "one set, without names", repr(value), hint)
            continue
        if not value:
            yield invalid_value(key, "a value, or a mapping from names of sets to values", "{}", f"set {KEY}=null")
        for name in value:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", str(name)) or name in _RESERVED:
                text = f"{name!r} is not a valid name of a {split} set"
                hint = "start the name with a letter, and use only letters, digits, and _"
                yield Problem(key, text, f"{name!r} is reserved: choose another name" if name in _RESERVED else hint)
