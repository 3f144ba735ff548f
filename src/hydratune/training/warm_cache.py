"""What a process keeps between runs, so that the next one need not load it again."""

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
    """Data and fresh networks by what they were made from; the ones used last, and as many as `most`.

    Nothing that is kept ever trains: each run gets a copy of the network, and the state of the random number
    generators that loading it would have left. So a run is the same as one that loads everything by itself.
    """

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._data: OrderedDict[str, Any] = OrderedDict()
        self._networks: OrderedDict[str, tuple[Any, Any]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether the process that keeps it goes on with other runs."""
        return self._most > 0

    def data(self, key: str, make: Callable[[], T]) -> T:
        """What `make` returned for this key, which nobody changes."""
        if not self:
            return make()
        if key not in self._data:
            self._put(self._data, key, make())
        self._data.move_to_end(key)
        return self._data[key]

    def network(self, key: str, make: Callable[[], T]) -> T:
        """A copy of what `make` returned for this key."""
        if not self:
            return make()
        if key not in self._networks:
            self._put(self._networks, key, (make(), random_state()))
        self._networks.move_to_end(key)
        network, state = self._networks[key]
        fresh = copy.deepcopy(network)
        set_random_state(state)
        return fresh

    def _put(self, kept: OrderedDict[str, Any], key: str, value: Any) -> None:
        kept[key] = value
        while len(kept) > self._most:
            kept.popitem(last=False)


def key_of(*nodes: DictConfig | Mapping[str, Any] | str | int) -> str:
    """A key of what is made from these nodes of a config."""
    plain = [OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node for node in nodes]
    return json.dumps(plain, sort_keys=True, default=str)
