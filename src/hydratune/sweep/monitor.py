"""Thread that reads the study while workers train, for a live table in the terminal and metrics in the tracker."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hydratune.sweep.report import results, tables
from hydratune.utils.console import plain_console
from hydratune.utils.logs import is_quiet

if TYPE_CHECKING:
    from rich.live import Live

    from hydratune.sweep.study import Study
    from hydratune.sweep.tracking import SweepRun

log = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two reads of the study


class Monitor:
    """Context manager that shows and records the state of a sweep."""

    def __init__(self, study: Study, recorded: SweepRun) -> None:
        self._study, self._recorded = study, recorded
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._told = {row.number for row in self._rows() if row.state in results.ENDED}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live

        console = plain_console()
        if console.is_terminal and not is_quiet():
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        elif not is_quiet():
            print(tables.header(self._study.plan, self._study.total()), flush=True, file=sys.stderr)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._live:
            self._live.stop()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            rows = self._rows()
            self._recorded.update(rows)
            if self._live:
                self._live.update(tables.live(self._study.plan, rows, *self._size()), refresh=True)
            else:
                self._tell(rows)
        except Exception:  # an error in a table must not end a sweep
            log.debug("sweep: could not be shown", exc_info=True)

    def _tell(self, rows: Sequence[results.TrialRow]) -> None:
        """Print a line for each trial that has ended since the last call."""
        for row in rows:
            if row.state in results.ENDED and row.number not in self._told:
                self._told.add(row.number)
                summary = tables.summary(self._study.plan, rows, *self._size())
                print(f"{tables.line(self._study.plan, row)}   [{summary}]", flush=True, file=sys.stderr)

    def _rows(self) -> list[results.TrialRow]:
        return results.rows(self._study.plan, self._study.trials())

    def _size(self) -> tuple[int | None, int]:
        return self._study.total(), self._study.options.workers
