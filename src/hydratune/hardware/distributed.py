"""A run of several processes: how many, how they find each other, and which share of the work each has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from hydratune.errors import ConfigError, Mistake
from hydratune.hardware.base import Hardware
from hydratune.hardware.environment import is_rank

_WHOLE = "FULL_STATE_DICT"
_BATCH, _STEPS = "per_device_train_batch_size", "gradient_accumulation_steps"
_WITHOUT_GPU = 2  # processes


@dataclass(kw_only=True)
class Launch:
    """How the machines of a run find each other, in torchrun's words.

    Args:
        nnodes: Machines.
        node_rank: The number of this one, from 0.
        rdzv_backend: Of the rendezvous; null for `static`, or for a local one where there is one machine.
        rdzv_endpoint: HOST:PORT, the same on all machines.
        rdzv_id: A name of the run, the same on all machines.
        rdzv_conf: More of it.
        max_restarts: How often all processes are started again after the death of one.
        monitor_interval: Seconds between two looks at the processes.
    """

    nnodes: int = 1
    node_rank: int = 0
    rdzv_backend: str | None = None
    rdzv_endpoint: str | None = None
    rdzv_id: str = "hydratune"
    rdzv_conf: dict[str, Any] = field(default_factory=dict)
    max_restarts: int = 0
    monitor_interval: float = 0.1

    def check(self) -> Iterator[Mistake]:
        """Whether machines can find each other."""
        if self.nnodes < 1:
            yield Mistake("nnodes", "a number above 0", repr(self.nnodes), "Set it to the number of machines.")
        elif not 0 <= self.node_rank < self.nnodes:
            fix = "Number the machines from 0."
            yield Mistake("node_rank", f"a number from 0 to {self.nnodes - 1}", repr(self.node_rank), fix)
        if self.nnodes > 1 and ":" not in (self.rdzv_endpoint or ""):
            fix = "Set hardware.launch.rdzv_endpoint=HOST:29500, with the name of machine 0."
            yield Mistake("rdzv_endpoint", "HOST:PORT for several machines", repr(self.rdzv_endpoint), fix)
        if self.max_restarts < 0:
            yield Mistake("max_restarts", "a number from 0", repr(self.max_restarts), "Leave it out.")
        if self.monitor_interval <= 0:
            yield Mistake("monitor_interval", "a number above 0", repr(self.monitor_interval), "Leave it out.")

    def rendezvous(self) -> dict[str, Any]:
        """Arguments of torch's `LaunchConfig`."""
        if self.nnodes == 1 and not self.rdzv_backend:  # what `torchrun --standalone` does, with any free port
            place: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "local_addr": "127.0.0.1"}
            return {**place, "rdzv_configs": dict(self.rdzv_conf)}
        backend = self.rdzv_backend or "static"
        numbered = {"rank": self.node_rank} if backend == "static" else {}
        configs = {**numbered, **self.rdzv_conf}
        return {"rdzv_backend": backend, "rdzv_endpoint": self.rdzv_endpoint or "", "rdzv_configs": configs}


@dataclass(kw_only=True)
class Distributed(Hardware):
    """Several processes that train one network; threads are those of one process.

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
                expected, fix = f"{_WHOLE!r}, since parts are read back as pickles, which can run code", "Leave it out."
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
        if arguments.get("use_cpu") and "ddp_backend" not in given:
            arguments["ddp_backend"] = "gloo"
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
