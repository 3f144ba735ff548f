"""Random masks that depend on the seed, the epoch, and the example alone; in evaluation on the example alone."""

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
    """Masks each example with a generator of its own, then pads the batch to its longest row.

    The masks do not depend on the DataLoader worker, the batch, or the order of rows, so that a resumed run sees those
    of the uninterrupted one. Masks of training depend on the seed, the epoch, and the number of the example. Masks of
    evaluation depend on the tokens of the row alone: runs with other seeds are compared on the same masks.
    At least one token of each example is masked: a batch without any would have no loss.

    Rows have `input_ids`, `special_tokens_mask`, for whole words `offset_mapping`, and `example`: a number from 0 for
    training, -1 for evaluation.

    Args:
        masks: Upstream's collator, which draws the masks.
        seed: Seed of the training masks.
    """

    def __init__(self, masks: DataCollatorForLanguageModeling, seed: int) -> None:
        self._masks, self._seed = masks, seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # data workers see changes too

    def set_epoch(self, epoch: int) -> None:
        """Selects the training masks of an epoch."""
        self._epoch.fill_(epoch)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels` (batch, seq) int64; labels are -100 where nothing is masked."""
        masked = [self._mask(row) for row in rows]
        tokenizer = self._masks.tokenizer
        batch = tokenizer.pad({"input_ids": [ids.tolist() for ids, _ in masked]}, return_tensors="pt")
        labels = torch.full_like(batch["input_ids"], -100)
        for i, (ids, wanted) in enumerate(masked):
            start = 0 if tokenizer.padding_side == "right" else labels.shape[1] - len(ids)
            labels[i, start : start + len(ids)] = wanted
        return {**batch, "labels": labels}

    def _mask(self, row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """(seq,) ids with masks, and (seq,) labels."""
        is_evaluation = row["example"] < 0
        numbers = row["input_ids"] if is_evaluation else (self._seed, int(self._epoch), row["example"])
        generator = seeded_generator(*numbers)
        ids, special = torch.tensor([row["input_ids"]]), torch.tensor([row["special_tokens_mask"]])
        offsets = torch.tensor([row["offset_mapping"]]) if "offset_mapping" in row else None
        self._masks.generator = generator
        masked, labels = self._masks.torch_mask_tokens(ids.clone(), special, offset_mapping=offsets)
        if not (labels != -100).any() and not special.all():
            free = (special[0] == 0).nonzero()[:, 0]
            start = end = int(free[torch.randint(len(free), (1,), generator=generator)])
            if offsets is not None:  # the whole word: pieces that touch
                start, end = _touching(row["offset_mapping"], row["special_tokens_mask"], start)
            labels[0, start : end + 1] = ids[0, start : end + 1]
            masked[0, start : end + 1] = self._masks.tokenizer.mask_token_id
        return masked[0], labels[0]


def _touching(offsets: list[list[int]], special: list[int], place: int) -> tuple[int, int]:
    """The first and the last token of the word that a token is of."""
    start = end = place
    while start > 0 and not special[start - 1] and offsets[start - 1][1] == offsets[start][0]:
        start -= 1
    while end + 1 < len(special) and not special[end + 1] and offsets[end + 1][0] == offsets[end][1]:
        end += 1
    return start, end


class SetEpochCallback(TrainerCallback):
    """Tells a collator which epoch begins, before its first batch is made."""

    def __init__(self, collator: MaskingCollator) -> None:
        self._collator = collator

    def on_epoch_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 (upstream's signature)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """A run that is resumed within an epoch, at 1.4 say, is in epoch 1."""
        self._collator.set_epoch(math.floor((state.epoch or 0) + 1e-6))
