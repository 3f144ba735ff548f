"""Parameters that FSDP shards across processes."""

from __future__ import annotations

from typing import Any

from torch import nn


def gather_weights(network: nn.Module, keep: bool) -> None:
    """Gather sharded parameters into CPU memory; all processes must call it.

    Args:
        network: Model, which can be saved but not trained afterwards.
        keep: Whether this process keeps the gathered parameters; the others hold one parameter at a time.
    """
    gathered: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in network.modules():
        if hasattr(module, "reshard"):  # FSDP may still hold the weights that the last step gathered
            module.reshard()
    for module in network.modules():
        for name, weight in list(module._parameters.items()):
            if weight is None or not hasattr(weight, "full_tensor"):
                continue
            if id(weight) not in gathered:
                full: Any = weight.full_tensor()
                gathered[id(weight)] = nn.Parameter(full.detach().cpu(), weight.requires_grad) if keep else weight
            module._parameters[name] = gathered[id(weight)]
