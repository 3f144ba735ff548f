"""The file in the run directory that lists the rows that were dropped from the data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydratune.data.columns import BadRow, preview
from hydratune.utils.files import open_for_appending, remove_file, write_lines

DROPPED_ROWS = "dropped_rows.jsonl"


@dataclass
class DroppedRows:
    """Dropped rows and the reasons for dropping them.

    Attributes:
        before: Rows that were dropped before training.
        path: File that lists the rows; None until `list_in` is called.
        parts: Dropped rows of the sources of a mixture, whose streams list their rows in the same file.
    """

    before: list[BadRow] = field(default_factory=list)
    path: Path | None = None
    parts: Sequence[DroppedRows] = ()

    def list_in(self, folder: Path) -> int:
        """Write the file into a run directory, and return the number of rows so far.

        A stream appends its rows later. Without rows, no file is written.
        """
        self.path = folder / DROPPED_ROWS
        for part in self.parts:
            part.path = self.path
        remove_file(self.path)  # a resumed run has an old file
        if self.before:
            write_lines(self.path, map(_as_json, self.before))
        return len(self.before)

    def add_streamed(self, bad: Iterable[BadRow], batch: Mapping[str, Sequence[Any]]) -> None:
        """Append rows of a batch of a stream to the file, also from a DataLoader worker.

        Their line numbers are unknown, so each row is listed with its values.
        """
        if self.path is None:
            return
        with open_for_appending(self.path) as file:
            for bad_row in bad:
                values = {name: preview(column[bad_row.row or 0]) for name, column in batch.items()}
                file.write(json.dumps({**_as_json(bad_row), "row": values}, ensure_ascii=False).encode() + b"\n")

    def merge_epochs(self) -> int:
        """List each row of a stream once even if several epochs dropped it, and return the number of listed rows."""
        if self.path is None or not self.path.exists():
            return 0
        streamed_lines = dict.fromkeys(self.path.read_text(encoding="utf-8").splitlines()[len(self.before) :])
        write_lines(self.path, [*map(_as_json, self.before), *map(json.loads, streamed_lines)])
        return len(self.before) + len(streamed_lines)


def _as_json(bad: BadRow) -> dict[str, Any]:
    return {"split": bad.split, "place": bad.place, "reason": bad.reason, "value": bad.value or None}
