"""Hardware that this process may use, which is often less than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
# CPU flags for multiplying bfloat16: Intel AMX, AVX-512 (Intel Cooper Lake, AMD Zen 4 and later), Arm.
_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU of CUDA or ROCm.

    Args:
        name: Name from its manufacturer.
        bf16: Whether it multiplies bfloat16 without emulation.
        tf32: Whether it supports TF32: faster multiplication of float32, with a fraction of 10 bits.
    """

    name: str
    bf16: bool
    tf32: bool


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Resources that this process may use.

    Args:
        cores: Number of CPUs that this process may keep busy.
        all_cores: Number of CPUs of the machine.
        limit: Reason for fewer cores, `affinity` or `cgroup`; empty without a limit.
        bf16: CPU flag for multiplying bfloat16; empty if the CPU would have to emulate it.
        gpu: The first GPU; None without a GPU.
        mps: Whether this is a Mac with a GPU that PyTorch uses.
    """

    cores: int
    all_cores: int
    limit: str = ""
    bf16: str = ""
    gpu: Gpu | None = None
    mps: bool = False


def machine(root: Path = ROOT) -> Machine:
    """Return the resources that this process may use; `root` contains `proc` and `sys`."""
    import torch

    cores, affinity, all_cores = available_cpus(root), _affinity(), os.cpu_count() or 1
    return Machine(
        cores=cores,
        all_cores=all_cores,
        limit="cgroup" if cores < affinity else "affinity" if affinity < all_cores else "",
        bf16=cpu_bf16(root),
        gpu=_gpu() if torch.cuda.is_available() else None,
        mps=torch.backends.mps.is_available(),
    )


def _gpu() -> Gpu:
    import torch

    return Gpu(
        name=torch.cuda.get_device_name(),
        bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        tf32=torch.version.cuda is not None and torch.cuda.get_device_capability() >= (8, 0),
    )


def available_cpus(root: Path = ROOT) -> int:
    """Return how many CPUs this process may keep busy: its affinity, or less if a cgroup limits its CPU time."""
    quota = _cpu_quota(root)
    return _affinity() if quota is None else min(_affinity(), quota)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, without starting CUDA."""
    if (value := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in value.split(",") if gpu]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(i) for i in range(len(list(folder.iterdir())))] if folder.is_dir() else []


def pin_process(number: int, processes: int) -> None:
    """Restrict this process to one GPU and to its share of the CPUs.

    Args:
        number: Number of this process among those that share the machine, counted from 0.
        processes: Number of these processes. With more processes than CPUs, none is pinned to a CPU.
    """
    share = available_cpus() // processes
    if hasattr(os, "sched_setaffinity") and share:
        cpus = sorted(os.sched_getaffinity(0))[number % processes * share :][:share]
        os.sched_setaffinity(0, cpus)
    if gpus := visible_gpus():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_bf16(root: Path = ROOT) -> str:
    """Return the best CPU flag for multiplying bfloat16; empty if the CPU has none."""
    lines = _read(root / "proc/cpuinfo").splitlines()
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return next((flag for flag in _BF16 if flag in flags), "")


# --- cgroups: limits of a container or a batch system -----------------------------------------------------


def _cpu_quota(root: Path) -> int | None:
    """Return the CPU time that the process's cgroups get, in CPUs, rounded up; None without a limit."""
    quotas = []
    for group in _groups(root, "cpu"):
        quota, period = [*_read(group / "cpu.max").split(), "", ""][:2]
        if not quota:
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # else `max`, -1 or nothing: no limit
            quotas.append(max(1, math.ceil(int(quota) / int(period))))
    return min(quotas, default=None)


def free_memory(root: Path = ROOT) -> int | None:
    """Return the free bytes for this process, in the machine or in its cgroups, whichever has less; None if unknown."""
    free_bytes = []
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free_bytes.append(int(line.split()[1]) * 1024)
    for group in _groups(root, "memory"):
        for limit_file, usage_file, cache_field in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if (max_bytes := _read(group / limit_file)).isdigit():
                stat = dict(line.split() for line in _read(group / "memory.stat").splitlines())
                # The kernel can drop cached files.
                used_bytes = int(_read(group / usage_file) or 0) - int(stat.get(cache_field, 0))
                free_bytes.append(max(0, int(max_bytes) - used_bytes))
    return min(free_bytes, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the process's cgroup, of version 1 or 2, and those above it; the limits of all of them apply."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            hierarchy_root = mount
        elif controller in controllers.split(","):
            hierarchy_root = mount / controller
        else:
            continue
        cgroup = hierarchy_root / path.lstrip("/")
        yield from (group for group in (cgroup, *cgroup.parents) if group.is_relative_to(hierarchy_root))


def _read(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
