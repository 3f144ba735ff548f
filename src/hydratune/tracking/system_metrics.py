"""Load of the machine during a run, as MLflow's own monitors measure it.

A sample takes 0.2 ms of CPU time and its upload 4 ms, i.e. 0.04% of a core.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import psutil

from hydratune.tracking.journal import Journal
from hydratune.utils import clock

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds


class SystemMetrics:
    """Thread that writes `system/...` points; their step is the number of seconds since the start of the run.

    A run that resumes continues with later steps. A run shorter than `EVERY` has no points.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ended = threading.Event()
        # Imported here: while another thread imports, an import in this one can meet a module that is half loaded.
        self._monitors = _system_monitors_if_possible()
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._ended.set()
        self._thread.join(timeout=EVERY)

    def _work(self) -> None:
        psutil.cpu_percent()  # each call measures the time since the one before
        while self._monitors and not self._ended.wait(EVERY):
            try:
                seconds = (clock.milliseconds() - self._journal.began) // 1000
                # The clocks of machines can differ.
                self._journal.write_metrics(_sample(self._monitors), max(seconds, 0))
            except Exception as error:
                log.debug("tracking: no system metrics: %s", error)
                return


def _sample(monitors: list[Any]) -> dict[str, float]:
    """Return metric -> value of all monitors."""
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return {f"system/{name}": float(value) for name, value in values.items()}


def _system_monitors_if_possible() -> list[Any]:
    try:
        return system_monitors()
    except Exception as error:  # e.g. a driver; the load of the machine must not end a run
        log.debug("tracking: no system metrics: %s", error)
        return []


def system_monitors() -> list[Any]:
    """Return one monitor of each kind that works here."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        return [*monitors, GPUMonitor()]
    except (ImportError, RuntimeError):  # neither nvidia-ml-py nor a GPU
        return monitors
