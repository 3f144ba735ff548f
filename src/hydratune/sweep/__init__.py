"""Hyperparameter sweeps: the search space, the shared study, the workers that pull trials from it, and the report."""

from typing import TYPE_CHECKING

from hydratune.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from hydratune.sweep.cma_es import CmaEsSampler
    from hydratune.sweep.config import Sweep
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["CmaEsSampler", "Sweep"]
