"""Load of the machine during a run, as MLflow's own monitors measure it."""

from __future__ import annotations

import threading
import time
from typing import Any

from hydratune.tracking.journal import Journal

EVERY = 10.0  # seconds


class SystemMetrics:
    """Thread that writes `system/...` points; their step is the number of seconds since the start."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Measure once more and stop the thread."""
        self._ended.set()
        self._thread.join(timeout=EVERY)

    def _work(self) -> None:
        monitors, began, ended = _monitors(), time.monotonic(), False
        while not ended:
            ended = self._ended.wait(EVERY)
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            step = int(time.monotonic() - began)
            self._journal.write_metrics({f"system/{name}": float(value) for name, value in values.items()}, step)


def _monitors() -> list[Any]:
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
