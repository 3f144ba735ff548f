"""Training of one run, from a config to a saved model; classes that a config can name as trainer or hardware."""

from typing import TYPE_CHECKING

from hydratune.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from hydratune.training.hardware.distributed import Distributed, Launch
    from hydratune.training.hardware.hardware import Hardware
    from hydratune.training.trainer.trainer import Trainer
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["Distributed", "Hardware", "Launch", "Trainer"]
