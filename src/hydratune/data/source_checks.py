"""Checks of the options that all datasets have, before any data is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hydratune.data.label_names import check_label_names
from hydratune.data.split_column import check_values
from hydratune.utils.errors import Mistake, Problem, did_you_mean, one_of

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
            fix = f"Set dataset.columns.{task_name}=NAME."
            yield Mistake(f"columns.{task_name}", "the name of a column or a list of names", repr(data_name), fix)
    names = [name for name in source.columns.values() if isinstance(name, str)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield Mistake("columns", "a different column for each", f"{repeated} twice", "Set one of them to null.")
    for split, rows in source.max_samples.items():
        if split not in SPLITS:
            fix = did_you_mean(split, SPLITS, "Set dataset.max_samples.train.")
            yield Mistake(f"max_samples.{split}", one_of(SPLITS), repr(split), fix)
        elif rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            yield Mistake(f"max_samples.{split}", "a number of rows above 0 or null", repr(rows), "Leave it out.")
    yield from _check_splitting(source)
    yield from check_label_names(source.labels)


def _check_splitting(source: Options) -> Iterator[Problem]:
    """Yield an error for each invalid option that splits rows."""
    if not 0 < source.validation_size < 1:
        fix = "Set dataset.validation_size=0.1."
        yield Mistake("validation_size", "a share between 0 and 1", repr(source.validation_size), fix)
    if not 0 <= source.test_size < 1 - source.validation_size:
        fix = "Set dataset.test_size=0.1, or 0 for no test split."
        yield Mistake("test_size", "a share from 0 that leaves rows to train on", repr(source.test_size), fix)
    if source.stratify_by_column and source.group_by_column:
        got = f"{source.stratify_by_column!r} beside dataset.group_by_column"
        yield Mistake("stratify_by_column", "one way to split", got, "Set one of them to null.")
    if source.split_values is not None and not source.split_column:
        fix = "Set dataset.split_column=NAME, or leave dataset.split_values out."
        yield Mistake("split_values", "null without dataset.split_column", repr(source.split_values), fix)
    yield from check_values(source.split_values)
