"""Sizes of batches that follow from the training arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments


def effective_batch_size(args: TrainingArguments) -> int:
    """Return the number of rows per optimizer step, over all processes and accumulated batches."""
    return int(args.train_batch_size * args.gradient_accumulation_steps * args.world_size)
