"""Upload of a journal to MLflow in the background, so that a slow or dead server cannot hold up training."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.tracking.client import DeletedError, TrackingUnavailableError, connect
from hydratune.tracking.delivery import Delivery
from hydratune.tracking.entries import Entry, Registration
from hydratune.tracking.journal import Journal, Sent
from hydratune.tracking.logged_models import ModelGoneError
from hydratune.tracking.sent_state import refused_metric
from hydratune.utils import signals
from hydratune.utils.errors import one_line
from hydratune.utils.files import PathEscapeError

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
LONGEST_PAUSE = 30.0  # seconds between two tries of a store that is down
ASKED_PATIENCE = 8.0  # seconds in total if the process was asked to end
PATIENCE = 30.0  # seconds that the end of a run waits for an upload without progress
_MOST_POINTS = 1000  # per call
# Errors that no retry can fix: the entry is skipped.
_REFUSED = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")


def upload_pending(journal: Journal, delivery: Delivery) -> None:
    """Upload all pending entries in order; upload everything if the store does not have the run (any more).

    Entries that the store will never take are skipped and listed in `tracking.sent`.

    Raises:
        TrackingUnavailableError: The store failed; entries that it took are marked as sent.
    """
    points: list[tuple[str, float, int, int]] = []
    sent = delivery.position(journal)
    end, refused = sent.end, [*sent.refused]

    def flush() -> None:
        refused.extend(_deliver_points(delivery, points))
        points.clear()
        journal.mark_sent(Sent(end, delivery.run_id, tuple(refused)))

    for entry in journal.entries(sent.end):
        if points and (entry.kind != "metrics" or len(points) + len(entry.values["points"]) > _MOST_POINTS):
            flush()
        end = entry.end
        if entry.kind == "metrics":
            points += map(tuple, entry.values["points"])
        else:
            refused += _deliver(delivery, entry)
            flush()
    if points:
        flush()


def upload_ended(journal: Journal, delivery: Delivery) -> None:
    """Upload all pending entries of a run that no process is running.

    If its journal has lost its end, the run keeps the status that the store had.

    Raises:
        TrackingUnavailableError: The store failed.
    """
    from mlflow.exceptions import MlflowException

    try:
        status = delivery.final_status()
        upload_pending(journal, delivery)
        if status and not journal.has_ended():
            delivery.client.set_terminated(delivery.run_id, *status)
    except MlflowException as error:
        raise TrackingUnavailableError(format_error(error)) from error


class Uploader:
    """Thread that uploads a journal every 2 s, and immediately when it is nudged."""

    def __init__(
        self,
        journal: Journal,
        uri: str,
        client: MlflowClient | None = None,
        done: Callable[[], None] = lambda: None,
        registrations: Collection[Registration] = (),
    ) -> None:
        """Start the thread.

        Without a client, the thread connects by itself, which may take many tries. At its end, it calls `done`.
        """
        self._journal, self._uri, self._done, self._registrations = journal, uri, done, registrations
        self._delivery = self._new_delivery(client) if client else None
        self._nudged, self._ending = threading.Event(), threading.Event()
        self._warned = False
        self.is_blocked = False  # whether the run or its experiment was deleted in MLflow
        self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
        self._thread.start()

    def flush_soon(self) -> None:
        """Upload now, since something is worth showing, e.g. an evaluation."""
        self._nudged.set()

    def close(self) -> bool:
        """Return whether everything was uploaded; wait while the store takes entries, but not for one that is down.

        A process that was asked to end waits for `ASKED_PATIENCE` in total: the journal has the rest.
        """
        self._ending.set()
        self._nudged.set()
        began = since = time.monotonic()
        sent = self._journal.sent().end
        while self._thread.is_alive() and time.monotonic() - since < PATIENCE:
            if signals.stop_requested() and time.monotonic() - began > ASKED_PATIENCE:
                break
            self._thread.join(timeout=0.1)
            if (now := self._journal.sent().end) != sent:
                sent, since = now, time.monotonic()
        return self._journal.is_delivered()

    def end_run(self, status: str, tags: Mapping[str, str]) -> None:
        """Record the end of a run in the store directly, because its journal could not be written."""
        run_id = self._journal.last_sent.run_id or (self._delivery.run_id if self._delivery else "")
        if not run_id:
            return
        try:
            client = connect(self._uri)
            for name, value in tags.items():
                client.set_tag(run_id, name, value)
            client.set_terminated(run_id, status)
        except Exception as error:  # whatever a store raises
            log.warning("tracking: the end of run %s was not recorded in MLflow: %s", run_id, format_error(error))

    def detach(self) -> None:
        """Upload the rest in the background of what this process does next; the process calls `wait` at its end."""
        self._ending.set()
        self._nudged.set()
        _left[:] = [*(uploader for uploader in _left if uploader._thread.is_alive()), self]

    def _work(self) -> None:
        try:
            self._drain_until_the_end()
        finally:
            self._done()

    def _drain_until_the_end(self) -> None:
        pause = FLUSH_SECONDS
        while True:
            ending = self._ending.is_set()  # read before draining: what is written after it waits for the next round
            self._nudged.clear()
            failed = not self._try()
            if ending:
                return
            pause = min(pause * 2, LONGEST_PAUSE) if failed else FLUSH_SECONDS
            if failed:
                self._ending.wait(pause)  # a nudge does not make a dead store answer
            else:
                self._nudged.wait(pause)

    def _new_delivery(self, client: MlflowClient) -> Delivery:
        return Delivery(client, self._uri, self._journal.directory, self._registrations)

    def _try(self) -> bool:
        """Return whether all pending entries were uploaded; log only the first failure as a warning."""
        try:
            self._delivery = self._delivery or self._new_delivery(connect(self._uri))
            upload_pending(self._journal, self._delivery)
        except Exception as error:  # whatever a store raises, training continues
            self.is_blocked = isinstance(error, DeletedError)
            if not self._warned:
                log.warning("tracking: the MLflow store failed, training continues: %s", format_error(error))
            self._warned = True
            return False
        self.is_blocked = False
        return True


_left: list[Uploader] = []


def wait() -> None:
    """Wait for the uploaders of this process for which `leave` was called."""
    while _left:
        _left.pop().close()


def format_error(error: BaseException) -> str:
    """Return the error's message on one line, without passwords; messages of libraries have at most 300 characters."""
    return one_line(error, None if isinstance(error, TrackingUnavailableError) else 300)


def _deliver_points(delivery: Delivery, points: Sequence[tuple[str, float, int, int]]) -> list[str]:
    """Upload points together, or one by one if the store refuses them together; return the refused ones."""
    if not points:
        return []
    try:
        delivery.metrics([*points])
    except Exception as error:
        _raise_unless_refused(error, delivery)
        if len(points) == 1:
            log.warning("tracking: MLflow rejected the metric %s: %s", points[0][0], format_error(error))
            return [refused_metric(points[0][0], points[0][3])]
        return [name for point in points for name in _deliver_points(delivery, [point])]
    return []


def _deliver(delivery: Delivery, entry: Entry) -> list[str]:
    """Upload an entry; return its description if the store will never take it."""
    try:
        delivery(entry)
    except Exception as error:
        if entry.kind == "run" and not isinstance(error, TrackingUnavailableError):
            raise TrackingUnavailableError(format_error(error)) from error
        _raise_unless_refused(error, delivery)
        log.warning("tracking: MLflow rejected %s: %s", _described(entry), format_error(error))
        return [_described(entry)]
    return []


def _raise_unless_refused(error: Exception, delivery: Delivery) -> None:
    """Raise TrackingUnavailableError for an entry that the store may take later."""
    if isinstance(error, TrackingUnavailableError):
        raise error
    if not _is_refused(error):
        raise TrackingUnavailableError(format_error(error)) from error
    delivery.check_not_deleted()


def _is_refused(error: Exception) -> bool:
    """Return whether another try would end in the same way."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _REFUSED
    return isinstance(error, FileNotFoundError | PathEscapeError | TypeError | ModelGoneError)


def _described(entry: Entry) -> str:
    """Return a short description of an entry."""
    name = entry.values.get("path") or entry.values.get("name") or ""
    return f"{entry.kind} {Path(name).name}".strip()
