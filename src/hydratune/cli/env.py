"""Print versions, hardware, and caches for a bug report."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from hydratune.utils import provenance
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.machine import free_memory, machine

_VARIABLES = ("HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "MLFLOW_TRACKING_URI", "CUDA_VISIBLE_DEVICES")
_GIB = 2**30


def main(arguments: Sequence[str]) -> int:
    """Print the environment as a list or as JSON, and return the exit code."""
    parser = ArgumentParser(prog="hydratune env", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(arguments)
    facts = _facts()
    if args.json:
        print(json.dumps(facts))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    return 0


def _facts() -> dict[str, str]:
    """Return names and values; secrets in environment variables are masked."""
    import torch

    hardware, memory = machine(), free_memory()
    facts = {"hydratune": version("hydratune"), **provenance.versions(), "platform": platform.platform()}
    facts["cpu"] = f"{hardware.cores} of {hardware.all_cores} cores" + (
        f" ({hardware.limit})" if hardware.limit else ""
    )
    facts["cpu bf16"] = hardware.bf16 or "emulated"
    facts["gpu"] = "none"
    if hardware.gpu:
        cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
        facts["gpu"] = f"{torch.cuda.device_count()} x {hardware.gpu.name}, {cuda}"
    elif hardware.mps:
        facts["gpu"] = "Apple MPS"
    if memory is not None:
        facts["free memory"] = f"{memory / _GIB:.1f} GiB"
    facts["free disk"] = f"{shutil.disk_usage(Path.cwd()).free / _GIB:.1f} GiB in the current directory"
    return facts | {name: str(provenance.redact(os.environ[name], name)) for name in _VARIABLES if name in os.environ}
