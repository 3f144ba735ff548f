"""Checks of the configs that Hydra composes itself, after `composition` has composed and checked them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal import hydra as hydra_internal
from omegaconf import DictConfig

from hydratune.config import composition, hydra_guard
from hydratune.config.config_loader import ConfigLoader
from hydratune.utils.errors import ConfigError


class CheckedLoader(ConfigLoader):
    """Loader that checks the node `hydra` of each config that Hydra composes, before Hydra uses the node.

    Hydra reads the config files again after they were checked. By then, a file can be another one, e.g. a link whose
    target was downloaded meanwhile.
    """

    def _load_configuration_impl(self, *arguments: Any, **options: Any) -> DictConfig:
        """Compose a config; raise ConfigError if its node `hydra` can run code or write elsewhere."""
        cfg = super()._load_configuration_impl(*arguments, **options)
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
