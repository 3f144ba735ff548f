"""Time of day that does not jump: it is read once per process, and time that passes is added.

So durations are never negative, and the records of a process have the order of its events, also if the clock of the
machine is set meanwhile.
"""

from __future__ import annotations

import time as _system

_STEADY = getattr(_system, "CLOCK_BOOTTIME", _system.CLOCK_MONOTONIC)  # counts while the machine sleeps, also on macOS
_OFFSET = _system.time() - _system.clock_gettime(_STEADY)


def time() -> float:
    """Return the time in seconds since 1970, like `time.time`."""
    return _OFFSET + _system.clock_gettime(_STEADY)


def milliseconds() -> int:
    """Return the time in milliseconds since 1970, as MLflow stores it."""
    return int(time() * 1000)
