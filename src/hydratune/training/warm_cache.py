"""Cache of data and models between the runs of a process."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from hydratune.utils.rng import random_state, set_random_state

T = TypeVar("T")


class WarmCache:
    """Cache of data and newly loaded models, by their settings; it holds the last used ones, up to `most`.

    Cached models are never trained. Each run gets a copy of the model, and the state of the random number generators
    after loading it. A run is therefore the same as one that loads everything by itself.
    """

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._data: OrderedDict[str, Any] = OrderedDict()
        self._networks: OrderedDict[str, tuple[Any, Any]] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether the process with this cache continues with other runs."""
        return self._most > 0

    def data(self, key: str, make: Callable[[], T]) -> T:
        """Return the result of `make` for this key, which callers must not change."""
        if not self:
            return make()
        if key not in self._data:
            self._put(self._data, key, make())
        self._data.move_to_end(key)
        return self._data[key]

    def network(self, key: str, make: Callable[[], T]) -> T:
        """Return a copy of the result of `make` for this key."""
        if not self:
            return make()
        if key not in self._networks:
            self._put(self._networks, key, (make(), random_state()))
        self._networks.move_to_end(key)
        network, state = self._networks[key]
        fresh = copy.deepcopy(network)
        set_random_state(state)
        return fresh

    def _put(self, entries: OrderedDict[str, Any], key: str, value: Any) -> None:
        entries[key] = value
        while len(entries) > self._most:
            entries.popitem(last=False)


def key_of(*nodes: DictConfig | Mapping[str, Any] | str | int) -> str:
    """Return a cache key of config nodes."""
    plain = [OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node for node in nodes]
    return json.dumps(plain, sort_keys=True, default=str)
