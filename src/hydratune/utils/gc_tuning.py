"""Python's garbage collector, kept from going through hundreds of thousands of objects that stay: modules, mostly.

Left alone it does so again and again while they are imported, in each run (accelerate asks for it, and we do between
trials), and once more as the process ends: four seconds of a short run.
"""

from __future__ import annotations

import atexit
import gc

_NORMAL = gc.get_threshold()
_RARELY = 100_000  # objects that are new, for the 700 of Python


def defer_gc() -> None:
    """Of a process that begins: garbage is looked for rarely until `restore_gc`, and at the end not at all."""
    gc.set_threshold(_RARELY)
    atexit.register(gc.freeze)


def restore_gc() -> None:
    """Of a process that was spared, once: what is alive now stays so, unseen; new garbage is looked for as ever."""
    if gc.get_threshold() != _NORMAL:
        gc.freeze()
        gc.set_threshold(*_NORMAL)
