"""Checks of the configs that Hydra composes itself, after `composition` has composed and checked them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal import hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from hydratune.config import composition, hydra_guard
from hydratune.utils.errors import ConfigError, Problem


class CheckedLoader(ConfigLoaderImpl):
    """Loader that checks the node `hydra` of each config that Hydra composes, before Hydra uses the node.

    Hydra reads the config files again after they were checked, also in the processes of workers. By then, a file can
    be another one, e.g. a link whose target was downloaded meanwhile.
    """

    def load_configuration(self, *arguments: Any, **options: Any) -> DictConfig:
        """Compose a config; raise ConfigError if its node `hydra` can run code or write elsewhere."""
        cfg = super().load_configuration(*arguments, **options)
        composition.register_resolvers()
        if problems := [*hydra_guard.unsafe(cfg.hydra)]:
            raise ConfigError(*problems)
        return cfg


@contextmanager
def checked_loading() -> Iterator[None]:
    """Let Hydra's own main use `CheckedLoader`."""
    loader, hydra_internal.ConfigLoaderImpl = hydra_internal.ConfigLoaderImpl, CheckedLoader  # type: ignore[attr-defined]
    try:
        yield
    finally:
        hydra_internal.ConfigLoaderImpl = loader  # type: ignore[attr-defined]


def check_unchanged(cfg: DictConfig, checked: DictConfig) -> None:
    """Raise ConfigError if the config that Hydra composed for a run is not the one that was checked."""
    if OmegaConf.to_container(cfg) != OmegaConf.to_container(composition.without_hydra(checked)):
        text = "the config files have changed since they were checked"
        raise ConfigError(Problem("overrides", text, "run the command again"))
