"""From what the machine offers to what a run takes of it, with a reason for each choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hydratune.utils.errors import ConfigError, Mistake
from hydratune.utils.machine import Machine

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_WORKERS = 4  # processes that collate for a GPU; more of them wait
# Compiling takes one to three minutes and saves a tenth to a third of a step: of steps of 50 ms, some thousands.
_COMPILE_PAYS = 10_000
_SHORT = 512  # tokens; the square of more takes memory


class Choice(NamedTuple):
    """What was chosen, and why: empty where the user asked for it."""

    value: Any
    why: str = ""

    def __str__(self) -> str:
        return f"{self.value} ({self.why})" if self.why else str(self.value)


def device(asked: str, machine: Machine) -> str:
    """`cuda`, `mps` or `cpu`.

    Raises:
        ConfigError: Where a GPU is asked for and there is none.
    """
    if asked == "cuda" and machine.gpu is None:
        fix = "Set hardware=auto, or look whether nvidia-smi and torch.cuda.is_available() see one."
        raise ConfigError(Mistake("hardware.device", "a GPU on this machine", "none that torch sees", fix))
    if asked == "cpu":
        return "cpu"
    return "cuda" if machine.gpu else "mps" if machine.mps else "cpu"


def threads(asked: int | None, machine: Machine, processes: int = 1) -> Choice:
    """Torch's threads on the CPU: one a core that the process may use, `processes` of which share them."""
    if asked is not None:
        return Choice(asked)
    limits = [f"of {machine.all_cores}"] * bool(machine.limit or processes > 1)
    limits += [machine.limit] * bool(machine.limit) + [f"{processes} processes"] * (processes > 1)
    return Choice(max(1, machine.cores // processes), ", ".join(limits))


def precision(asked: str, kind: str, machine: Machine, given: Mapping[str, Any]) -> Choice:
    """`bf16` or `fp16` autocast, `tf32` or `fp32`: bf16 where it is native, for it needs no scaling of the loss.

    Args:
        asked: The same, or `auto`.
        kind: Of device.
        machine: For what it multiplies natively.
        given: Arguments that the user has set; they win.

    Raises:
        ConfigError: Where the device has not what is asked for.
    """
    for name in ("fp16", "bf16"):
        if given.get(name):
            return Choice(name, "by trainer.args")
    if asked in ("fp16", "tf32") and (kind == "cpu" or (asked == "tf32" and not (machine.gpu and machine.gpu.tf32))):
        expected = "bf16 or fp32 on this device"
        raise ConfigError(Mistake("hardware.precision", expected, repr(asked), "Set hardware.precision=auto."))
    if asked != "auto":
        return Choice(asked)
    if kind == "cuda" and machine.gpu:
        if machine.gpu.bf16 and "bf16" not in given:
            return Choice("bf16", "native")
        return Choice("tf32", "native") if machine.gpu.tf32 else Choice("fp32", "it has no bf16")
    if kind == "cpu" and machine.bf16 and "bf16" not in given:
        return Choice("bf16", machine.bf16)
    if "bf16" in given:
        return Choice("fp32", "by trainer.args")
    return Choice("fp32", "the CPU has no bf16" if kind == "cpu" else "safe on MPS")


def workers(asked: int | None, kind: str, machine: Machine) -> int:
    """Processes that collate: none on a CPU, whose cores train, some beside a GPU, which would wait."""
    if asked is not None:
        return asked
    return max(0, min(_WORKERS, machine.cores - 1)) if kind == "cuda" else 0


def attention(
    asked: str | None, kind: str, config: PretrainedConfig, bf16: str, longest: Callable[[], int | None]
) -> Choice | None:
    """The attention kernel; None for transformers' own choice, which is `sdpa` where the network has it.

    On a CPU torch's fused kernel has no dropout, and what SDPA falls back to is slower than `eager`. Without AMX the
    fused kernel itself takes 1.2 to 5 times as long in bf16, the more the shorter the rows are; but its memory grows
    with their length, that of `eager` with the square.

    Args:
        asked: A kernel, `auto`, or None.
        kind: Of device.
        config: The network's.
        bf16: The CPU's instructions that the run multiplies bfloat16 with; empty in another precision.
        longest: Says the tokens of the longest row, 0 for images, None where nobody knows; asked only where it matters.
    """
    if asked != "auto":
        return Choice(asked) if asked else None
    if kind != "cpu":
        return None
    if _drops_attention(config):
        return Choice("eager", "it has dropout")
    if bf16 != "avx512_bf16" or (tokens := longest()) is None or tokens > _SHORT:
        return None
    return Choice("eager", "faster for short rows in bf16")


def _drops_attention(config: PretrainedConfig) -> bool:
    """Whether a config, or one inside it, drops attention, by whatever name its family has for that."""
    parts = [config, *(part for name in config.sub_configs if (part := getattr(config, name, None)))]
    return any(
        isinstance(value, float) and value > 0
        for part in parts
        for name, value in part.to_dict().items()
        if "drop" in name and name.startswith(("attn_", "attention_"))
    )


def compiles(asked: bool | str, kind: str, steps: int, fixed_shapes: bool) -> Choice:
    """Whether torch.compile pays: where batches have one shape, on a GPU, in a run that is long enough.

    It compiles anew for shapes that it has not seen: on batches padded to their own longest row it was several times
    slower than without (measured over 60 steps on a CPU). Below thousands of steps it never earns its minutes back.
    """
    if asked != "auto":
        return Choice(bool(asked))
    if kind != "cuda" or not fixed_shapes:
        return Choice(False, "lengths differ" if kind == "cuda" else "")
    long = steps >= _COMPILE_PAYS
    return Choice(long, f"{steps:,} steps of one shape" if long else f"{steps:,} steps are too few")
