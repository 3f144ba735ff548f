"""Precision of a run's training and evaluation, and evaluation without autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydratune.utils.errors import KEY, ConfigError, Problem

FULL = "fp32"
_NAMES = {"float32": FULL, "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}


def precisions(args: Any, network: Any, eval_precision: str | None) -> dict[str, str]:
    """Return the `precision` of training and the `eval_precision`: `bf16`, `fp16`, `tf32`, `fp32`, or `fp64`.

    Args:
        args: `TrainingArguments`, created after the hardware has set up torch.
        network: Model, whose weights decide if there is no autocast.
        eval_precision: `fp32` for evaluation without autocast, or None for the precision of training.

    Raises:
        ConfigError: If evaluation in fp32 is requested and the weights themselves have fewer bits.
    """
    import torch

    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
    name = _NAMES.get(str(dtype).removeprefix("torch."), str(dtype).removeprefix("torch."))
    if eval_precision and (name != FULL or getattr(network, "is_quantized", False)):
        actual = "quantized weights" if name == FULL else f"weights in {name}"
        hint = f"set {KEY}=null" if name == FULL else f"set model.dtype=float32, or {KEY}=null"
        text = f"{KEY}={eval_precision} needs weights in fp32, but the model has {actual}"
        raise ConfigError(Problem("hardware.eval_precision", text, hint))
    training = "bf16" if args.bf16 else "fp16" if args.fp16 else name
    if training == FULL and torch.backends.fp32_precision == "tf32":
        training = "tf32"
    return {"precision": training, "eval_precision": eval_precision or training}


@contextmanager
def full_precision(model: Any) -> Iterator[None]:
    """Run a model without TF32, and without the autocast that accelerate has wrapped around its `forward`."""
    import torch

    matmul, forward = torch.backends.fp32_precision, vars(model).get("forward")
    original = vars(model).get("_original_forward")  # accelerate sets it if it wraps `forward`
    torch.backends.fp32_precision = "ieee"
    if original is not None:
        model.forward = original
    try:
        yield
    finally:
        torch.backends.fp32_precision = matmul
        if original is not None:
            model.forward = forward
