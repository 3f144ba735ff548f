"""Torch's elastic agent with our rendezvous; it starts and watches the processes of this machine."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch.distributed import HashStore, Store, TCPStore
from torch.distributed.elastic.agent.server import Worker, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from hydratune.training.hardware.distributed import Launch
from hydratune.training.hardware.machines import LOOPBACK, Machines, PeerFailedError
from hydratune.utils import signals

_LONGEST_END = 1800.0  # seconds for processes to finish a step and save
_SHORTEST_END = 2.0  # seconds, if another machine does not answer: processes wait for it and cannot save
_STORE = timedelta(seconds=30)
_POLL = 0.1  # seconds
_SIGNALS = "TORCHELASTIC_SIGNALS_TO_HANDLE"


def run_processes(launch: Launch, machines: Machines, command: Sequence[str]) -> dict[int, int]:
    """Start the processes of this machine, and wait until those of all machines have ended.

    Args:
        launch: Settings for the start of the processes.
        machines: Connections to the other machines.
        command: Program and its arguments.

    Returns:
        Rank -> exit code of the processes that failed, on any machine.

    Raises:
        ConfigError: If the machines do not find each other.
        MachineLostError: If a machine is lost.
    """
    handler = _Rendezvous(launch.rdzv_id, machines)
    spec = WorkerSpec(
        role="default",
        local_world_size=machines.processes,
        entrypoint=command[0],
        args=tuple(command[1:]),
        rdzv_handler=handler,
        max_restarts=launch.max_restarts,
        monitor_interval=launch.monitor_interval,
    )
    with tempfile.TemporaryDirectory() as scratch:
        agent = _Agent(spec, machines, handler, scratch)
        try:
            failures = agent.run().failures
        except PeerFailedError:
            failures = {}
    return machines.finish({rank: failure.exitcode for rank, failure in failures.items()})


@contextmanager
def _without_signals() -> Iterator[None]:
    """Keep torch from replacing our signal handlers, which raise; any exception ends the processes."""
    os.environ[_SIGNALS] = ""
    try:
        yield
    finally:
        del os.environ[_SIGNALS]


class _Rendezvous(RendezvousHandler):
    """Rendezvous that starts the processes of all machines together; machine 0 hosts the store they share."""

    use_agent_store = True

    def __init__(self, run_id: str, machines: Machines) -> None:
        self._run_id, self._machines = run_id, machines
        self._store: Store | None = None
        self.processes: Sequence[int] = ()

    def next_rendezvous(self) -> RendezvousInfo:
        """Wait for the other machines."""
        machines = self._machines
        if machines.rank:
            store: Any = HashStore()  # the agent does not use it
            port = 0
        else:
            store = TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False, timeout=_STORE)
            port = store.port
        start = machines.start(port)
        self._store, self.processes = store, start["processes"]
        address = RendezvousStoreInfo(machines.address, start["port"])
        return RendezvousInfo(store, machines.rank, machines.count, address)

    def num_nodes_waiting(self) -> int:
        """Check the other machines, and return 0, since the number of machines is fixed.

        The agent calls this between two checks of its processes.
        """
        self._machines.check()
        return 0

    def get_backend(self) -> str:
        """Return a name for torch's own records."""
        return "hydratune"

    def get_run_id(self) -> str:
        """Return the ID of the run."""
        return self._run_id

    def is_closed(self) -> bool:
        """Return False, since the rendezvous is open as long as the agent runs."""
        return False

    def set_closed(self) -> None:
        """Do nothing."""

    def shutdown(self) -> bool:
        """Return True, since `Machines` closes the connections."""
        return True


class _Agent(LocalElasticAgent):
    """Agent that numbers and ends processes without calls that wait for other machines and ignore signals."""

    def __init__(self, spec: WorkerSpec, machines: Machines, handler: _Rendezvous, scratch: str) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=scratch))
        self._machines, self._handler = machines, handler

    def _assign_worker_ranks(
        self,
        store: Store,  # noqa: ARG002 (upstream's signature)
        group_rank: int,
        group_world_size: int,  # noqa: ARG002
        spec: WorkerSpec,
    ) -> list[Worker]:
        counts = self._handler.processes
        first, world = sum(counts[:group_rank]), sum(counts)
        return [
            Worker(local, global_rank=rank, role_rank=rank, world_size=world, role_world_size=world)
            for local, rank in enumerate(range(first, first + spec.local_world_size))
        ]

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        # An exception in the middle would leave processes that `_shutdown` does not know.
        with self._machines.interfaces(), _without_signals(), signals.defer_signals():
            return super()._start_workers(worker_group)

    def _exit_barrier(self) -> None:
        self._machines.await_ends()

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:  # noqa: ARG002
        """End the processes, and kill them if they do not end in time.

        They may finish a step and save first, unless another machine does not answer.
        """
        processes: Mapping[int, Any] = self._pcontext.subprocess_handlers if self._pcontext else {}
        if signals.stop_requested():
            self._machines.announce_request()
        for handler in processes.values():
            if handler.proc.poll() is None:
                handler.close(death_sig=death_sig)
        begin = time.monotonic()
        while any(handler.proc.poll() is None for handler in processes.values()):
            seconds = time.monotonic() - begin
            if seconds > _LONGEST_END or (seconds > _SHORTEST_END and self._machines.is_unreachable()):
                super()._shutdown(signal.SIGKILL, 1)
                break
            time.sleep(_POLL)
        self._machines.is_aborted = any(
            signals.ended_by_request(handler.proc.poll() or 0) for handler in processes.values()
        )
        super()._shutdown(death_sig, 1)
