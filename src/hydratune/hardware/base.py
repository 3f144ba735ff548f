"""How a run uses the machine: precision, threads, and what it says of them."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hydratune.errors import Mistake
from hydratune.hardware import probe

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Hardware:
    """How a run uses the machine.

    Args:
        device: `auto` takes a GPU where there is one.
        precision: `auto` takes bf16 autocast where the processor multiplies bf16 itself, else fp32.
        threads: CPU threads of torch; null for all that this process may use.
        lean: Cheaper steps on a CPU (see `hydratune.training.lean`).
    """

    device: Literal["auto", "cpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    threads: int | None = None
    lean: bool = True

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
        threads = self.threads or probe.available_cpus()
        torch.set_num_threads(threads)
        if cuda:
            device, native = (
                torch.cuda.get_device_name(),
                torch.cuda.is_bf16_supported(including_emulation=False),
            )
        else:
            device, native = ("MPS", False) if mps else (f"CPU, {threads} threads", probe.cpu_has_bf16())
        precision = ("bf16" if native else "fp32") if self.precision == "auto" else self.precision
        reason = "this device multiplies bf16" if native else "this device does not multiply bf16"
        log.info("hardware: %s, %s (%s)", device, precision, reason if self.precision == "auto" else "as asked")
        arguments = {"bf16": precision == "bf16", "use_cpu": not (cuda or mps)}
        return {k: v for k, v in arguments.items() if k not in given and not (k == "bf16" and "fp16" in given)}
