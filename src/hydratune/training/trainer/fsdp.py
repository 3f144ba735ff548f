"""Weights that lie in parts on several processes."""

from __future__ import annotations

from typing import Any

from torch import nn


def gather_weights(network: nn.Module, keep: bool) -> None:
    """Makes parameters whole where each process holds a part of them, in memory of the CPU; all processes call it.

    Args:
        network: Is good for saving afterwards, no longer for training.
        keep: Whether this process is to have them; the others see one weight after the other.
    """
    known: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in network.modules():
        if hasattr(module, "reshard"):  # of FSDP: weights that the last step has put together
            module.reshard()
    for module in network.modules():
        for name, weight in list(module._parameters.items()):
            if weight is None or not hasattr(weight, "full_tensor"):
                continue
            if id(weight) not in known:
                whole: Any = weight.full_tensor()
                known[id(weight)] = nn.Parameter(whole.detach().cpu(), weight.requires_grad) if keep else weight
            module._parameters[name] = known[id(weight)]
