"""Tuning of Python's garbage collector, so that it rarely scans objects that stay alive, mostly modules.

By default, it scans hundreds of thousands of them repeatedly during imports and again as the process ends. It also
scans them in each run: accelerate requests it, and we do between trials. Together, this takes four seconds of a short
run.
"""

from __future__ import annotations

import atexit
import gc

_NORMAL = gc.get_threshold()
_RARELY = 100_000  # new objects before a collection; Python's default is 700


def defer_gc() -> None:
    """Collect garbage rarely until `restore_gc`, and not at all when the process ends; call this at its start."""
    gc.set_threshold(_RARELY)
    atexit.register(gc.freeze)


def restore_gc() -> None:
    """Restore normal garbage collection, except for the objects that are alive now; has an effect only once."""
    if gc.get_threshold() != _NORMAL:
        gc.freeze()
        gc.set_threshold(*_NORMAL)
