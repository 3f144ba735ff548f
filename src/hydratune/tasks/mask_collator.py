"""Random masks that depend only on the seed, the epoch, and the example; in evaluation, only on the example."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import (
    DataCollatorForLanguageModeling,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hydratune.utils.rng import seeded_generator


class MaskingCollator:
    """Collator that masks each example with its own random generator, then pads the batch to its longest row.

    The masks do not depend on the DataLoader worker, the batch, or the order of rows. A resumed run therefore has the
    masks of the uninterrupted one. Training masks depend on the seed, the epoch, and the number of the example.
    Evaluation masks depend only on the tokens of the row, so that runs with other seeds are compared on the same masks.
    At least one token of each example is masked, since a batch without masked tokens would have no loss.

    Rows have `input_ids`, `special_tokens_mask`, `offset_mapping` for whole words, and `example`: a number from 0 for
    training, -1 for evaluation.

    Args:
        masks: Upstream's collator, which draws the masks.
        seed: Seed of the training masks.
    """

    def __init__(self, masks: DataCollatorForLanguageModeling, seed: int) -> None:
        self._masks, self._seed = masks, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # DataLoader workers see changes too

    def set_epoch(self, epoch: int) -> None:
        """Select the training masks of an epoch."""
        self._epoch.fill_(epoch)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask`, and `labels` (batch, seq) int64; labels of unmasked tokens are -100."""
        masked = [self._mask(row) for row in rows]
        tokenizer = self._masks.tokenizer
        batch = tokenizer.pad({"input_ids": [ids.tolist() for ids, _ in masked]}, return_tensors="pt")
        labels = torch.full_like(batch["input_ids"], -100)
        for i, (ids, row_labels) in enumerate(masked):
            start = 0 if tokenizer.padding_side == "right" else labels.shape[1] - len(ids)
            labels[i, start : start + len(ids)] = row_labels
        return {**batch, "labels": labels}

    def _mask(self, row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (seq,) IDs with masks, and (seq,) labels."""
        is_evaluation = row["example"] < 0
        seed_values = row["input_ids"] if is_evaluation else (self._seed, int(self._epoch), row["example"])
        generator = seeded_generator(*seed_values)
        ids, special = torch.tensor([row["input_ids"]]), torch.tensor([row["special_tokens_mask"]])
        offsets = torch.tensor([row["offset_mapping"]]) if "offset_mapping" in row else None
        self._masks.generator = generator
        masked, labels = self._masks.torch_mask_tokens(ids.clone(), special, offset_mapping=offsets)
        if not (labels != -100).any() and not special.all():
            maskable = (special[0] == 0).nonzero()[:, 0]
            start = end = int(maskable[torch.randint(len(maskable), (1,), generator=generator)])
            if offsets is not None:  # the whole word: tokens without a gap between them
                start, end = _touching(row["offset_mapping"], row["special_tokens_mask"], start)
            labels[0, start : end + 1] = ids[0, start : end + 1]
            masked[0, start : end + 1] = self._masks.tokenizer.mask_token_id
        return masked[0], labels[0]


def _touching(offsets: list[list[int]], special: list[int], position: int) -> tuple[int, int]:
    """Return the first and the last token of the word that contains a token."""
    start = end = position
    while start > 0 and not special[start - 1] and offsets[start - 1][1] == offsets[start][0]:
        start -= 1
    while end + 1 < len(special) and not special[end + 1] and offsets[end + 1][0] == offsets[end][1]:
        end += 1
    return start, end


class SetEpochCallback(TrainerCallback):
    """Callback that sets the epoch of a collator before the first batch of the epoch."""

    def __init__(self, collator: MaskingCollator) -> None:
        self._collator = collator

    def on_epoch_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 (upstream's signature)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Set the epoch; a run that resumes within an epoch, e.g. at 1.4, is in epoch 1."""
        self._collator.set_epoch(math.floor((state.epoch or 0) + 1e-6))
