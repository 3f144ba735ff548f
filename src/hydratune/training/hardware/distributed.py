"""A run of several processes: how many, how they find each other, and which share of the work each has."""

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
from hydratune.utils.errors import ConfigError, Mistake

DDP_TIMEOUT = 1800.0  # seconds, upstream's default

_WHOLE = "FULL_STATE_DICT"
_BATCH, _STEPS = "per_device_train_batch_size", "gradient_accumulation_steps"
_WITHOUT_GPU = 2  # processes


@dataclass(kw_only=True)
class Launch(Configurable):
    """How the machines of a run find each other, in torchrun's words.

    Args:
        nnodes: The number of machines.
        node_rank: The number of this machine, from 0.
        rdzv_endpoint: HOST:PORT of machine 0, the same on all machines; without a port, one is derived from the run.
        rdzv_id: A name for the run, the same on all machines.
        join_timeout: Seconds to wait for the other machines at the start; null for `trainer.args.ddp_timeout`.
        max_restarts: How often all processes are started again after one failed.
        monitor_interval: Seconds between two checks of the processes.
    """

    nnodes: int = 1
    node_rank: int = 0
    rdzv_endpoint: str | None = None
    rdzv_id: str = "hydratune"
    join_timeout: float | None = None
    max_restarts: int = 0
    monitor_interval: float = 0.1

    def check(self) -> Iterator[Mistake]:
        """Yields errors that keep machines from finding each other."""
        if self.nnodes < 1:
            yield Mistake("nnodes", "a number above 0", repr(self.nnodes), "Set it to the number of machines.")
        elif not 0 <= self.node_rank < self.nnodes:
            fix = "Number the machines from 0."
            yield Mistake("node_rank", f"a number from 0 to {self.nnodes - 1}", repr(self.node_rank), fix)
        if self.nnodes > 1 and not is_endpoint(self.rdzv_endpoint or ""):
            fix = "Set hardware.launch.rdzv_endpoint to the name of machine 0, e.g. host0 or host0:29500."
            yield Mistake("rdzv_endpoint", "HOST or HOST:PORT for several machines", repr(self.rdzv_endpoint), fix)
        if self.join_timeout is not None and self.join_timeout <= 0:
            yield Mistake("join_timeout", "a number above 0", repr(self.join_timeout), "Leave it out.")
        if self.max_restarts < 0:
            yield Mistake("max_restarts", "a number from 0", repr(self.max_restarts), "Leave it out.")
        if self.monitor_interval <= 0:
            yield Mistake("monitor_interval", "a number above 0", repr(self.monitor_interval), "Leave it out.")


@dataclass(kw_only=True)
class Distributed(Hardware):
    """Several processes that train one model; threads are those of one process.

    Args:
        processes: On each machine; `auto` for one a GPU, and 2 without any.
        same_batch: Whether a step has as many rows as it would have in one process, divided among all; else
            `per_device_train_batch_size` means what it says.
        fsdp_config: TrainingArguments' own, which is on where it is given: each process holds a part of the weights.
        launch: How they start.
    """

    processes: Literal["auto"] | int = "auto"
    same_batch: bool = True
    fsdp_config: dict[str, Any] | None = None
    launch: Launch = field(default_factory=Launch)

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported."""
        yield from super().check()
        yield from (mistake.under("launch") for mistake in self.launch.check())
        if isinstance(self.processes, int) and self.processes < 1:
            yield Mistake("processes", "a number above 0 or auto", repr(self.processes), "Leave it out.")
        for name in ("state_dict_type", "fsdp_state_dict_type"):
            if (kind := (self.fsdp_config or {}).get(name, _WHOLE)) != _WHOLE:
                expected, fix = f"{_WHOLE!r}, since shards are read as pickles, which can run code", "Leave it out."
                yield Mistake(f"fsdp_config.{name}", expected, repr(kind), fix)

    def local_processes(self) -> int:
        """Processes on this machine; raises ConfigError for more than it has GPUs."""
        import torch

        gpus = torch.cuda.device_count() if self.device != "cpu" else 0
        if self.processes == "auto":
            return gpus or _WITHOUT_GPU
        if 0 < gpus < self.processes:
            fix = "Set hardware.processes=auto, or hardware.device=cpu."
            raise ConfigError(Mistake("hardware.processes", f"at most {gpus}, one a GPU", str(self.processes), fix))
        return self.processes

    def prepare(self, given: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """As for one process; for one of several its share of the threads, and of a batch."""
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
        self._said.append(f"{world} processes" + f" of {shares[_BATCH]} rows each" * bool(shares))
        return {**arguments, **shares}

    def shares(self, given: Mapping[str, Any], world: int) -> dict[str, int]:
        """Batch size and accumulated steps of one of `world` processes, whose sum is what was given.

        Raises:
            ConfigError: Where the rows of a step cannot be divided.
        """
        if not self.same_batch:
            return {}
        batch, steps = int(given.get(_BATCH, 8)), int(given.get(_STEPS, 1))  # upstream's defaults
        if batch % world == 0:
            return {_BATCH: batch // world, _STEPS: steps}
        rows, rest = divmod(batch * steps, world)
        if rest:
            expected = f"rows of a step that {world} processes can share"
            fix = f"Set it to {(batch // world + 1) * world}, or hardware.same_batch=false for a batch of each process."
            raise ConfigError(Mistake(f"trainer.args.{_BATCH}", expected, f"{batch} x {steps}", fix))
        size = max(one for one in range(1, batch + 1) if rows % one == 0)  # no more rows at once than was asked for
        return {_BATCH: size, _STEPS: rows // size}


def _join_processes(backend: str, given: Mapping[str, Any]) -> None:
    """Sets up the process group: on a CPU, upstream would ignore `ddp_timeout` and wait for half an hour."""
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group(backend, timeout=timedelta(seconds=given.get("ddp_timeout") or DDP_TIMEOUT))
