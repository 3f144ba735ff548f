"""The sweeper that Hydra starts for `hydratune -m`."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydratune.sweep.controller import sweep


class HydratuneSweeper(Sweeper):
    """Starts workers through the configured launcher; they pull trials from a shared study."""

    # Hydra 1.3 requires plugins of this package. A package of ours below `hydra_plugins` would be half a namespace
    # package, for which an editable install adds a relative path to `sys.path`: any project could put plugins there.
    __module__ = "hydra_plugins.hydratune.sweeper"

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra hands over; the task function is a worker's."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep whose plan was written into its directory."""
        assert self.config is not None and self.hydra_context is not None  # of `setup`
        return sweep(self.config, self.hydra_context, arguments)
