"""The sweeper that Hydra starts; thin, since Hydra imports every plugin at each start."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class HydratuneSweeper(Sweeper):
    """Starts workers through the configured launcher; they pull trials from a shared study."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps what Hydra hands over; the task function is a worker's."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep whose plan was written into its directory."""
        from hydratune.sweep.controller import sweep

        assert self.config is not None and self.hydra_context is not None  # of `setup`
        return sweep(self.config, self.hydra_context, arguments)
