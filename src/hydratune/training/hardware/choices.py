"""Choice of a run's settings by the capabilities of the machine, with a reason for each choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.machine import Machine

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_WORKERS = 4  # DataLoader workers for a GPU; more of them would wait
# Compiling takes one to three minutes and saves a tenth to a third of a step, so it needs thousands of 50 ms steps.
_COMPILE_PAYS = 10_000
_SHORT = 512  # tokens; beyond, memory that grows quadratically is a concern


class Choice(NamedTuple):
    """Chosen value and its reason, which is empty if the user asked for the value."""

    value: Any
    why: str = ""

    def __str__(self) -> str:
        return f"{self.value} ({self.why})" if self.why else str(self.value)


def device(asked: str, machine: Machine) -> str:
    """Return `cuda`, `mps`, or `cpu`.

    Raises:
        ConfigError: If a GPU is requested and there is none.
    """
    if asked == "cuda" and machine.gpu is None:
        hint = f"check nvidia-smi and torch.cuda.is_available(), or set {KEY}=auto"
        raise ConfigError(Problem("hardware.device", f"{KEY}=cuda, but PyTorch sees no GPU", hint))
    if asked == "cpu":
        return "cpu"
    return "cuda" if machine.gpu else "mps" if machine.mps else "cpu"


def threads(asked: int | None, machine: Machine, processes: int = 1) -> Choice:
    """Return the CPU threads of torch: one for each usable core, shared by `processes` processes."""
    if asked is not None:
        return Choice(asked)
    limits = [f"of {machine.all_cores}"] * bool(machine.limit or processes > 1)
    limits += [machine.limit] * bool(machine.limit) + [f"{processes} processes"] * (processes > 1)
    return Choice(max(1, machine.cores // processes), ", ".join(limits))


def precision(asked: str, kind: str, machine: Machine, given: Mapping[str, Any]) -> Choice:
    """Return `bf16` or `fp16` autocast, `tf32`, or `fp32`; native bf16 is preferred, since it needs no loss scaling.

    Args:
        asked: Requested precision, or `auto`.
        kind: Type of the device.
        machine: Machine, for the precisions that it supports natively.
        given: Arguments that the user has set; they take precedence.

    Raises:
        ConfigError: If the device does not have the requested precision.
    """
    for name in ("fp16", "bf16"):
        if given.get(name):
            return Choice(name, "by trainer.args")
    if asked in ("fp16", "tf32") and (kind == "cpu" or (asked == "tf32" and not (machine.gpu and machine.gpu.tf32))):
        where = machine.gpu.name if kind == "cuda" and machine.gpu else "MPS" if kind == "mps" else "a CPU"
        text = f"{KEY}={asked} is not supported on {where}; bf16 and fp32 are"
        raise ConfigError(Problem("hardware.precision", text, f"set {KEY}=auto"))
    if asked != "auto":
        return Choice(asked)
    if kind == "cuda" and machine.gpu:
        if machine.gpu.bf16 and "bf16" not in given:
            return Choice("bf16", "native")
        return Choice("tf32", "native") if machine.gpu.tf32 else Choice("fp32", "the GPU has no bf16")
    if kind == "cpu" and machine.bf16 and "bf16" not in given:
        return Choice("bf16", machine.bf16)
    if "bf16" in given:
        return Choice("fp32", "by trainer.args")
    return Choice("fp32", "the CPU has no bf16" if kind == "cpu" else "safe on MPS")


def workers(asked: int | None, kind: str, machine: Machine) -> int:
    """Return the number of DataLoader workers: none on a CPU, whose cores train, and a few for a GPU."""
    if asked is not None:
        return asked
    return max(0, min(_WORKERS, machine.cores - 1)) if kind == "cuda" else 0


def attention(
    asked: str | None, kind: str, config: PretrainedConfig, bf16: str, longest: Callable[[], int | None]
) -> Choice | None:
    """Return the attention kernel; None for transformers' own choice, which is `sdpa` if the model has it.

    On a CPU, torch's fused kernel does not support dropout, and the fallback of SDPA is slower than `eager`. Without
    AMX, the fused kernel itself takes 1.2 to 5 times as long in bf16, with the largest factor for short rows. Its
    memory grows linearly with the row length, but that of `eager` grows quadratically.

    Args:
        asked: Requested kernel, `auto`, or None.
        kind: Type of the device.
        config: Config of the model.
        bf16: CPU instructions with which the run multiplies bfloat16; empty in another precision.
        longest: Function that returns the tokens of the longest row: 0 for images, None if unknown. It is called only
            if the result matters.
    """
    if asked != "auto":
        return Choice(asked) if asked else None
    if kind != "cpu":
        return None
    if _drops_attention(config):
        return Choice("eager", "the model uses dropout")
    if bf16 != "avx512_bf16" or (tokens := longest()) is None or tokens > _SHORT:
        return None
    return Choice("eager", "faster for short rows in bf16")


def _drops_attention(config: PretrainedConfig) -> bool:
    """Return whether a config, or one inside it, has attention dropout, under any name that its family uses."""
    configs = [config, *(part_config for name in config.sub_configs if (part_config := getattr(config, name, None)))]
    return any(
        isinstance(value, float) and value > 0
        for part_config in configs
        for name, value in part_config.to_dict().items()
        if "drop" in name and name.startswith(("attn_", "attention_"))
    )


def compiles(asked: bool | str, kind: str, steps: int, fixed_shapes: bool) -> Choice:
    """Choose torch.compile if it pays off: on a GPU, with batches of one shape, and in a long run.

    It recompiles for new shapes. On batches padded to their own longest row, it was several times slower than without
    (measured over 60 steps on a CPU). With fewer than thousands of steps, it does not make up for the compile time.
    """
    if asked != "auto":
        return Choice(bool(asked))
    if kind != "cuda" or not fixed_shapes:
        return Choice(False, "batch shapes vary" if kind == "cuda" else "")
    is_long = steps >= _COMPILE_PAYS
    return Choice(is_long, f"{steps:,} steps with one batch shape" if is_long else f"only {steps:,} steps")
