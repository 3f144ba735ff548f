"""Streams of training rows that are read while they are used, for data larger than memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydratune.data.columns import BadRow, problems
from hydratune.data.dropped import DroppedRows
from hydratune.utils.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

HEAD = 1000  # number of rows that are checked before training
_PLACE = "a row of the stream"


def is_stream(rows: Any) -> bool:
    """Return whether rows have no length."""
    return not hasattr(rows, "__len__")


def length(rows: Any) -> int | None:
    """Return the number of rows; None for a stream."""
    return None if is_stream(rows) else len(rows)


def format_length(rows: Any) -> str:
    """Return the number of rows as text for a message."""
    count = length(rows)
    return "as a stream" if count is None else f"{count:,} rows"


def head(stream: Any) -> Dataset:
    """Return the first `HEAD` rows of a stream, in memory."""
    from datasets import Dataset

    return Dataset.from_list(list(stream.take(HEAD)), features=stream.features)


def described(stream: Any, encoding: str) -> Any:
    """Return a stream that was mapped, with a description that also depends on how its rows were encoded."""
    text = f"{stream.info.description}\n{encoding}"
    stream.info.description = hashlib.sha256(text.encode()).hexdigest()
    return stream


def typed(stream: Any) -> Any:
    """Return the stream with column types, inferred from its first rows if the reader does not know them."""
    return stream if stream.features else stream.cast(head(stream).features)


def checked(stream: Any, task: Any, label_names: list[str] | None, drop: bool, dropped: DroppedRows) -> Any:
    """Return the stream without the rows that `task` cannot use.

    If `drop` is false, reading such a row raises ConfigError.
    """
    features = stream.features
    count = 0

    def sound(batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        nonlocal count
        from datasets import Dataset, DatasetDict

        rows = Dataset.from_dict(dict(batch), features=features)
        bad: list[BadRow] = list(task.bad_rows(DatasetDict(train=rows), label_names))
        if bad and not drop:
            stream_rows = [bad_row.located(_PLACE) for bad_row in bad]
            raise ConfigError(*problems(stream_rows, {"train": len(rows)}))
        row_numbers = {bad_row.row for bad_row in bad}
        if row_numbers:
            count += len(row_numbers)
            dropped.add_streamed((bad_row.located(_PLACE) for bad_row in bad), batch)
            log.warning("data: %d invalid rows of the stream were skipped so far", count)
        return {name: list(_without(values, row_numbers)) for name, values in batch.items()}

    return stream.map(sound, batched=True, batch_size=HEAD, features=features)


def _without(values: Sequence[Any], numbers: set[int | None]) -> Iterator[Any]:
    return (value for i, value in enumerate(values) if i not in numbers)
