"""Column renaming, held-out rows, and duplicates across splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from hydratune.data.cache import arrow_column
from hydratune.data.eval_sets import kind_of
from hydratune.data.readers.column_types import MOST_EXACT
from hydratune.data.streaming import head, is_stream
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset, DatasetDict

GROUPS = "_group"  # a column of test rows; rows with the same value are in one group
_NUMBER = "_row"  # a column with the number of each row as it was read


def without_groups(splits: DatasetDict) -> DatasetDict:
    """Return the splits without the column `GROUPS`."""
    has_groups = {split: GROUPS in (rows.column_names or ()) for split, rows in splits.items()}
    return type(splits)(
        {split: rows.remove_columns(GROUPS) if has_groups[split] else rows for split, rows in splits.items()}
    )


def key_columns(
    split: str, rows: Any, present: Sequence[str], stratify_by: str | None, group_by: str | None
) -> list[str]:
    """Return the extra columns of a split: those that split the training rows, or that group the test rows."""
    if is_stream(rows):
        return []
    names = {"train": [stratify_by, group_by], "test": [group_by]}.get(kind_of(split), [])
    return [name for name in names if name and (split == "train" or name in present)]


def drop_keys(splits: DatasetDict, stratify_by: str | None, group_by: str | None) -> None:
    """Drop the columns that rows were split by; test keeps its groups as `GROUPS`."""
    for name in (stratify_by, group_by):
        for split, rows in splits.items():
            if not name or f"_{name}" not in (rows.column_names or ()):
                continue
            if kind_of(split) != "test" or name != group_by:
                splits[split] = rows.remove_columns(f"_{name}")
            elif f"_{name}" != GROUPS:
                splits[split] = rows.rename_column(f"_{name}", GROUPS)


def select_columns(rows: Any, names: Mapping[str, str | list[str] | None], extra: Sequence[str] = ()) -> Any:
    """Return `rows` with the selected columns under new names.

    Args:
        rows: A dataset or a stream.
        names: New name -> old name. A dotted name selects a field of a struct, and a list of names becomes a column of
            lists. A name that the rows do not have is skipped.
        extra: Other columns to keep, prefixed by `_`.
    """
    from datasets import List

    old_names = [
        old_name for old in names.values() for old_name in (old if isinstance(old, list) else [old]) if old_name
    ]
    for old_name in dict.fromkeys(old_name for old_name in old_names if old_name not in rows.column_names):
        if old_name in (fields := nested(rows.features)):
            rows = with_column(rows, old_name, fields[old_name], partial(_inside, dotted=old_name))
    for name in extra:  # also if the task reads this column
        rows = with_column(rows, f"_{name}", rows.features[name], itemgetter(name))
    lists = {new: old for new, old in names.items() if isinstance(old, list)}
    for new, old in lists.items():
        rows = with_column(rows, new, List(rows.features[old[0]]), partial(_lists, names=old))
    plain = {old: new for new, old in names.items() if isinstance(old, str) and old in rows.column_names}
    rows = rows.select_columns([*plain, *lists, *(f"_{name}" for name in extra)])
    return rows.rename_columns({old: new for old, new in plain.items() if old != new})


def nested(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return the features of all fields inside structs, by dotted name; a field of a list of structs is a list."""
    from datasets import List

    fields: dict[str, Any] = {}
    for name, feature in features.items():
        is_list = isinstance(feature, List)
        struct = feature.feature if is_list else feature
        for inner, field in struct.items() if isinstance(struct, dict) else ():
            subfields = {f"{name}.{inner}": field} | {
                f"{name}.{inner}{k[1:]}": v for k, v in nested({"_": field}).items()
            }
            fields |= {key: List(value) for key, value in subfields.items()} if is_list else subfields
    return fields


def _inside(batch: Mapping[str, Sequence[Any]], dotted: str) -> list[Any]:
    """Return the values of a dotted name; null if a struct on the path is null."""
    name, *path = dotted.split(".")
    return [_field(value, path) for value in batch[name]]


def _field(value: Any, path: Sequence[str]) -> Any:
    """Return a field inside a struct; for a list of structs, the list of their fields."""
    if value is None or not path:
        return value
    if isinstance(value, list):
        return [_field(element, path) for element in value]
    return _field(value[path[0]], path[1:])


def _lists(batch: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[list[Any]]:
    return list(map(list, zip(*(batch[name] for name in names), strict=True)))


def with_column(rows: Any, name: str, feature: Any, values: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Return `rows` with a new or replaced column; pass the features, which `map` of a stream would lose."""
    from datasets import Features

    features = Features({**rows.features, name: feature})
    return rows.map(lambda batch: {name: values(batch)}, batched=True, features=features)


def holds_lists_of_texts(rows: Any, name: str) -> bool:
    """Return whether a column has a list of texts in each row, e.g. the sentences of a document."""
    inner = getattr((rows.features or {}).get(name), "feature", None)
    return getattr(inner, "dtype", "") in ("string", "large_string")


def join_texts(rows: Any, names: Iterable[str]) -> Any:
    """Return `rows` with each list of texts joined by spaces into one text; null if a text is null."""
    from datasets import Value

    for name in names:
        if holds_lists_of_texts(rows, name):
            rows = with_column(rows, name, Value("string"), partial(_joined, name=name))
    return rows


def drop_blanks(rows: Any, names: Iterable[str]) -> Any:
    """Return `rows` without blank texts in some columns of lists."""
    for name in names:
        if holds_lists_of_texts(rows, name):
            rows = with_column(rows, name, rows.features[name], partial(_filled, name=name))
    return rows


def with_whole_labels(splits: Any, names: Iterable[str]) -> Any:
    """Convert labels such as 5.0 to whole numbers if all labels of a column are whole, and return the splits.

    JSON of star ratings has such labels, and so have ids that pandas wrote in a column with missing values. For a
    stream, the first rows decide, and later labels with a fraction become null.
    """
    from datasets import Value

    for name in names:
        float_splits = {split: rows for split, rows in splits.items() if _is_float(rows, name)}
        if not all(_is_whole(head(rows) if is_stream(rows) else rows, name) for rows in float_splits.values()):
            continue
        for split, rows in float_splits.items():
            if is_stream(rows):
                splits[split] = with_column(rows, name, Value("int64"), partial(_whole, name=name))
            else:
                splits[split] = rows.cast_column(name, Value("int64"))
    return splits


def _is_float(rows: Any, name: str) -> bool:
    return getattr((rows.features or {}).get(name), "dtype", "") in ("float32", "float64")


def _is_whole(rows: Any, name: str) -> bool:
    import pyarrow.compute as pc

    values = rows.select_columns(name).with_format("arrow")[:][name]
    is_whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), MOST_EXACT))
    return bool(pc.all(is_whole).as_py())  # `all` ignores nulls


def _whole(batch: Mapping[str, Sequence[Any]], name: str) -> list[int | None]:
    return [int(value) if value is not None and value == value // 1 else None for value in batch[name]]


def _joined(batch: Mapping[str, Sequence[Any]], name: str) -> list[str | None]:
    return [None if texts is None or None in texts else " ".join(texts) for texts in batch[name]]


def _filled(batch: Mapping[str, Sequence[Any]], name: str) -> list[list[str]]:
    return [[text for text in texts if text and text.strip()] for texts in batch[name]]


class RowNumbers:
    """Numbers of the rows of some splits, as they were read.

    The rows have a column of numbers while they are dropped, held out, and limited. `restore` replaces them by rows
    without it, since `datasets` cannot add a column once another added column was removed.

    Args:
        splits: Rows as they were read.
        names: Splits whose rows are numbered. If train is one of them, rows that are held out from it have its numbers.
    """

    def __init__(self, splits: DatasetDict, names: Iterable[str]) -> None:
        self._read: dict[str, Any] = {split: splits[split] for split in names if not is_stream(splits[split])}
        for split, rows in self._read.items():
            splits[split] = rows.add_column(_NUMBER, [*range(len(rows))])

    def restore(self, splits: DatasetDict) -> dict[str, list[tuple[str, int]]]:
        """Remove the column from all splits; return split -> for each row, the split as read and the row's number."""
        numbers = {split: rows[_NUMBER][:] for split, rows in splits.items() if _NUMBER in (rows.column_names or ())}
        origins = {split: split if split in self._read else "train" for split in numbers}
        for split, selected in numbers.items():
            rows = self._read[origins[split]]
            splits[split] = rows if selected == [*range(len(rows))] else rows.select(selected)
        return {split: [(origins[split], number) for number in selected] for split, selected in numbers.items()}


def hold_out(
    rows: Dataset,
    share: float,
    seed: int,
    stratify_by: str | None = None,
    group_by: str | None = None,
    shuffle: bool = True,
) -> tuple[Dataset, Dataset]:
    """Return the remaining rows and the held-out rows, drawn by `seed`.

    Args:
        rows: Rows with a column `_NAME` for each column NAME that they are split by.
        share: Share of the rows, or of the groups, to hold out.
        seed: Seed of the draw.
        stratify_by: Column whose values keep their shares.
        group_by: Column of which no value is in both parts.
        shuffle: Whether to draw the rows if neither column is given; false holds out the last rows, in their order.
    """
    from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit

    if len(rows) < 2:
        count = f"{len(rows)} training row{'s' * (len(rows) != 1)}"
        text = f"{KEY} has {count}, too few to hold out a validation or test split"
        raise ConfigError(Problem("", text, "add rows, or a validation split").under("dataset"))
    if not stratify_by and not group_by:
        # The held-out part is rounded up, and at least one row must remain for training.
        share = min(share, 1 - 1 / len(rows))
        halves = rows.train_test_split(test_size=share, seed=seed, shuffle=shuffle)
        return halves["train"], halves["test"]
    key = "stratify_by_column" if stratify_by else "group_by_column"
    splitter = (StratifiedShuffleSplit if stratify_by else GroupShuffleSplit)(1, test_size=share, random_state=seed)
    values = [str(value) for value in rows[f"_{stratify_by or group_by}"]]
    try:
        train, held_out = next(splitter.split(values, values if stratify_by else None, values if group_by else None))
    except ValueError as error:  # e.g. a class with one row, or a single group
        reason = _why_not_split(Counter(values), bool(stratify_by)) or one_line(error, 200)
        text = f"{KEY}={stratify_by or group_by} cannot split {len(rows):,} rows: {reason}"
        raise ConfigError(Problem(key, text, f"set {KEY}=null").under("dataset")) from error
    return rows.select(train), rows.select(held_out)


def _why_not_split(counts: Mapping[str, int], stratify: bool) -> str:
    """Return why rows cannot be split by a column with these counts of its values; empty if unknown."""
    if not stratify:
        return f"all rows have the value {next(iter(counts))!r}" if len(counts) == 1 else ""
    rare = [value for value, count in counts.items() if count < 2]  # each part needs one
    return f"{rare[0]!r} occurs only once" if rare else f"{len(counts)} values are too many for the held-out rows"


def rows_with(rows: Dataset, column: str, names: Collection[str]) -> list[int]:
    """Return the numbers of the rows whose label, or a label in their list, has one of these names."""
    feature = rows.features[column]
    classes = getattr(getattr(feature, "feature", feature), "names", None)
    selected = {i for i, name in enumerate(classes) if name in names} if classes else {*names}
    values = arrow_column(rows, column).to_pylist()
    return [row for row, value in enumerate(values) if selected & {*(value if isinstance(value, list) else [value])}]


def overlap_between_splits(splits: DatasetDict, inputs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a split and a sentence for each pair of splits with duplicate rows, which have the same `inputs`."""
    import numpy as np

    hashes_by_split: dict[str, np.ndarray] = {}
    for split, rows in splits.items():
        columns = [name for name in inputs if name in (rows.column_names or ())]
        if not columns or is_stream(rows):
            continue
        hashes = row_hashes(rows, columns)
        for other, other_hashes in hashes_by_split.items():
            if kind_of(other) == kind_of(split):  # two validation sets may share rows
                continue
            if count := int(np.isin(hashes, other_hashes).sum()):
                names = " and ".join(columns)
                yield split, f"{count:,} of {len(rows):,} rows of {split} are in {other} too (the same {names})"
        hashes_by_split[split] = hashes


def row_hashes(rows: Dataset, columns: Sequence[str]) -> np.ndarray:
    """Return hashes of shape (rows,) and type uint64, equal for rows with equal values in all columns."""
    import pandas as pd

    frame = pd.DataFrame({name: [_plain(value) for value in rows[name]] for name in columns})
    hashes: np.ndarray = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return hashes


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
