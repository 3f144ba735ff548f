"""Mapping of the labels in data (strings, IDs, booleans) to IDs 0..n-1 and back.

The meaning of a value depends on the names and on the type of the column, never on the rows that are present:
1. A value that equals a label name is that label: `1` is "1", and `true` is "true", in any order of the names.
2. Without such names, integers are IDs that count from 0, and false and true are 0 and 1.
3. Without any names, each value of the training split is a label, in sorted order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.data.cache import arrow_column
from hydratune.data.columns import COLUMN, BadRow, preview
from hydratune.data.label_names import LabelNames, check_fractions, label_text
from hydratune.data.splits import with_column
from hydratune.data.streaming import head, is_stream
from hydratune.tasks.tokenize import IGNORED
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, mapping_setting, similar

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

TRUE_NAMES = "true_names"  # column of the names of true labels, in a split with labels that the head does not have
_LISTS = "labels"  # column of tasks that read lists of labels
_SHOWN = 5  # names that a message lists
_NAME_THEM = f"set {KEY}=[a,b] in the order of the IDs"


@dataclass(frozen=True)
class Labels:
    """Label set: `names[i]` is the name of ID `i`, and `ids` maps a value of the data to its ID."""

    names: list[str]
    ids: Mapping[Any, int]

    def head(self) -> dict[str, Any]:
        """Return the arguments of the model's config for a classification head."""
        id2label = dict(enumerate(self.names))
        label2id = {name: i for i, name in id2label.items()}
        return {
            "num_labels": len(self.names),
            "id2label": id2label,
            "label2id": label2id,
            "problem_type": "single_label_classification",  # otherwise, a checkpoint keeps its own problem type
        }

    def encode(self, values: Iterable[Any]) -> list[int]:
        """Return the ID of each value; `IGNORED` for a label that the head does not have."""
        return [self.ids.get(value, IGNORED) for value in values]

    def name(self, value: Any) -> str:
        """Return the label name of a value; for an unseen label, the value as text."""
        return self.names[self.ids[value]] if value in self.ids else str(value)

    def unseen(self, rows: Dataset, column: str) -> set[Any]:
        """Return the values of a column that are not among these labels; empty for a stream."""
        return set() if is_stream(rows) else {*_present(rows, column)} - {*self.ids}


# --- names and IDs ---------------------------------------------------------------------------------------


def name_labels(splits: DatasetDict, names: LabelNames, column: str = "label") -> tuple[DatasetDict, list[str] | None]:
    """Return the rows, and the label names in the order of the IDs, from all rows as they were read.

    Invalid rows must be included, since the meaning of an ID must not depend on which rows are dropped.

    Args:
        splits: Rows whose `column` holds a label, or a list of labels. If `names` maps values to names, the returned
            rows hold the names.
        names: Label names in the config.
        column: Name of the column.

    Raises:
        ConfigError: If IDs do not count from 0, or names do not match those of a `ClassLabel` column.
    """
    if isinstance(names, Mapping):
        mapped = type(splits)({split: _mapped(rows, names, column) for split, rows in splits.items()})
        return mapped, list(dict.fromkeys(names.values()))
    label_names = None if names is None else list(names)
    samples = [head(rows) if is_stream(rows) else rows for rows in splits.values()]
    if not all(_holds_labels(rows, column) for rows in samples if len(rows)) or not len(samples[0]):
        return splits, label_names  # the type of the column is reported with the invalid rows
    label_names = label_names or _class_names(samples[0], column)
    if label_names is None:
        value_names = _labels(samples[0], None, column).names
        if not _is_list(samples[0], column) and (errors := [*check_fractions(value_names, column)]):
            raise ConfigError(*errors)
        return splits, None if is_stream(splits["train"]) else value_names
    for rows in samples:
        _by_value(rows, label_names, column)
    _check_ids(samples, label_names, column)
    return splits, label_names


def collect_labels(splits: DatasetDict, names: Sequence[str] | None, column: str = "label") -> Labels:
    """Return the label set of a head.

    Args:
        splits: Rows whose `column` holds a label, or a list of labels.
        names: Names that `name_labels` returns; None to number the values of all splits in sorted order.
        column: Name of the column.
    """
    split_rows = [*splits.values()]
    names = names or _class_names(split_rows[0], column)
    if names is None and is_stream(split_rows[0]):
        text = f"{KEY} is required for streamed data, whose labels are not known in advance"
        raise ConfigError(Problem("dataset.labels", text, _NAME_THEM))
    if names is None:
        values = sorted({value for rows in split_rows for value in _distinct(rows, column)})
        labels = Labels([str(value) for value in values], {value: i for i, value in enumerate(values)})
    else:
        ids: dict[Any, int] = {}
        for rows in split_rows:
            ids |= _labels(rows, names, column).ids
        labels = Labels(list(names), ids)
    if len(labels.names) < 2:
        requirement = "a column with at least two different labels in the training split"
        hint = f"set {KEY}=COLUMN to another column, or add rows with other labels"
        raise ConfigError(invalid_value(f"dataset.columns.{column}", requirement, _some(labels.names), hint))
    return labels


def unknown_labels(splits: DatasetDict, names: Sequence[str] | None, column: str = "label") -> Iterator[BadRow]:
    """Yield a bad row for each label, or each list with a label, that the head will not have."""
    if column not in splits["train"].column_names:  # rows to predict for
        return
    names = _labels(splits["train"], names, column).names
    texts = {split: _holds_text(rows, column) for split, rows in splits.items()}
    if len({*texts.values()}) > 1:
        types = ", ".join(f"{'strings' if is_text else 'numbers'} in {split}" for split, is_text in texts.items())
        hint = "write labels the same way in all splits"
        raise ConfigError(Problem(f"dataset.columns.{column}", f"{KEY} has labels of different types: {types}", hint))
    for split, rows in splits.items():
        unknown = _labels(rows, names, column).unseen(rows, column)
        is_list = _is_list(rows, column)
        has_own_names = _class_names(rows, column) is not None  # other IDs are invalid, and -1 means no label
        for row, value in enumerate(arrow_column(rows, column).to_pylist() if unknown else ()):
            labels = value or [] if is_list else [] if _is_blank(value) else [value]  # `bad_values` reports blank ones
            invalid = [label for label in labels if label in unknown]
            if invalid:
                value, hint = preview(invalid[0]), similar("label", invalid[0], map(str, names))
                text = f"unknown label {value} in {COLUMN}"
                yield BadRow(split, row, column, text, hint, value, unseen_label=not has_own_names)


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def named_labels(rows: Dataset, names: LabelNames, trained: Sequence[str], column: str = "label") -> Dataset:
    """Return `rows` with each label as its name in their dataset, whatever its ID is there.

    Args:
        rows: Rows whose `column` holds a label, or a list of labels.
        names: Label names in the rows' config.
        trained: Label names of a head, some of which the rows should have.
        column: Name of the column.
    """
    if isinstance(names, Mapping):
        return _mapped(rows, names, column)
    if _holds_text(rows, column):
        return rows
    names = names or _class_names(rows, column)
    if names is None:
        name_by_text = {label_text(name): name for name in trained}
        name_by_value = {value: name_by_text.get(label_text(value), str(value)) for value in _distinct(rows, column)}
        if not {*name_by_value.values()} & {*trained}:
            text = f"{KEY} is required: the model has no labels named {_some([*name_by_value.values()])}"
            raise ConfigError(Problem("dataset.labels", text, _NAME_THEM))
    else:
        _check_ids([rows], names, column)
        name_by_value = _by_value(rows, names, column)
    return _renamed(rows, column, lambda value: name_by_value.get(value, str(value)))


def with_true_names(encoded: Dataset, rows: Dataset, labels: Labels, column: str = "label") -> Dataset:
    """Return `encoded` with the names of the true labels if some are unseen, since these have no ID.

    Args:
        encoded: Encoded rows, in the same number and order as `rows`.
        rows: Rows with the labels of the data.
        labels: Label set of the head.
        column: Name of the column.
    """
    if not labels.unseen(rows, column):
        return encoded
    is_list = _is_list(rows, column)
    values = [[labels.name(label) for label in value] if is_list else labels.name(value) for value in rows[column]]
    return encoded.add_column(TRUE_NAMES, values)


# --- values of a column ----------------------------------------------------------------------------------


def _labels(rows: Dataset, names: Sequence[str] | None, column: str) -> Labels:
    """Return the label set of one split; without names, that of its values."""
    names = names or _class_names(rows, column)
    if names is None:
        values = _distinct(rows, column)
        return Labels([str(value) for value in values], {value: i for i, value in enumerate(values)})
    numbers = {name: i for i, name in enumerate(names)}
    return Labels(list(names), {value: numbers[name] for value, name in _by_value(rows, names, column).items()})


def _by_value(rows: Dataset, names: Sequence[str], column: str) -> dict[Any, str]:
    """Return value -> label name, for every value that a column of this type may have."""
    classes = _class_names(rows, column)
    if classes is not None:
        return _by_class(classes, names)
    name_by_text = {label_text(name): name for name in names}
    if _holds_text(rows, column):
        spellings = {text for name in name_by_text if name in _TRUTH for text in (name, name.title(), name.upper())}
        return {text: name_by_text[label_text(text)] for text in spellings} | {name: name for name in names}
    is_bool = str(getattr(_inside(rows, column), "dtype", "")) == "bool"
    name_by_number = {int(name): name for name in names if _is_number(name)}
    name_by_truth = {
        value: name_by_text[text] for value, text in ((False, "false"), (True, "true")) if text in name_by_text
    }
    if is_bool and (len(name_by_truth) == 1 or (len(names) != 2 and not (name_by_truth or name_by_number))):
        hint = f"set {KEY}=[false,true], or two names in the order false, true"
        raise ConfigError(invalid_value("dataset.labels", "names for false and true", _some(names), hint))
    if is_bool and tuple(name.casefold() for name in names) in _TRUE_FIRST:
        hint = f"set {mapping_setting('dataset.labels', {'true': names[0], 'false': names[1]})}"
        text = f"{KEY} must begin with the name for false, not {_some(names)}"
        raise ConfigError(Problem("dataset.labels", text, hint))
    if is_bool and name_by_truth:
        return name_by_truth
    if name_by_truth and [*name_by_text][:2] != [*_TRUTH]:  # ambiguous: 0 may mean false or the first name
        by_id = (
            "'dataset.labels={0:false,1:true}'"
            if {*name_by_text} == {*_TRUTH}
            else mapping_setting(KEY, {0: "NAME", 1: "NAME"}, ",...")
        )
        text = f"{KEY}={_some(names)} is ambiguous for integer labels: 0 may be false or {names[0]!r}"
        raise ConfigError(Problem("dataset.labels", text, f"map each ID to its name: {by_id}"))
    ids = dict(enumerate(names))
    return name_by_number if any(ids.get(number) != name for number, name in name_by_number.items()) else ids


_TRUTH = ("false", "true")
_TRUE_FIRST = (("yes", "no"), ("y", "n"), ("positive", "negative"), ("pos", "neg"))


def _by_class(classes: Sequence[str], names: Sequence[str]) -> dict[Any, str]:
    """Return ID of a `ClassLabel` column -> name: its own if it has all names, otherwise a new one for each."""
    if {*names} <= {*classes}:
        return {i: name for i, name in enumerate(classes) if name in names}
    shared_ids = [i for i, name in enumerate(classes) if name in names]
    if len(names) != len(classes) or any(names[i] != classes[i] for i in shared_ids):
        text = f"{KEY}={_some(names)} does not match the labels of the data: {_some(classes)}"
        raise ConfigError(Problem("dataset.labels", text, f"remove {KEY}, or name each label in that order"))
    return dict(enumerate(names))


def _check_ids(samples: Sequence[Dataset], names: Sequence[str], column: str) -> None:
    """Raise ConfigError if integers that are not names themselves do not count from 0.

    An ID outside the names is a bad row only if every name has an ID; otherwise, all IDs may be off by one.
    """
    if any(_is_number(name) for name in names):
        return
    integer_splits = [rows for rows in samples if _class_names(rows, column) is None and not _holds_text(rows, column)]
    values = sorted({value for rows in integer_splits for value in _present(rows, column)})
    ids = {*range(len(names))}
    if not values or isinstance(values[0], bool) or (0 in values and ({*values} <= ids or ids <= {*values})):
        return
    pairs = zip(values, names, strict=True) if len(values) == len(names) else [(values[0], names[0])]
    suffix = "" if len(values) == len(names) else ",..."
    hint = f"map each ID to its name: {mapping_setting('dataset.labels', dict(pairs), suffix)}"
    text = f"{KEY}={_some(names)} needs the IDs 0 to {len(names) - 1}, but the data has {_some(values)}"
    raise ConfigError(Problem("dataset.labels", text, hint))


def _mapped(rows: Any, names: Mapping[str, str], column: str) -> Any:
    """Return `rows` with values replaced by their names in a mapping; other values become text."""
    if column not in rows.column_names or not _holds_labels(head(rows) if is_stream(rows) else rows, column):
        return rows
    classes = _class_names(rows, column) or ()
    name_by_text = {label_text(value): name for value, name in names.items()}
    _check_zeros(head(rows) if is_stream(rows) else rows, name_by_text, column)
    name_by_id = {i: names[name] for i, name in enumerate(classes) if name in names}
    return _renamed(rows, column, lambda value: name_by_id.get(value, name_by_text.get(label_text(value), str(value))))


def _check_zeros(rows: Dataset, names: Mapping[str, str], column: str) -> None:
    """Raise ConfigError for values such as 01 where a mapping has 1."""
    texts = [value for value in _present(rows, column) if isinstance(value, str) and value not in names]
    padded = [text for text in texts if text.isdecimal() and str(int(text)) in names]
    if padded:
        key = str(int(padded[0]))
        text = f"{KEY} has the value {key}, but the data has {padded[0]!r}"
        example = mapping_setting("dataset.labels", {padded[0]: names[key]}, ",...")
        hint = f"set {example} on the command line\nin YAML, quote {padded[0]!r}"
        raise ConfigError(Problem("dataset.labels", text, hint))


def _renamed(rows: Any, column: str, name: Any) -> Any:
    """Return `rows` with `name(value)` for each label; null stays null."""
    from datasets import List, Value

    is_list = _is_list(rows, column)

    def named(values: Iterable[Any]) -> list[Any]:
        return [None if value is None else name(value) for value in values]

    def renamed(batch: Mapping[str, Any]) -> list[Any]:
        return [value and named(value) for value in batch[column]] if is_list else named(batch[column])

    feature = List(Value("string")) if is_list else Value("string")
    if is_stream(rows):
        return with_column(rows, column, feature, renamed)
    return rows.remove_columns(column).add_column(column, renamed({column: rows[column][:]}), feature=feature)


def _present(rows: Dataset, column: str) -> list[Any]:
    """Return the values that occur, without null."""
    import pyarrow.compute as pc

    values = arrow_column(rows, column)
    flat = pc.list_flatten(values) if _is_list(rows, column) else values
    return [value for value in flat.unique().to_pylist() if value is not None]


def _distinct(rows: Dataset, column: str) -> list[Any]:
    """Return the labels that occur, sorted; blank texts are missing values."""
    values = [value for value in _present(rows, column) if not isinstance(value, str) or value.strip()]
    if invalid := [value for value in values if not isinstance(value, str | int)]:
        requirement = "a column of strings, integers, or booleans"
        raise ConfigError(invalid_value(f"dataset.columns.{column}", requirement, _some(sorted(invalid))))
    return sorted(values)


def _inside(rows: Any, column: str) -> Any:
    """Return the feature of a label, also of one in a list."""
    return rows.features[column].feature if _is_list(rows, column) else rows.features[column]


def _class_names(rows: Any, column: str) -> list[str] | None:
    names: list[str] | None = getattr(_inside(rows, column), "names", None)
    return names


def _is_list(rows: Any, column: str) -> bool:
    return hasattr(rows.features[column], "feature")


def _holds_text(rows: Any, column: str) -> bool:
    return getattr(_inside(rows, column), "dtype", "") in ("string", "large_string")


def _holds_labels(rows: Dataset, column: str) -> bool:
    """Return whether the column can hold labels: texts, integers, or booleans, or lists of these."""
    if column == _LISTS and column in rows.column_names and not _is_list(rows, column):
        return False
    dtype = str(getattr(_inside(rows, column), "dtype", "")) if column in rows.column_names else ""
    return dtype.startswith(("string", "large_string", "int", "uint", "bool"))


def _is_number(name: str) -> bool:
    """Return whether a name is the decimal notation of an integer."""
    digits = name.removeprefix("-")
    return digits.isdecimal() and digits.isascii() and str(int(name)) == name


def _some(values: Sequence[Any]) -> str:
    suffix = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"{list(values[:_SHOWN])}{suffix}"
