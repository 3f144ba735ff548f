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

from hydratune.utils import clock
from hydratune.utils.errors import Problem
from hydratune.utils.files import find_files, write_text

log = logging.getLogger(__name__)

# Kind of an entry -> the names of its required values.
_NEEDED = {
    "run": ("key", "experiment", "name", "tags", "began", "uri"),
    "continue": ("tags",),
    "params": ("params",),
    "tags": ("tags",),
    "metrics": ("points",),
    "artifact": ("path", "folder"),
    "dataset": ("split", "name", "digest", "source"),
    "model": ("folder", "name", "step"),
    "status": ("status", "ended"),
}
_OTHER_TYPES = ("began", "ended", "params", "points", "step", "tags")  # required values that are not texts
DIRECTORY = "hydratune.directory"  # tag: the absolute path of the run directory
JOURNAL, SENT, LOCK = "tracking.jsonl", "tracking.sent", ".tracking.lock"


class Point(NamedTuple):
    """A metric's value at a step; `at` is in ms since 1970."""

    name: str
    value: float
    at: int
    step: int


class Entry(NamedTuple):
    """One line of a journal: its kind, its values, and the byte at which the next line begins."""

    kind: str
    values: dict[str, Any]
    end: int


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
        self._writing, self.is_incomplete = threading.Lock(), False
        self.last_sent = Sent()
        self._points: dict[tuple[str, int], Point] = {}
        self.params: dict[str, str] = {}
        self.uri = self.key = self.directory_before = ""
        self.began = 0
        self.damaged = sum(not _is_entry(values) for values, _ in self._lines(0))
        if self.damaged:
            log.warning("tracking: skipped %d invalid lines of %s", self.damaged, self._path)
        for entry in self.entries(0):
            if entry.kind in ("run", "continue"):
                self.directory_before = entry.values.get("tags", {}).get(DIRECTORY, "")
            if entry.kind == "run":
                self.uri, self.key, self.began = (entry.values[name] for name in ("uri", "key", "began"))
            elif entry.kind == "metrics":
                self._points |= {(name, step): Point(name, v, at, step) for name, v, at, step in entry.values["points"]}
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
            with self._writing, self._path.open("ab") as file:
                is_truncated = file.tell() and not self._ends_a_line()  # the previous writer was killed inside a line
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
        for values, end in self._lines(start):
            if _is_entry(values):
                yield Entry(values.pop("kind"), values, end)

    def _lines(self, start: int) -> Iterator[tuple[Any, int]]:
        """Yield the JSON document of each line from a byte on, and the byte at which the next line begins."""
        if not self.exists():
            return
        with self._path.open("rb") as file:
            file.seek(start)
            for line in file:
                start += len(line)
                if not line.endswith(b"\n"):
                    return  # being written, or truncated by a kill
                with suppress(RecursionError, ValueError):  # truncated by a kill; the next writer ended the line
                    yield json.loads(line), start

    def sent(self) -> Sent:
        """Return the progress of the upload; the start if none is recorded."""
        try:
            stored = json.loads((self.directory / SENT).read_text(encoding="utf-8"))
            progress = Sent(int(stored["end"]), str(stored["run_id"]), tuple(map(str, stored["refused"])))
        except (FileNotFoundError, KeyError, RecursionError, TypeError, ValueError):
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

    def _ends_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, 2)
            return file.read() == b"\n"


def _is_entry(values: Any) -> bool:
    """Return whether a JSON document has the required values of its kind of entry, each with its type."""
    kind = values.get("kind") if isinstance(values, dict) else None
    needed = _NEEDED.get(kind) if isinstance(kind, str) else None
    if needed is None or not all(name in values for name in needed):
        return False
    texts = {name: value for name, value in values.items() if name in needed and name not in _OTHER_TYPES}
    for name in ("params", "tags") if kind != "model" else ():
        if not isinstance(values.get(name, {}), dict):
            return False
        texts |= values.get(name, {})
    points = values["points"] if kind == "metrics" else []
    numbers = [values[name] for name in ("began", "ended") if name in needed]
    return (
        isinstance(points, list)
        and all(map(_is_point, points))
        and all(isinstance(value, str) for value in texts.values())
        and all(isinstance(value, int) for value in numbers)
    )


def _is_point(values: Any) -> bool:
    if not isinstance(values, list) or len(values) != len(Point._fields):
        return False
    name, value, at, step = values
    return isinstance(name, str) and isinstance(value, int | float) and isinstance(at, int) and isinstance(step, int)


def not_tracked(directory: Path) -> Problem:
    """Return the error for a directory without tracked runs."""
    text = f"no tracked run in {str(directory)!r}" if directory.is_dir() else f"no such run: {str(directory)!r}"
    return Problem("RUN", text, "name the directory of a tracked run or sweep, e.g. one below outputs/ or multirun/")


def journals(directory: Path) -> list[Journal]:
    """Return the journal of a run, or those of all runs below a directory.

    Those may be the trials of a sweep, whose own journal comes first.
    """
    paths = sorted(find_files(directory, JOURNAL), key=lambda path: (len(path.parts), str(path)))
    return [Journal(path.parent) for path in paths]
