"""Journal of a run: all its entries for MLflow, written to the run directory first.

`tracking.jsonl` has one entry per line, in the order of the events. `tracking.sent` records which run in MLflow has how
many bytes of it. Any upload (by the run itself or by `hydratune sync`) starts there.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from hydratune.tracking.entries import Entry, Point, parse_entry
from hydratune.utils import clock
from hydratune.utils.errors import Problem
from hydratune.utils.files import find_files, open_for_appending, write_text
from hydratune.utils.places import check_place
from hydratune.utils.stored_files import StoredFileError, open_stored, read_stored

log = logging.getLogger(__name__)

DIRECTORY = "hydratune.directory"  # tag: the absolute path of the run directory
JOURNAL, SENT, LOCK = "tracking.jsonl", "tracking.sent", ".tracking.lock"


class Sent(NamedTuple):
    """Progress of the upload of a journal.

    Args:
        end: Number of bytes of the journal that the run in the store has.
        run_id: ID of the run in the store; empty before it is created.
        refused: Descriptions of entries that the store will never take.
    """

    end: int = 0
    run_id: str = ""
    refused: tuple[str, ...] = ()


class Journal:
    """The entries of one run directory, for any number of readers and one process that writes.

    Attributes:
        params: Recorded params, name -> value.
        uri: The store that the run was started with, without a password.
        key: Key of the run in its store.
        began: Start of the run in ms since 1970; 0 if not recorded.
        directory_before: Absolute path of the run directory at the last start of the run; empty if not recorded.
        last_sent: Progress that this process recorded last, also if it could not be written.
        is_incomplete: Whether an entry could not be written.
        damaged: Number of lines that are JSON but not entries; they are skipped.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / JOURNAL
        check_place(JOURNAL, self._path)
        self._writing, self.is_incomplete = threading.Lock(), False
        self.last_sent = Sent()
        self._points: dict[tuple[str, int], Point] = {}
        self.params: dict[str, str] = {}
        self.uri = self.key = self.directory_before = ""
        self.began = 0
        self.damaged = sum(entry is None for entry in self._lines(0))
        if self.damaged:
            log.warning("tracking: skipped %d invalid lines of %s", self.damaged, self._path)
        for entry in self.entries(0):
            if entry.kind in ("run", "continue"):
                self.directory_before = entry.values["tags"].get(DIRECTORY, "")
            if entry.kind == "run":
                self.uri, self.key, self.began = (entry.values[name] for name in ("uri", "key", "began"))
            elif entry.kind == "metrics":
                self._points |= {(point.name, point.step): point for point in entry.values["points"]}
            elif entry.kind == "params":
                self.params |= entry.values["params"]

    def exists(self) -> bool:
        """Return whether this run was recorded before."""
        return self._path.is_file()

    def write(self, kind: str, **values: Any) -> None:
        """Append an entry; readers see only complete entries, because they wait for the end of a line.

        If the disk is full, the entry is lost with one warning, but the run continues.
        """
        line = json.dumps({"kind": kind, **values}).encode() + b"\n"
        try:
            with self._writing, open_for_appending(self._path) as file:
                is_truncated = not self._is_end_of_line(file.tell())  # the previous writer was killed inside a line
                file.write(b"\n" + line if is_truncated else line)
        except OSError as error:
            if not self.is_incomplete:
                log.warning("tracking: cannot write %s, training continues: %s", self._path, error)
            self.is_incomplete = True

    def write_params(self, params: Mapping[str, str]) -> None:
        """Append the params that are not recorded yet."""
        new = {name: value for name, value in params.items() if name not in self.params}
        self.params |= new
        if new:
            self.write("params", params=new)

    def write_metrics(self, values: Mapping[str, float], step: int) -> list[str]:
        """Append a point for each name, but never a second one at the same step; return the names of infinities.

        MLflow would store infinities as 1.8e308, so they are skipped. A run that resumes from a checkpoint repeats
        steps whose points are recorded already.
        """
        now = clock.milliseconds()
        infinite = [name for name, value in values.items() if math.isinf(value)]
        points = [
            Point(name, float(value), now, step)
            for name, value in values.items()
            if name not in infinite and (name, step) not in self._points
        ]
        self._points |= {(point.name, step): point for point in points}
        if points:
            self.write("metrics", points=points)
        return infinite

    def point(self, name: str, value: float) -> Point | None:
        """Return the latest point of a metric that has this value; None without such a point."""
        return next((p for p in reversed(self._points.values()) if p.name == name and p.value == value), None)

    def has_ended(self) -> bool:
        """Return whether the end of the run was recorded and the run was not resumed afterwards."""
        kinds = [entry.kind for entry in self.entries(0) if entry.kind in ("run", "continue", "status")]
        return kinds[-1:] == ["status"]

    def entries(self, start: int) -> Iterator[Entry]:
        """Yield complete entries from a byte on; skip lines that are not entries."""
        yield from (entry for entry in self._lines(start) if entry)

    def _lines(self, start: int) -> Iterator[Entry | None]:
        yield from _read_lines(self._path, start)

    def sent(self) -> Sent:
        """Return the progress of the upload; the start if none is recorded."""
        try:
            progress = read_stored(self.directory / SENT, Sent)
        except (OSError, StoredFileError):
            progress = Sent()
        if not self._is_end_of_line(progress.end):  # the file belongs to another journal
            progress = Sent()
        return self.last_sent if self.last_sent.end > progress.end else progress

    def mark_sent(self, sent: Sent) -> None:
        """Record the progress of the upload.

        On a full disk, it is recorded in memory only, so that a later process uploads the same entries again.
        """
        self.last_sent = sent
        try:
            write_text(self.directory / SENT, json.dumps(sent._asdict()))
        except OSError as error:
            log.debug("tracking: %s cannot be written: %s", SENT, error)

    def is_delivered(self) -> bool:
        """Return whether the store has every entry, except for those that it refused."""
        return next(self.entries(self.sent().end), None) is None

    def _is_end_of_line(self, end: int) -> bool:
        """Return whether a line ends, or the first one begins, at a byte."""
        size = self._path.stat().st_size if self.exists() else 0
        if not 0 < end <= size:
            return end == 0
        with open_stored(self._path) as file:
            file.seek(end - 1)
            return file.read(1) == b"\n"


def _read_lines(path: Path, start: int = 0) -> Iterator[Entry | None]:
    """Yield the entry of each line that is JSON, from a byte on; None for a line that is not an entry."""
    if not path.is_file():
        return
    with open_stored(path) as file:
        file.seek(start)
        for line in file:
            start += len(line)
            if not line.endswith(b"\n"):
                return  # being written, or truncated by a kill
            with suppress(RecursionError, ValueError):  # truncated by a kill; the next writer ended the line
                yield parse_entry(json.loads(line), line, start)


def recorded_name(directory: Path) -> str:
    """Return the name that the run in a directory had in MLflow when it started; empty if it was not tracked."""
    with suppress(OSError):
        entries = _read_lines(directory / JOURNAL)
        return next((str(entry.values["name"]) for entry in entries if entry and entry.kind == "run"), "")
    return ""


def not_tracked(directory: Path) -> Problem:
    """Return the error for a directory without tracked runs."""
    text = f"no tracked run in {str(directory)!r}" if directory.is_dir() else f"no such run: {str(directory)!r}"
    return Problem("RUN", text, "pass the directory of a tracked run or sweep, e.g. one in outputs/ or multirun/")


def journals(directory: Path) -> list[Journal]:
    """Return the journal of a run, or those of all runs below a directory.

    Those may be the trials of a sweep, whose own journal comes first.
    """
    paths = sorted(find_files(directory, JOURNAL), key=lambda path: (len(path.parts), str(path)))
    return [Journal(path.parent) for path in paths]
