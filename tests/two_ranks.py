"""A measurement in two processes of torch.distributed on this machine."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def measured_by_two_ranks(measure: Callable[[Path], Any], folder: Path) -> list[Any]:
    """Return what each of two processes measures, in the order of their ranks.

    Args:
        measure: Function of a module that takes the folder and returns what JSON can hold.
        folder: Folder that both processes may write to.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_measure, (measure, folder, port), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def _measure(rank: int, measure: Callable[[Path], Any], folder: Path, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    (folder / f"{rank}.json").write_text(json.dumps(measure(folder)))
    torch.distributed.destroy_process_group()
