"""Seeded random number generators, and the state of the global ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def seeded_generator(*numbers: int) -> torch.Generator:
    """Return a generator seeded by a hash of integers, e.g. a seed and an epoch.

    Their sum is not sufficient: epoch 1 of seed 1 would repeat epoch 0 of seed 2.
    """
    import torch

    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def random_state() -> tuple[Any, ...]:
    """Return the state of the global random number generators of Python, NumPy, and torch."""
    import random

    import numpy as np
    import torch

    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), gpu


def set_random_state(state: tuple[Any, ...]) -> None:
    """Restore a state that `random_state` returned."""
    import random

    import numpy as np
    import torch

    python, numpy, cpu, gpu = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if gpu is not None:
        torch.cuda.set_rng_state_all(gpu)
