"""What the machine offers: precision and threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydratune.errors import Mistake

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Hardware:
    """How a run uses the machine.

    Args:
        device: `auto` takes a GPU where there is one.
        precision: `auto` takes bf16 autocast where the processor multiplies bf16 itself, else fp32.
        threads: CPU threads of torch; null for all that this process may use.
    """

    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    threads: int | None = None

    def check(self) -> Iterator[Mistake]:
        """What can be told to be wrong before anything heavy is imported."""
        if self.threads is not None and self.threads < 1:
            yield Mistake("threads", "a number above 0 or null", repr(self.threads), "Leave it out.")

    def prepare(self, given: Container[str] = ()) -> dict[str, Any]:
        """Sets torch's threads, says what was chosen, and returns arguments for `TrainingArguments`.

        Args:
            given: Arguments that the user has set; these, and those that contradict them, are left out.
        """
        import torch

        cuda = self.device == "auto" and torch.cuda.is_available()
        mps = self.device == "auto" and torch.backends.mps.is_available()
        threads = self.threads or available_cpus()
        torch.set_num_threads(threads)
        if cuda:
            device, native = (
                torch.cuda.get_device_name(),
                torch.cuda.is_bf16_supported(including_emulation=False),
            )
        else:
            device, native = ("MPS", False) if mps else (f"CPU, {threads} threads", cpu_has_bf16())
        precision = ("bf16" if native else "fp32") if self.precision == "auto" else self.precision
        reason = "this device multiplies bf16" if native else "this device does not multiply bf16"
        log.info("hardware: %s, %s (%s)", device, precision, reason if self.precision == "auto" else "as asked")
        arguments = {"bf16": precision == "bf16", "use_cpu": not (cuda or mps)}
        return {k: v for k, v in arguments.items() if k not in given and not (k == "bf16" and "fp16" in given)}


def available_cpus() -> int:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions that multiply bfloat16 (Intel AMX or AVX512-BF16, AMD Zen 4, Arm BF16)."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return False
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
