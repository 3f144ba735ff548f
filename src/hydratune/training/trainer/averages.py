"""Averages of a model's parameters over the steps of a training, or over its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

_COUNT = "count"  # entry of the metadata of a file


class Average:
    """Average of the trainable parameters of a model, and of the statistics of its norms.

    It holds them in float32 or more: in bfloat16, a small change of an average would be rounded away.

    Args:
        values: Name -> average.
        count: Number of values that were averaged.
    """

    def __init__(self, values: dict[str, torch.Tensor] | None = None, count: int = 0) -> None:
        self._values, self.count = values or {}, count

    def update(self, model: nn.Module, decay: float | None = None) -> None:
        """Add the current values of a model, with the functions of `torch.optim.swa_utils`.

        Args:
            model: Model.
            decay: Share of the earlier average in an exponential moving average; None for the mean of all values.
        """
        current = {name: tensor.detach().to(_precise(tensor.dtype)) for name, tensor in _averaged(model).items()}
        if not self.count:
            self._values = {name: tensor.clone() for name, tensor in current.items()}
        else:
            averages, tensors = [*self._values.values()], [current[name] for name in self._values]
            add = get_swa_multi_avg_fn() if decay is None else get_ema_multi_avg_fn(decay)
            add(averages, tensors, torch.tensor(self.count))
        self.count += 1

    def updated(self, model: nn.Module) -> Average:
        """Return the mean of the earlier values and of the current ones of a model; this average stays unchanged."""
        average = Average({name: tensor.clone() for name, tensor in self._values.items()}, self.count)
        average.update(model)
        return average

    def copy_to(self, model: nn.Module) -> None:
        """Set the parameters of a model to the average."""
        tensors = _averaged(model)
        with torch.no_grad():
            for name, average in self._values.items():
                tensors[name].copy_(average)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Set the parameters of a model to the average inside the block."""
        current = Average()
        current.update(model)  # float32 holds values of smaller types exactly
        self.copy_to(model)
        try:
            yield
        finally:
            current.copy_to(model)

    def save(self, path: Path) -> None:
        """Write the average to a safetensors file."""
        values = {name: tensor.contiguous() for name, tensor in self._values.items()}
        safetensors.torch.save_file(values, path, metadata={_COUNT: str(self.count)})

    @classmethod
    def load(cls, path: Path, model: nn.Module, device: torch.device) -> Average:
        """Read an average of a model from a safetensors file.

        Raises:
            ValueError: The file is malformed, or has other tensors than the model.
        """
        try:
            with safetensors.safe_open(path, "pt", device=str(device)) as file:
                values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
                count = int((file.metadata() or {}).get(_COUNT, 0))
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path.name} cannot be read: {error}") from error
        shapes = {name: tensor.shape for name, tensor in _averaged(model).items()}
        if count < 1 or {name: tensor.shape for name, tensor in values.items()} != shapes:
            raise ValueError(f"{path.name} is not an average of this model")
        return cls(values, count)

    @property
    def nbytes(self) -> int:
        """Return the size of a file in bytes, without its header."""
        return sum(tensor.nbytes for tensor in self._values.values())


def _averaged(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that are averaged: trainable parameters, and saved buffers of numbers, e.g. of batch norm."""
    saved = model.state_dict().keys()
    buffers = {name: b for name, b in model.named_buffers() if name in saved and b.is_floating_point()}
    return {name: p for name, p in model.named_parameters() if p.requires_grad} | buffers


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
