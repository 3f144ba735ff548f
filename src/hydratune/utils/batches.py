"""Sizes of batches that follow from the training arguments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments


def effective_batch_size(args: TrainingArguments) -> int:
    """Return the number of rows per optimizer step, over all processes and accumulated batches."""
    return int(args.train_batch_size * args.gradient_accumulation_steps * args.world_size)


def optimizer_steps(args: TrainingArguments, rows: int) -> tuple[int, int]:
    """Return the optimizer steps per epoch and in total for a number of training rows."""
    per_batch = args.train_batch_size * args.world_size
    batches = rows // per_batch if args.dataloader_drop_last else math.ceil(rows / per_batch)
    per_epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
    return per_epoch, args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
