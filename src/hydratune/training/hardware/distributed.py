"""Runs of several processes: their number, how they find each other, and how they share the work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from hydratune.config.configurable import Configurable
from hydratune.training.hardware.environment import is_rank
from hydratune.training.hardware.hardware import Hardware
from hydratune.training.hardware.rendezvous import is_endpoint
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value

DDP_TIMEOUT = 1800.0  # seconds, upstream's default

_WHOLE = "FULL_STATE_DICT"
_BATCH, _STEPS = "per_device_train_batch_size", "gradient_accumulation_steps"
_WITHOUT_GPU = 2  # processes


@dataclass(kw_only=True)
class Launch(Configurable):
    """Settings by which the machines of a run find each other, with torchrun's names.

    Args:
        nnodes: Number of machines.
        node_rank: Number of this machine, counted from 0.
        rdzv_endpoint: HOST:PORT of machine 0, the same on all machines. Without a port, one is derived from the run.
        rdzv_id: Name for the run, the same on all machines.
        join_timeout: Seconds to wait for the other machines at the start; null for `trainer.args.ddp_timeout`.
        max_restarts: Number of restarts of all processes after a process failed.
        monitor_interval: Seconds between two checks of the processes.
    """

    nnodes: int = 1
    node_rank: int = 0
    rdzv_endpoint: str | None = None
    rdzv_id: str = "hydratune"
    join_timeout: float | None = None
    max_restarts: int = 0
    monitor_interval: float = 0.1

    def check(self) -> Iterator[Problem]:
        """Yield errors that keep machines from finding each other."""
        if self.nnodes < 1:
            yield invalid_value("nnodes", "the number of machines, at least 1", self.nnodes)
        elif self.nnodes == 1 and self.node_rank:
            hint = "set hardware.launch.nnodes to the number of machines"
            yield invalid_value("node_rank", "0 with one machine", self.node_rank, hint)
        elif not 0 <= self.node_rank < self.nnodes:
            requirement = f"from 0 to {self.nnodes - 1} with {self.nnodes} machines"
            yield invalid_value("node_rank", requirement, self.node_rank, "number the machines from 0")
        if self.nnodes > 1 and not is_endpoint(self.rdzv_endpoint or ""):
            hint = f"set {KEY}=HOST or HOST:PORT of machine 0, the same on all machines"
            if self.rdzv_endpoint is None:
                yield Problem("rdzv_endpoint", f"{KEY} is required with {self.nnodes} machines", hint)
            else:
                yield invalid_value("rdzv_endpoint", "HOST or HOST:PORT", repr(self.rdzv_endpoint), hint)
        if self.join_timeout is not None and self.join_timeout <= 0:
            yield invalid_value("join_timeout", "greater than 0", self.join_timeout)
        if self.max_restarts < 0:
            yield invalid_value("max_restarts", "at least 0", self.max_restarts)
        if self.monitor_interval <= 0:
            yield invalid_value("monitor_interval", "greater than 0", self.monitor_interval)


@dataclass(kw_only=True)
class Distributed(Hardware):
    """Hardware with several processes that train one model; `threads` applies to each process.

    Args:
        nproc_per_node: Processes per machine; `auto` for one per GPU, or 2 without GPUs.
        keep_global_batch_size: Whether all processes share the rows that a step has in one process. If not,
            `per_device_train_batch_size` applies to each process.
        fsdp_config: `fsdp_config` of TrainingArguments. If set, FSDP is on and shards the parameters across processes.
        launch: Settings for the start of the processes.
    """

    nproc_per_node: Literal["auto"] | int = "auto"
    keep_global_batch_size: bool = True
    fsdp_config: dict[str, Any] | None = None
    launch: Launch = field(default_factory=Launch)

    def check(self) -> Iterator[Problem]:
        """Yield errors that can be detected before heavy imports."""
        yield from super().check()
        yield from (problem.under("launch") for problem in self.launch.check())
        if isinstance(self.nproc_per_node, int) and self.nproc_per_node < 1:
            yield invalid_value("nproc_per_node", "auto or at least 1", self.nproc_per_node)
        for name in ("state_dict_type", "fsdp_state_dict_type"):
            if (kind := (self.fsdp_config or {}).get(name, _WHOLE)) != _WHOLE:
                text = f"{KEY}={kind} is not supported, since shards are loaded as pickles, which can run code"
                yield Problem(f"fsdp_config.{name}", text, f"set {KEY}={_WHOLE}")

    def local_processes(self) -> int:
        """Return the number of processes on this machine; raise ConfigError if it exceeds the number of GPUs."""
        import torch

        gpus = torch.cuda.device_count() if self.device != "cpu" else 0
        if self.nproc_per_node == "auto":
            return gpus or _WITHOUT_GPU
        if 0 < gpus < self.nproc_per_node:
            hint = f"set {KEY}=auto, or hardware.device=cpu"
            requirement = f"at most the number of GPUs, {gpus}"
            raise ConfigError(invalid_value("hardware.nproc_per_node", requirement, self.nproc_per_node, hint))
        return self.nproc_per_node

    def prepare(self, given: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """Prepare a single process, or one of several processes with its share of the threads and of a batch."""
        import torch

        arguments = super().prepare(given)
        if not is_rank():  # a finished run that is opened again
            return arguments
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # else accelerate counts threads by itself
        if arguments.get("use_cpu"):
            arguments["ddp_backend"] = given.get("ddp_backend") or "gloo"
            _join_processes(arguments["ddp_backend"], given)
        if self.fsdp_config is not None:
            arguments |= {"fsdp": True, "fsdp_config": dict(self.fsdp_config)}
        world = int(os.environ["WORLD_SIZE"])
        shares = self.shares(given, world)
        self._summary.append(f"{world} processes" + f" of {shares[_BATCH]} rows each" * bool(shares))
        return {**arguments, **shares}

    def shares(self, given: Mapping[str, Any], world: int) -> dict[str, int]:
        """Return the batch size and accumulation steps of one of `world` processes, which share the configured batch.

        Raises:
            ConfigError: If the rows of a step cannot be divided.
        """
        if not self.keep_global_batch_size:
            return {}
        batch, steps = int(given.get(_BATCH, 8)), int(given.get(_STEPS, 1))  # upstream's defaults
        if batch % world == 0:
            return {_BATCH: batch // world, _STEPS: steps}
        rows, remainder = divmod(batch * steps, world)
        if remainder:
            text = f"the batch of {batch} x {steps} rows ({KEY} x {_STEPS}) is not divisible by {world} processes"
            hint = f"set {KEY}={(batch // world + 1) * world}"
            hint += f"\nset hardware.keep_global_batch_size=false, so that each process has a batch of {batch}"
            raise ConfigError(Problem(f"trainer.args.{_BATCH}", text, hint))
        size = max(n for n in range(1, batch + 1) if rows % n == 0)  # at most the configured micro-batch size
        return {_BATCH: size, _STEPS: rows // size}


def _join_processes(backend: str, arguments: Mapping[str, Any]) -> None:
    """Set up the process group; on a CPU, upstream would ignore `ddp_timeout` and wait for half an hour."""
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group(backend, timeout=timedelta(seconds=arguments.get("ddp_timeout") or DDP_TIMEOUT))
