"""From labels as people write them (strings, ids, truth values) to ids 0..n-1 and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.data.cache import arrow_column
from hydratune.errors import ConfigError, Mistake, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_SHOWN = 5  # rows or names that a message lists


@dataclass(frozen=True)
class Labels:
    """The label set: `names[i]` is what id `i` is called, `ids` takes a value of the data to its id."""

    names: list[str]
    ids: Mapping[Any, int]

    def head(self) -> dict[str, Any]:
        """What a classification head and its config need to know."""
        id2label = dict(enumerate(self.names))
        label2id = {name: i for i, name in id2label.items()}
        return {"num_labels": len(self.names), "id2label": id2label, "label2id": label2id}

    def encode(self, values: Sequence[Any]) -> list[int]:
        """The id of each value."""
        return [self.ids[value] for value in values]

    def check(self, split: str, rows: Dataset) -> Iterator[Mistake]:
        """A mistake where a split has labels that are none of these."""
        counts = Counter(value for value in arrow_column(rows, "label").to_pylist() if value not in self.ids)
        if counts:
            shown = ", ".join(f"{value!r} ({count} rows)" for value, count in counts.most_common(_SHOWN))
            fix = did_you_mean(str(next(iter(counts))), self.names, "Correct or drop these rows.")
            yield Mistake("dataset.columns.label", f"labels among {_some(self.names)}", f"{shown} in {split}", fix)


def collect_labels(splits: DatasetDict, names: Sequence[str] | None) -> Labels:
    """The labels of the training rows; `names`, where given, are those of ids 0..n-1 or of string labels.

    A `ClassLabel` column brings its own names. Otherwise values are sorted and numbered.
    """
    train = splits["train"]
    feature = train.features["label"]
    present = _distinct(train)
    if names is None and hasattr(feature, "names"):
        names = feature.names
    if names is None:
        labels = Labels(list(map(str, present)), {value: i for i, value in enumerate(present)})
    elif all(isinstance(value, str) for value in present):
        labels = Labels(list(names), {name: i for i, name in enumerate(names)})
    else:
        labels = Labels(list(names), {i: i for i in range(len(names))})
    if len(labels.names) < 2 or len(present) < 2:
        fix = "Check dataset.columns.label."
        got = _some(present)
        raise ConfigError(Mistake("dataset.columns.label", "at least two different labels in train", got, fix))
    if mistakes := [mistake for split, rows in splits.items() for mistake in labels.check(split, rows)]:
        raise ConfigError(*mistakes)
    return labels


def _distinct(rows: Dataset) -> list[Any]:
    values = arrow_column(rows, "label").unique().to_pylist()
    if wrong := [value for value in values if not isinstance(value, str | int)]:
        fix = "Give every row a label." if None in wrong else "Write labels as strings or whole numbers."
        mistake = Mistake("dataset.columns.label", "strings or whole numbers", _some(wrong), fix)
        raise ConfigError(mistake)
    return sorted(values)


def _some(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"{list(values[:_SHOWN])}{more}"
