"""Report or skip the bad rows of data that a finished run is applied to."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hydratune.data.columns import SHOWN, BadRow, first_problems
from hydratune.utils.errors import KEY, ConfigError, Problem

log = logging.getLogger(__name__)


def left_out(count: int, bad: Sequence[BadRow], key: str, drop: str | None) -> set[int]:
    """Return the numbers of the rows to skip, and log a warning for each of the first ones.

    Args:
        count: Number of rows that were read, without the lines that are not rows.
        bad: Invalid rows with their places, including lines that are not rows.
        key: Key of the config or the command line that names the data.
        drop: Setting that drops bad rows, for the message; None if it is already set.

    Raises:
        ConfigError: If bad rows must not be dropped, or if no valid row remains.
    """
    numbers = {bad_row.row for bad_row in bad if bad_row.row is not None}
    bad_lines = sum(bad_row.row is None for bad_row in bad)
    total = f"{len(numbers) + bad_lines:,} of {count + bad_lines:,}"
    if bad and drop is not None:
        hint = f"fix them, or skip them with {drop}"
        raise ConfigError(*first_problems(bad), Problem(key, f"{total} rows are invalid", hint))
    for bad_row in bad[:SHOWN]:
        log.warning("skipped: %s", bad_row.problem().message)
    if bad:
        log.warning("data: %s rows are skipped", total)
    if len(numbers) == count:
        raise ConfigError(Problem(key, f"{KEY} has no valid rows"))
    return numbers
