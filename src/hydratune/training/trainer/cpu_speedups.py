"""Faster training steps on a CPU: the same training, with less work around the matrix multiplications.

At the small batches of fine-tuning, a third of a step is not spent in the model:

- The gradient of an embedding table is zeroed, measured, and scaled as a whole, but a batch uses one row in a hundred.
- Random numbers are drawn one by one, with a division each.
- Memory is freed and requested again.

None of this work affects what is learned. Each speedup can be removed separately. `hardware.cpu_optimizations=false`
turns all of them off.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import Trainer

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # options of glibc's `mallopt`
_LARGE = 4096  # minimum rows of a table for a row-wise gradient
_LEVELS = 2**16  # values of a 16-bit random number


@contextmanager
def use_cpu_speedups(trainer: Trainer) -> Iterator[None]:
    """Make the training steps of `trainer` inside the block faster, if it trains on a CPU."""
    with ExitStack() as stack:
        if trainer.args.device.type == "cpu":
            keep_memory()
            stack.enter_context(quick_dropout())
            if trainer.args.world_size == 1:  # otherwise autograd exchanges gradients while it computes them
                stack.enter_context(gradients_of_rows(trainer))
        yield


def keep_memory() -> None:
    """Make glibc keep the memory that torch frees, for the rest of the process.

    Otherwise the next step requests it again. Each large tensor is then mapped again and its pages fault one by one,
    which takes a tenth of a step or more.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl does not have it
        if mallopt:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)


# --- dropout ---------------------------------------------------------------------------------------------


class _Dropout(torch.autograd.Function):
    """Dropout with 16 random bits per value: it zeroes values at random and scales the others."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, dropped: int) -> torch.Tensor:
        count = values.numel()
        # Each int64 gives four 16-bit numbers; `dropped` of their 2^16 values drop an element.
        random_bits = torch.empty(math.ceil(count / 4), dtype=torch.int64).random_(-(2**63), None)
        mask = random_bits.view(torch.int16)[:count].view(values.shape) >= dropped - _LEVELS // 2
        noise = mask.to(values.dtype).mul_(_LEVELS / (_LEVELS - dropped))
        ctx.save_for_backward(noise)
        return values * noise

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (noise,) = ctx.saved_tensors
        return gradients[0] * noise, None


@contextmanager
def quick_dropout() -> Iterator[None]:
    """Replace `torch.nn.functional.dropout`, which draws a double per value, with one that draws 16 bits.

    The probability is rounded to a multiple of 2^-16. The remaining values are scaled by the rounded probability, so
    the mean stays exact. The random numbers differ from torch's, but there are as many, and they are as independent.
    """
    stock = functional.dropout

    def dropout(
        input: torch.Tensor,  # noqa: A002 (torch's name)
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> torch.Tensor:
        dropped = round(p * _LEVELS)
        if not training or inplace or input.device.type != "cpu" or not 0 < dropped < _LEVELS:
            return stock(input, p, training, inplace)
        return _Dropout.apply(input, dropped)

    functional.dropout = dropout
    try:
        yield
    finally:
        functional.dropout = stock


# --- embeddings ------------------------------------------------------------------------------------------


class _Lookup(torch.autograd.Function):
    """Embedding lookup whose gradient is added only to the rows that were looked up."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, rows: ArrowRows) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = rows
        return torch.embedding(weight, ids)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None, None]:
        (ids,) = ctx.saved_tensors
        ctx.rows.add(ids.flatten(), gradients[0].flatten(0, -2))
        return None, None, None


class ArrowRows:
    """Gradient of a table, whose memory is reused from step to step, and the rows of it that are not zero."""

    def __init__(self, table: nn.Embedding) -> None:
        self.weight, self._padding = table.weight, table.padding_idx
        self._gradient: torch.Tensor | None = None
        self.touched = torch.empty(0, dtype=torch.int64)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up token IDs: (batch, seq) int64 -> (batch, seq, hidden)."""
        return _Lookup.apply(self.weight, ids, self)

    def add(self, ids: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add (tokens, hidden) to the rows `ids` (tokens,) of the gradient; the rows of a new step start at zero."""
        if self._padding is not None:
            is_token = ids != self._padding
            ids, gradient = ids[is_token], gradient[is_token]
        if self.weight.grad is None:
            if self._gradient is None:
                self._gradient = torch.zeros_like(self.weight)
            # Only the rows of the previous step are not zero.
            self._gradient[self.touched] = 0
            self.weight.grad, self.touched = self._gradient, ids.unique()
        else:
            self.touched = torch.cat([self.touched, ids]).unique()
        # `index_add_` adds up the rows of an ID that occurs several times.
        self.weight.grad.index_add_(0, ids, gradient.to(self.weight.dtype))

    def values(self) -> torch.Tensor:
        """Return the touched rows of the gradient, (touched, hidden); all other rows are zero."""
        assert self.weight.grad is not None
        return self.weight.grad[self.touched]

    def scale(self, factor: torch.Tensor) -> None:
        """Multiply the gradient by a factor."""
        assert self.weight.grad is not None
        self.weight.grad[self.touched] *= factor


@contextmanager
def gradients_of_rows(trainer: Trainer) -> Iterator[None]:
    """Restrict the gradients of large embedding tables, and their clipping, to the rows of a batch."""
    tables = [module for module in trainer.model.modules() if _has_rows(module, trainer.model)]
    lookups = [ArrowRows(table) for table in tables]
    if not tables or type(trainer)._clip_grad_norm is not Trainer._clip_grad_norm:
        yield
        return
    for table, lookup in zip(tables, lookups, strict=True):
        table.forward = lookup
    trainer._clip_grad_norm = lambda model: _clip(model, lookups, trainer.args.max_grad_norm)
    try:
        yield
    finally:
        del trainer._clip_grad_norm
        for table in tables:
            del table.forward


def _has_rows(module: nn.Module, network: nn.Module) -> bool:
    """Return whether a module is a large trainable embedding table, with plain options and an untied weight."""
    if type(module) is not nn.Embedding or module.num_embeddings < _LARGE or not module.weight.requires_grad:
        return False
    plain = module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    users = [other for other in network.modules() if getattr(other, "weight", None) is module.weight]
    return plain and len(users) == 1  # a table that is also the head has a gradient for all rows


def _clip(model: nn.Module, lookups: list[ArrowRows], max_norm: float) -> torch.Tensor:
    """Return the norm of all gradients, and scale it to at most `max_norm`, like `clip_grad_norm_` of torch."""
    used = [rows for rows in lookups if rows.weight.grad is not None]
    tables = {id(rows.weight) for rows in used}
    dense_gradients = [p.grad for p in model.parameters() if p.grad is not None and id(p) not in tables]
    norms = [*torch._foreach_norm([*dense_gradients, *(rows.values() for rows in used)])]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if norm > max_norm:
        factor = max_norm / (norm + 1e-6)
        torch._foreach_mul_(dense_gradients, factor)
        for rows in used:
            rows.scale(factor)
    return norm
