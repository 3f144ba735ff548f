"""Checks of the options that all datasets have, before any data is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hydratune.data.label_names import check_label_names
from hydratune.data.split_column import check_values, unknown_split
from hydratune.utils.errors import KEY, NODE, Problem, invalid_value

SPLITS = ("train", "validation", "test")


class Options(Protocol):
    """The options that `data.source.Source` documents."""

    columns: dict[str, str | list[str] | None]
    labels: list[str] | dict[str, str] | None
    max_samples: dict[str, int | None]
    validation_size: float
    test_size: float
    stratify_by_column: str | None
    group_by_column: str | None
    split_column: str | bool | None
    split_values: dict[str, str | list[str] | None] | None


def check_source(source: Options) -> Iterator[Problem]:
    """Yield an error for each invalid option."""
    for task_name, data_name in source.columns.items():
        if not all(isinstance(name, str) for name in (data_name if isinstance(data_name, list) else [data_name or ""])):
            requirement = "the name of a column or a list of names"
            yield invalid_value(f"columns.{task_name}", requirement, repr(data_name), f"set {KEY}=NAME")
    names = [name for name in source.columns.values() if isinstance(name, str)]
    for repeated in sorted({name for name in names if names.count(name) > 1}):
        keys = " and ".join(f"{KEY}.{task_name}" for task_name, name in source.columns.items() if name == repeated)
        hint = "set one of them to another column, or to null if the task does not require it"
        yield Problem("columns", f"{keys} are the same column {repeated!r}", hint)
    for split, rows in source.max_samples.items():
        if split not in SPLITS:
            yield unknown_split("max_samples", split)
        elif rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            hint = f"set {KEY}=null to use all rows"
            yield invalid_value(f"max_samples.{split}", "an integer of at least 1, or null", repr(rows), hint)
    yield from _check_splitting(source)
    yield from check_label_names(source.labels)


def _check_splitting(source: Options) -> Iterator[Problem]:
    """Yield an error for each invalid option that splits rows."""
    if not 0 < source.validation_size < 1:
        hint = f"set {KEY}=0.1 to hold out 10% of the training rows"
        yield invalid_value("validation_size", "a fraction between 0 and 1", repr(source.validation_size), hint)
    test_hint = f"set {KEY}=0.1, or {KEY}=0 for no test split"
    if not 0 <= source.test_size < 1:
        yield invalid_value("test_size", "a fraction from 0 to below 1", repr(source.test_size), test_hint)
    elif 0 < source.validation_size < 1 <= source.validation_size + source.test_size:
        sizes = f"{NODE}validation_size ({source.validation_size!r}) and {KEY} ({source.test_size!r})"
        yield Problem("test_size", f"{sizes} leave no rows to train on", "lower one of them")
    if source.stratify_by_column and source.group_by_column:
        columns = f"{KEY} ({source.stratify_by_column!r}) and {NODE}group_by_column ({source.group_by_column!r})"
        hint = f"set {KEY}=null or {NODE}group_by_column=null"
        yield Problem("stratify_by_column", f"{columns} cannot be combined", hint)
    if source.split_values is not None and not source.split_column:
        hint = f"set {NODE}split_column=COLUMN, or {KEY}=null"
        yield Problem("split_values", f"{KEY} requires {NODE}split_column", hint)
    yield from check_values(source.split_values)
