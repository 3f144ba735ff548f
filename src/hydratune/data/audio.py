"""Bad rows of data that comes after a run: refused all together, or left out and said."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hydratune.data.columns import SHOWN, BadRow
from hydratune.utils.errors import ConfigError, Mistake

log = logging.getLogger(__name__)


def left_out(count: int, bad: Sequence[BadRow], key: str, drop: str | None) -> set[int]:
    """The numbers of the rows to leave out.

    Args:
        count: All rows, without what never became one.
        bad: What is wrong, with its place; also lines that never became a row.
        key: Of the config or the command line, that named the data.
        drop: What to set for bad rows to be dropped; None where that is set.

    Raises:
        ConfigError: Where there are bad rows that are not to be dropped, or no others.
    """
    numbers = {one.row for one in bad if one.row is not None}
    lost = sum(one.row is None for one in bad)
    total = f"{len(numbers) + lost:,} of {count + lost:,}"
    if bad and drop is not None:
        fix = f"Mend them, or leave them out with {drop}."
        first = [one.mistake() for one in bad[:SHOWN]]
        raise ConfigError(*first, Mistake(key, "rows that can be read", f"{total} that cannot", fix))
    for one in bad[:SHOWN]:
        log.warning("left out: %s", one.mistake())
    if bad:
        log.warning("data: %s rows are left out", total)
    if len(numbers) == count:
        raise ConfigError(Mistake(key, "rows that can be read", "none", "Check the data."))
    return numbers
