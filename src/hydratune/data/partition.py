"""Partition of the valid rows into the splits of a run: held-out rows, limits, and the fold of a cross-validation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from hydratune.data.cross_validation import CrossValidation
from hydratune.data.eval_sets import kind_of, sets_of
from hydratune.data.splits import RowNumbers, hold_out, overlap_between_splits, row_hashes
from hydratune.data.streaming import is_stream
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line, setting

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

log = logging.getLogger(__name__)

Places = dict[str, list[tuple[str, int]]]  # split -> for each row, the split as read and its number there


@dataclass(frozen=True)
class HoldOut:
    """Arguments of `hold_out`: how rows are drawn."""

    seed: int
    stratify_by: str | None
    group_by: str | None
    shuffle: bool


def number_rows(splits: DatasetDict, test_size: float, cv: CrossValidation) -> RowNumbers:
    """Return the numbers of the rows whose predictions a run records: of test rows, or of all rows with folds."""
    names = [*sets_of(splits, "test").values()] or (["train"] if test_size else [])
    if cv.folds is not None:
        names += [split for split in ("train", "validation") if split in splits and split not in names]
    return RowNumbers(splits, names)


def partition(
    splits: DatasetDict,
    numbers: RowNumbers,
    shares: Mapping[str, float],
    max_samples: Mapping[str, int | None],
    inputs: Mapping[str, Sequence[str]],
    label: str | None,
    options: HoldOut,
    cv: CrossValidation,
) -> Places:
    """Hold out, limit, and fold the rows in place; return where each numbered row was read.

    Args:
        splits: Valid rows.
        numbers: Numbers of the rows, before invalid ones were dropped.
        shares: Missing split -> share of the training rows to hold out; 0 for no such split.
        max_samples: Split -> maximum number of rows; null for all.
        inputs: Columns in which duplicates are equal -> the columns of the data that they are read from.
        label: Column whose values have about equal shares in all folds; None for none.
        options: How rows are drawn.
        cv: Folds.
    """
    # Also with folds, so that the test rows are those of any other run.
    held_out = _hold_out_missing(splits, shares, options)
    if cv.folds is None:
        _warn_of_overlap(splits, inputs, held_out, options)
    for split in splits:
        if (max_rows := max_samples.get(kind_of(split))) is not None:
            splits[split] = limited(splits[split], max_rows, options.seed, options.shuffle)
    places = numbers.restore(splits)
    if cv.folds is not None:
        _take_fold(splits, places, cv, [*inputs], label, options)
        _warn_of_overlap(splits, inputs, held_out, options)
    return places


def by_kind(places: Places, number: Callable[[str, int], int]) -> Places:
    """Return the places of the validation and test rows, one set after the other, with positions in the files.

    Args:
        places: Result of `partition`.
        number: See `RawDataset.number`.
    """
    return {
        kind: [(split, number(split, row)) for name in sets_of(places, kind).values() for split, row in places[name]]
        for kind in ("validation", "test")
    }


def limited(rows: Any, most: int, seed: int, shuffle: bool) -> Any:
    """Return at most that many rows, drawn by `seed`; the first ones for a stream or if `shuffle` is false."""
    if is_stream(rows):
        return rows.take(most)
    drawn = rows.shuffle(seed=seed) if shuffle else rows
    return drawn.select(range(most)) if most < len(rows) else rows


def _warn_of_overlap(
    splits: DatasetDict, inputs: Mapping[str, Sequence[str]], held_out: Collection[str], options: HoldOut
) -> None:
    """Warn of rows that are in two splits, which makes scores too high, and name a fix.

    Args:
        splits: Rows of each split.
        inputs: Columns in which duplicates are equal -> the columns of the data that they are read from.
        held_out: Splits that were held out from train.
        options: How they were drawn.
    """
    columns = [name for key, names in inputs.items() if key in splits["train"].column_names for name in names]
    can_group = len(columns) == 1 and options.shuffle and not (options.stratify_by or options.group_by)
    for split, sentence in overlap_between_splits(splits, [*inputs]):
        fix = "remove them from one of the two, since they raise the score"
        if split in held_out and can_group:
            fix = f"to hold out equal rows together, set {setting('dataset.group_by_column', columns[0])}"
        log.warning("data: %s; %s", sentence, fix)


def _hold_out_missing(splits: DatasetDict, shares: Mapping[str, float], options: HoldOut) -> list[str]:
    """Hold out the missing validation and test splits from train, and return their names.

    Args:
        splits: Rows of each split, changed in place.
        shares: Split -> share of all training rows; 0 for no such split.
        options: How rows are drawn.
    """
    held_out = []
    remaining = 1.0  # share of all training rows that is left in train
    for split, share in shares.items():
        if sets_of(splits, split) or not share:
            continue
        fraction = share if remaining == 1 else share / remaining - 1e-9  # rows are rounded up
        splits["train"], splits[split] = hold_out(splits["train"], fraction, *astuple(options))
        remaining -= share
        held_out.append(split)
        how = f" by {options.group_by}" if options.group_by else "" if options.shuffle else ", from its end"
        log.info("data: no %s split, so %.0f%% of train is held out%s", split, 100 * share, how)
    return held_out


# --- folds -----------------------------------------------------------------------------------------------


def _take_fold(
    splits: DatasetDict,
    places: Places,
    cv: CrossValidation,
    inputs: Sequence[str],
    label: str | None,
    options: HoldOut,
) -> None:
    """Divide the training and validation rows into those of the fold, which become validation, and all others."""
    import numpy as np

    pool = _pool(splits)
    pool_places = [*places.pop("train"), *places.pop("validation", [])]
    stratify = f"_{options.stratify_by}" if options.stratify_by else label
    strata = [str(value) for value in pool[stratify]] if stratify in pool.column_names and options.shuffle else None
    if options.group_by:
        groups = [str(value) for value in pool[f"_{options.group_by}"]]
        held_out = cv.is_held_out(len(pool), strata, groups, options.shuffle)
    else:  # duplicates are in the fold of the first of them
        firsts, copies = _distinct(pool, inputs if options.shuffle else ())
        first_strata = [strata[row] for row in firsts] if strata else None
        held_out = cv.is_held_out(len(firsts), first_strata, (), options.shuffle)[copies]
    for split, selected in (("train", np.flatnonzero(~held_out)), ("validation", np.flatnonzero(held_out))):
        splits[split] = pool.select(selected)
        places[split] = [pool_places[row] for row in selected]
    log.info("data: fold %d of %d, repetition %d of %d", cv.fold, cv.folds, cv.repeat, cv.repeats)


def _pool(splits: DatasetDict) -> Dataset:
    """Return the training rows, followed by the validation rows."""
    from datasets import concatenate_datasets

    rows = [splits[split] for split in ("train", "validation") if split in splits]
    try:
        return concatenate_datasets(rows)
    except ValueError as error:  # features that do not match
        text = f"the columns of train and validation do not match, so {KEY} cannot divide them: {one_line(error, 200)}"
        raise ConfigError(Problem("cv.folds", text, "give both the same columns and types")) from error


def _distinct(rows: Dataset, inputs: Sequence[str]) -> tuple[Any, Any]:
    """Return the number of the first row of each kind of duplicates, and for each row, the position of that first."""
    import numpy as np
    import pandas as pd

    columns = [name for name in inputs if name in rows.column_names]
    if not columns:
        return np.arange(len(rows)), np.arange(len(rows))
    copies, _ = pd.factorize(row_hashes(rows, columns))  # in the order of first appearance
    return np.unique(copies, return_index=True)[1], copies
