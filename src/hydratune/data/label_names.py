"""Label names in a config, and rows whose label the model does not have."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from hydratune.data.columns import MISSING, SHOWN, BadRow, first_problems
from hydratune.utils.errors import KEY, NODE, Problem, invalid_value

# Names in the order of the ids, or value in the data -> name; None to take them from the data.
LabelNames = Sequence[str] | Mapping[str, str] | None
UnseenLabels = Literal["error", "keep", "drop"]

_NO_LABEL = (*MISSING, "-")  # SNLI marks rows without annotator agreement with -
_SCALARS = (str, bool, int)
_SEPARATORS = (";", ",", "|")  # in labels that may be lists
_MANY = 50  # number of labels from which a column with almost one label per row is reported
_NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)")
_FRACTION = re.compile(r"[-+]?\d*[.,]\d*[1-9]\d*")


def label_text(value: Any) -> str:
    """Return the text of a value for comparison with label names: `true` for any spelling of it, `1` for 1."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text.lower() if text in ("True", "TRUE", "False", "FALSE") else text


def as_texts(labels: Any) -> Any:
    """Return `dataset.labels` with every value and name as text, since YAML reads `true` and `1` as other types.

    Invalid input is returned unchanged, and `check_label_names` reports it.
    """
    if isinstance(labels, list) and all(isinstance(name, _SCALARS) for name in labels):
        return [_text(name) for name in labels]
    if isinstance(labels, dict) and all(isinstance(scalar, _SCALARS) for pair in labels.items() for scalar in pair):
        return {_text(value): _text(name) for value, name in labels.items()}
    return labels


def _text(name: str | bool | int) -> str:
    return name if isinstance(name, str) else label_text(name)


def check_label_names(labels: Any) -> Iterator[Problem]:
    """Yield an error for invalid label names in the result of `as_texts`."""
    names = [*labels.values()] if isinstance(labels, dict) else labels
    if names is None:
        return
    if not names or not all(isinstance(name, str) for name in names):
        requirement = "a list of names, or a mapping from values to names"
        yield invalid_value("labels", requirement, repr(labels), f"set {KEY}=[a,b]")
    elif isinstance(labels, list) and len({*names}) != len(names):
        yield Problem("labels", f"{KEY} has duplicate names: {labels!r}")
    elif len({label_text(name) for name in names}) != len({*names}):
        yield Problem("labels", f"{KEY} has several spellings of true or false: {labels!r}", "use one spelling")


def doubtful_names(
    names: Sequence[str], rows: float, rows_with: Callable[[Collection[str]], Sequence[int]]
) -> Iterator[str]:
    """Yield a warning for label names of the data that may not be separate labels.

    Args:
        names: All label names of the data.
        rows: Number of training rows.
        rows_with: Label names -> the training rows with one of them.
    """
    if len(names) >= _MANY and 2 * len(names) > rows:
        yield f"{len(names):,} different labels in {rows:,} training rows; dataset.columns may name a wrong column"
    if lists := [name for name in names if _is_list(name, {*names})]:
        yield (
            f"the labels {lists[:SHOWN]} may be lists of several labels; for these, set "
            "task=multi_label_classification and dataset.list_separator"
        )
    if missing := [name for name in names if name.strip().casefold() in _NO_LABEL]:
        yield (
            f"the labels {missing} of {len(rows_with(missing)):,} training rows may mark rows without a label; to "
            "leave these out, name the others in dataset.labels, and set dataset.on_bad_rows=skip and "
            "dataset.unseen_labels=drop"
        )
    folded = Counter(map(_folded, names))
    if alike := [name for name in names if folded[_folded(name)] > 1]:
        yield (
            f"the labels {alike} differ only in case, spaces, or characters that look alike or are invisible; to join "
            "them, map each to a name in dataset.labels"
        )


def _folded(name: str) -> str:
    """Return a name normalized so that names that look alike, or differ only in case, are equal."""
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible).casefold().split())


def check_spaces(names: Sequence[str], column: str, place: Callable[[str], str]) -> Iterator[Problem]:
    """Yield an error for each label name of the data that differs from another one only by spaces around it.

    Args:
        names: All label names of the data.
        column: The task's name of the column.
        place: Label name -> file and line of the first row that has it.
    """
    for name in names:
        stripped = name.strip()
        if name == stripped or stripped not in names:
            continue
        skip_hint = (
            f", or set {NODE}dataset.skip_initial_space=true (csv and tsv files)" if name.lstrip() == stripped else ""
        )
        hints = (
            f"remove the spaces from the file{skip_hint}",
            "to merge the labels, map each value to a name in dataset.labels",
            "to keep both labels, list the names of all labels in dataset.labels",
        )
        text = f"the labels {name!r} and {stripped!r} differ only in spaces"
        yield Problem(f"dataset.columns.{column}", text, "\n".join(hints), source=place(name))


def _is_list(name: str, names: set[str]) -> bool:
    """Return whether a name is a list in brackets, or consists of other names."""
    if name.startswith("[") and name.endswith("]"):
        return True
    part_lists = ([part.strip() for part in name.split(separator)] for separator in _SEPARATORS if separator in name)
    return any(names.issuperset(parts) for parts in part_lists)


def check_fractions(names: Sequence[str], column: str) -> Iterator[Problem]:
    """Yield an error if label names are numbers with a fraction, which are scores or lists with commas."""
    numbers = [name.strip() for name in names if name.strip().casefold() not in _NO_LABEL]
    fractions = [name for name in numbers if _FRACTION.fullmatch(name)]
    if not fractions or not all(_NUMBER.fullmatch(name) for name in numbers):
        return
    has_commas = "," in fractions[0]
    hints = (
        f"for numbers, set task=regression{f' {NODE}dataset.decimal=,' if has_commas else ''}",
        *([f"for lists, set task=multi_label_classification {NODE}dataset.list_separator=,"] if has_commas else []),
        "if each number is a label, list the names of all labels in dataset.labels",
    )
    text = f"labels must be words or integers, not numbers with a fraction such as {fractions[0]!r}"
    yield Problem(f"dataset.columns.{column}", text, "\n".join(hints))


def split_unseen(
    bad: Sequence[BadRow], policy: UnseenLabels, sizes: Mapping[str, int]
) -> tuple[list[BadRow], list[BadRow], list[Problem]]:
    """Separate rows whose only error is an unseen label from invalid rows.

    Args:
        bad: Rows that a task reports.
        policy: `dataset.unseen_labels`.
        sizes: Split -> its number of rows.

    Returns:
        The invalid rows; the rows with unseen labels, once each; and errors if the policy is `error`.
    """
    invalid = [bad_row for bad_row in bad if not bad_row.unseen_label]
    unseen = [*{(bad_row.split, bad_row.row): bad_row for bad_row in bad if bad_row.unseen_label}.values()]
    if not unseen or policy != "error":
        return invalid, unseen, []
    hint = f"set {KEY}=keep to count them as errors of the model\nset {KEY}=drop to exclude them from the score"
    total = Problem("dataset.unseen_labels", unseen_counts(unseen, sizes, policy), hint)
    return invalid, unseen, [*first_problems(unseen), total]


def unseen_counts(unseen: Sequence[BadRow], sizes: Mapping[str, int], policy: UnseenLabels) -> str:
    """Return a message with the number of rows with unseen labels per split, and how the policy treats them."""
    counts = {split: sum(bad_row.split == split for bad_row in unseen) for split in sizes}
    per_split = ", ".join(f"{count:,} of {sizes[split]:,} {split} rows" for split, count in counts.items() if count)
    outcome = {"error": "", "keep": "; they count as errors", "drop": "; they are excluded from the score"}[policy]
    labels = ", ".join(dict.fromkeys(bad_row.value for bad_row in unseen[:SHOWN]))
    return f"{per_split} have labels that are missing from the training split, such as {labels}{outcome}"
