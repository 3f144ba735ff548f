"""What the machine offers to this process, which is often less than what it has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
# Instructions that multiply bfloat16: Intel's tiles, AVX-512 (Intel Cooper Lake, AMD Zen 4 and later), Arm's.
_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU of CUDA or ROCm.

    Args:
        name: As its maker calls it.
        bf16: Whether it multiplies bfloat16 itself.
        tf32: Whether it multiplies float32 faster with 10 bits of fraction.
    """

    name: str
    bf16: bool
    tf32: bool


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this process may use.

    Args:
        cores: That it may keep busy.
        all_cores: That the machine has.
        limit: What leaves it fewer: `affinity` or `cgroup`; empty where nothing does.
        bf16: The CPU's instructions that multiply bfloat16; empty where it would have to emulate them.
        gpu: The first one; None where there is none.
        mps: Whether it is a Mac with a GPU that torch uses.
    """

    cores: int
    all_cores: int
    limit: str = ""
    bf16: str = ""
    gpu: Gpu | None = None
    mps: bool = False


def machine(root: Path = ROOT) -> Machine:
    """What this process may use; `root` is where `proc` and `sys` lie."""
    import torch

    cores, pinned, everything = available_cpus(root), _affinity(), os.cpu_count() or 1
    return Machine(
        cores=cores,
        all_cores=everything,
        limit="cgroup" if cores < pinned else "affinity" if pinned < everything else "",
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
    """How many CPUs this process may keep busy: those that it may run on, or fewer where a cgroup gives less time."""
    quota = _cpu_quota(root)
    return _affinity() if quota is None else min(_affinity(), quota)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_bf16(root: Path = ROOT) -> str:
    """The CPU's best instructions that multiply bfloat16; empty where it has none."""
    lines = _read(root / "proc/cpuinfo").splitlines()
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return next((flag for flag in _BF16 if flag in flags), "")


# --- cgroups: what a container or a batch system allots ---------------------------------------------------


def _cpu_quota(root: Path) -> int | None:
    """CPUs' worth of time that the process's groups get, rounded up; None without a limit."""
    shares = []
    for group in _groups(root, "cpu"):
        quota, period = [*_read(group / "cpu.max").split(), "", ""][:2]
        if not quota:
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # else `max`, -1 or nothing: no limit
            shares.append(max(1, math.ceil(int(quota) / int(period))))
    return min(shares, default=None)


def free_memory(root: Path = ROOT) -> int | None:
    """Bytes that this process may still take: what the machine has left, or its groups; None where nobody says."""
    left = []
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            left.append(int(line.split()[1]) * 1024)
    for group in _groups(root, "memory"):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if (most := _read(group / limit)).isdigit():
                stat = dict(line.split() for line in _read(group / "memory.stat").splitlines())
                taken = int(_read(group / used) or 0) - int(stat.get(cached, 0))  # files it can drop are no loss
                left.append(max(0, int(most) - taken))
    return min(left, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The process's cgroup, of version 1 or 2, and those above it: the limits of all of them hold."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            top = mount
        elif controller in controllers.split(","):
            top = mount / controller
        else:
            continue
        own = top / path.lstrip("/")
        yield from (group for group in (own, *own.parents) if group.is_relative_to(top))


def _read(path: Path) -> str:
    """A file's text; empty where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
