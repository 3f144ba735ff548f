"""From labels as people write them (strings, ids, truth values) to ids 0..n-1 and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.data.cache import arrow_column
from hydratune.data.rows import BadRow
from hydratune.data.streaming import is_stream
from hydratune.errors import ConfigError, Mistake, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_SHOWN = 5  # names that a message lists


@dataclass(frozen=True)
class Labels:
    """The label set: `names[i]` is what id `i` is called, `ids` takes a value of the data to its id."""

    names: list[str]
    ids: Mapping[Any, int]

    def head(self) -> dict[str, Any]:
        """What a classification head and its config need to know."""
        id2label = dict(enumerate(self.names))
        label2id = {name: i for i, name in id2label.items()}
        return {
            "num_labels": len(self.names),
            "id2label": id2label,
            "label2id": label2id,
            "problem_type": "single_label_classification",  # a checkpoint of another problem keeps its own
        }

    def encode(self, values: Iterable[Any]) -> list[int]:
        """The id of each value."""
        return [self.ids[value] for value in values]


def collect_labels(splits: DatasetDict, names: Sequence[str] | None, column: str = "label") -> Labels:
    """The labels of all splits; `names`, where given, are those of ids 0..n-1 or of string labels.

    A `ClassLabel` column brings its own names. Otherwise values are sorted and numbered. Labels of other splits
    that training rows do not have are bad rows, and gone by now; a limit may have left some out of training.

    Args:
        splits: Rows whose `column` holds a label, or a list of labels.
        names: What the dataset calls its labels.
        column: The name of the column.
    """
    labels = _known_labels([*splits.values()], names, column)
    if len(labels.names) < 2:
        fix = f"Check dataset.columns.{column}."
        raise ConfigError(
            Mistake(f"dataset.columns.{column}", "at least two different labels in train", _some(labels.names), fix)
        )
    return labels


def unknown_labels(splits: DatasetDict, names: Sequence[str] | None, column: str = "label") -> Iterator[BadRow]:
    """A bad row for each label, or each list with a label, that is none of the known ones."""
    import pyarrow.compute as pc

    if column not in splits["train"].column_names:  # rows to predict for
        return
    labels = _known_labels([splits["train"]], names, column)
    texts = {split: _holds_text(rows, column) for split, rows in splits.items()}
    if len({*texts.values()}) > 1:
        got = ", ".join(f"{'strings' if is_text else 'numbers'} in {split}" for split, is_text in texts.items())
        fix = "Write them alike in all splits."
        raise ConfigError(Mistake(f"dataset.columns.{column}", "labels of one type", got, fix))
    for split, rows in splits.items():
        values = arrow_column(rows, column)
        is_list = _is_list(rows, column)
        flat = pc.list_flatten(values) if is_list else values
        unknown = {value for value in flat.unique().to_pylist() if value is not None and value not in labels.ids}
        if not unknown:
            continue
        for row, value in enumerate(values.to_pylist()):
            wrong = [one for one in (value or [] if is_list else [value]) if one in unknown]
            if wrong:
                fix = did_you_mean(str(wrong[0]), labels.names, "Correct or drop the row.")
                yield BadRow(split, row, column, f"labels among {_some(labels.names)}", repr(wrong[0]), fix)


def named_labels(rows: Dataset, names: Sequence[str] | None, trained: Sequence[str], column: str = "label") -> Dataset:
    """`rows` with each label as the text that their dataset calls it by, whatever its id is there.

    Args:
        rows: Whose `column` holds a label, or a list of labels.
        names: What the dataset calls its labels, in the order of their ids; None where it does not say.
        trained: The names of the labels of a head, some of which the rows should have.
        column: The name of the column.
    """
    from datasets import List, Value

    if _holds_text(rows, column):
        return rows
    is_list = _is_list(rows, column)
    inside = rows.features[column].feature if is_list else rows.features[column]
    names = names or getattr(inside, "names", None)
    called = _known_labels([rows], names, column)
    texts = {value: called.names[i] for value, i in called.ids.items()}
    values = rows[column][:]
    if is_list:
        values = [None if row is None else [_called(one, texts) for one in row] for row in values]
    else:
        values = [_called(one, texts) for one in values]
    if names is None and not {*called.names} & {*trained}:
        raise ConfigError(Mistake("dataset.labels", f"names for the labels {_some(called.names)}", "none", _NAME_THEM))
    feature = List(Value("string")) if is_list else Value("string")
    return rows.remove_columns(column).add_column(column, values, feature=feature)


def _called(value: Any, texts: Mapping[Any, str]) -> str | None:
    """The name of a label; one without a name as it is written, to be told of as unknown."""
    return None if value is None else texts.get(value, str(value))


def _known_labels(parts: Sequence[Dataset], names: Sequence[str] | None, column: str) -> Labels:
    train = parts[0]
    feature = train.features[column]
    feature = feature.feature if _is_list(train, column) else feature
    if names is None and hasattr(feature, "names"):
        names = feature.names
    present = None if is_stream(train) else _distinct(parts, column)
    if names is None and present is None:
        raise ConfigError(Mistake("dataset.labels", "names, since streamed rows cannot be counted", "none", _NAME_THEM))
    if names is None:
        return Labels([str(value) for value in present or ()], {value: i for i, value in enumerate(present or ())})
    if _holds_text(train, column):
        return Labels(list(names), {name: i for i, name in enumerate(names)})
    if not hasattr(feature, "names") and all(name.isdecimal() for name in names):  # ["1", "2"] are the numbers
        return Labels(list(names), {int(name): i for i, name in enumerate(names)})
    return Labels(list(names), {i: i for i in range(len(names))})


_NAME_THEM = "Set dataset.labels=[a,b] in the order of the ids."


def _distinct(parts: Sequence[Dataset], column: str) -> list[Any]:
    import pyarrow.compute as pc

    found: set[Any] = set()
    for rows in parts:
        values = arrow_column(rows, column)
        found |= {*(pc.list_flatten(values) if _is_list(rows, column) else values).unique().to_pylist()}
    found.discard(None)
    if wrong := [value for value in found if not isinstance(value, str | int)]:
        fix = "Write labels as strings or whole numbers."
        raise ConfigError(Mistake(f"dataset.columns.{column}", "strings or whole numbers", _some(sorted(wrong)), fix))
    return sorted(found)


def _is_list(rows: Dataset, column: str) -> bool:
    return hasattr(rows.features[column], "feature")


def _holds_text(rows: Dataset, column: str) -> bool:
    feature = rows.features[column]
    inner = feature.feature if _is_list(rows, column) else feature
    return getattr(inner, "dtype", "") in ("string", "large_string")


def _some(values: Sequence[Any]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"{list(values[:_SHOWN])}{more}"
