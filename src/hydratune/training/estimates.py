"""Estimates of the memory and the time of training, from the architecture without weights and a short measurement."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.config.instantiate import build
from hydratune.training.hardware.distributed import Distributed
from hydratune.training.setup import training_arguments
from hydratune.utils.batches import effective_batch_size, optimizer_steps
from hydratune.utils.errors import one_line
from hydratune.utils.machine import free_memory

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hydratune.tasks.base import Task

_ADAMW = "adamw_torch"  # prefix of the optimizers with two moments in the type of the weights
_MEASURED = 0.5  # seconds of multiplications, of which the fastest counts, since other processes may use the machine
_TRIALS = 3  # multiplications at least
_SIDES = {"cuda": 4096, "cpu": 1024}  # of the square matrices, large enough for full speed


@dataclass(frozen=True)
class Schedule:
    """Batches and steps of a run.

    Args:
        args: Training arguments, as for a single process.
        batch_size: Effective batch size, over all processes.
        per_epoch: Optimizer steps per epoch; None for a stream.
        steps: Optimizer steps in total.
        processes: Number of processes of the run.
    """

    args: Any
    batch_size: int
    per_epoch: int | None
    steps: int
    processes: int

    @property
    def precision(self) -> str:
        """Return the precision of autocast, or fp32."""
        return "bf16" if self.args.bf16 else "fp16" if self.args.fp16 else "fp32"


@dataclass(frozen=True)
class Workload:
    """Model on the meta device, and the rows that it gets.

    Args:
        network: Model with its adapter.
        module: Model without its adapter.
        dtype: Type of the weights; None for that of `network`.
        is_quantized: Whether the weights will be quantized.
        collator: Collator of the task.
        rows: Rows of inputs.
    """

    network: nn.Module
    module: nn.Module
    dtype: torch.dtype | None
    is_quantized: bool
    collator: Callable[..., Any]
    rows: Any


@dataclass(frozen=True)
class Estimates:
    """Estimates, or the reason why there are none.

    Args:
        state_bytes: Bytes of weights, gradients, and optimizer; None if they cannot be counted.
        has_moments: Whether `state_bytes` includes the state of the optimizer.
        activation_bytes: Bytes of the activations of one batch of `batch_rows` rows, in fp32; None if unknown.
        batch_rows: Rows of that batch.
        batch_tokens: Tokens of each of its rows, as many as the longest sampled row has; None for images.
        free_bytes: Free memory of the device; None if unknown.
        seconds: Lower bound of the training time; None if it cannot be computed.
        flops: Operations per optimizer step.
        flops_per_second: Operations per second that the device reaches in matrix multiplications.
        reason: Reason why a number is missing.
    """

    state_bytes: int | None = None
    has_moments: bool = False
    activation_bytes: int | None = None
    batch_rows: int = 0
    batch_tokens: int | None = None
    free_bytes: int | None = None
    seconds: float | None = None
    flops: float | None = None
    flops_per_second: float | None = None
    reason: str = ""


def planned_steps(cfg: DictConfig, task: Task, n_rows: float | None) -> Schedule:
    """Return the steps for a number of rows of inputs; None for a stream."""
    hardware = build(cfg.hardware)
    args = training_arguments(cfg, task, hardware, Path("checkpoints"))
    several = isinstance(hardware, Distributed)
    processes = hardware.local_processes() * hardware.launch.nnodes if several else 1
    own_batches = processes if several and not hardware.keep_global_batch_size else 1  # batches of a step
    per_epoch, steps = (None, args.max_steps) if n_rows is None else optimizer_steps(args, round(n_rows / own_batches))
    return Schedule(args, effective_batch_size(args) * own_batches, per_epoch, steps, processes)


def estimate(workload: Workload, schedule: Schedule) -> Estimates:
    """Estimate memory and time as far as the numbers have a basis."""
    args = schedule.args
    if workload.is_quantized:
        return Estimates(reason="the size of quantized weights is not estimated")
    state, has_moments = _state_bytes(workload, str(args.optim.value))
    known: dict[str, Any] = {"state_bytes": state, "has_moments": has_moments, "free_bytes": _free_bytes(args.device)}
    if args.activation_checkpointing:
        return Estimates(**known, reason="activation checkpointing is not estimated")
    row_lengths = _row_lengths(workload.rows)
    largest, typical = _positions(row_lengths)
    size, drops_columns = args.train_batch_size, args.remove_unused_columns
    try:
        known["activation_bytes"] = _batch_cost(workload, largest, size, drops_columns)[1]
        flops = _batch_cost(workload, typical, size, drops_columns)[0] / size * schedule.batch_size
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        return Estimates(
            **known, reason=f"the model cannot run without weights ({type(error).__name__}: {one_line(error, 100)})"
        )
    known |= {"batch_rows": size, "batch_tokens": row_lengths[largest] if row_lengths else None}
    if schedule.processes > 1:
        return Estimates(**known, reason="the time of several processes is not estimated")
    speed = matmul_flops(args.device, schedule.precision)
    return Estimates(**known, seconds=flops * schedule.steps / speed, flops=flops, flops_per_second=speed)


def _row_lengths(rows: Any) -> list[int] | None:
    from hydratune.training.trainer.sampler import lengths

    return lengths(rows, "input_ids")


def _positions(row_lengths: list[int] | None) -> tuple[int, int]:
    """Return the positions of the longest row, and of a row of about the mean length."""
    if not row_lengths:
        return 0, 0
    mean = math.fsum(row_lengths) / len(row_lengths)
    positions = range(len(row_lengths))
    return max(positions, key=lambda i: row_lengths[i]), min(positions, key=lambda i: abs(row_lengths[i] - mean))


def _batch_cost(workload: Workload, position: int, size: int, drops_columns: bool) -> tuple[int, int]:
    """Return the operations of a batch of equal rows, forward and backward, and the bytes that the first pass stores.

    The meta device computes shapes but no values, so a mask that hides nothing is left out. As in Trainer, columns that
    the model does not take are dropped first, unless the task's collator reads them.

    Raises:
        RuntimeError: If the forward pass of the model depends on values of its inputs.
    """
    import torch
    from torch.autograd.graph import saved_tensors_hooks
    from torch.utils.flop_counter import FlopCounterMode

    row = workload.rows[position]
    if drops_columns:
        names = {*inspect.signature(workload.module.forward).parameters, "labels"}
        row = {name: value for name, value in row.items() if name in names}
    batch = workload.collator([dict(row) for _ in range(size)])
    inputs = {
        name: value.to("meta") if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name != "attention_mask" or not value.all()
    }
    weights = {parameter.untyped_storage()._cdata for parameter in workload.network.parameters()}
    stored: dict[int, torch.UntypedStorage] = {}  # they stay alive, so that no two have the same address

    def store(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            stored[storage._cdata] = storage
        return tensor

    workload.network.train()
    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(store, lambda tensor: tensor):
        workload.network(**inputs).loss.backward()
    workload.network.zero_grad(set_to_none=True)
    return counter.get_total_flops(), sum(storage.nbytes() for storage in stored.values())


def _state_bytes(workload: Workload, optimizer: str) -> tuple[int, bool]:
    """Return the bytes of weights, gradients, and AdamW's moments, and whether the moments are included."""
    has_moments = optimizer.startswith(_ADAMW)
    total = 0
    for parameter in workload.network.parameters():
        size = parameter.numel() * (workload.dtype.itemsize if workload.dtype else parameter.element_size())
        total += size * (1 + parameter.requires_grad * (1 + 2 * has_moments))
    return total, has_moments


def _free_bytes(device: torch.device) -> int | None:
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory() if device.type == "cpu" else None


def matmul_flops(device: torch.device, precision: str) -> float:
    """Measure how many operations per second a device reaches in large matrix multiplications."""
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    side = _SIDES.get(device.type, _SIDES["cpu"])
    matrix = torch.rand(side, side, device=device, dtype=dtype)
    seconds: list[float] = []
    end = time.perf_counter() + _MEASURED
    while len(seconds) < _TRIALS or time.perf_counter() < end:
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return float(2 * side**3 / min(seconds))
