"""The order in which a DataLoader reads rows, and the random numbers of its workers: both by seed and epoch alone."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch that no other pair of seed and epoch has, but by a chance of 2^-63."""
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes 63 bits


def seed_workers(loader: Any, seed: int) -> None:
    """Gives a DataLoader a generator of its own, from which it draws the seeds of its workers.

    Without one, each iterator draws from torch's global generator. How many iterators a run makes depends on where it
    was interrupted (persistent workers make theirs once), so that the dropout of a resumed run would differ.
    """
    generator = torch.Generator().manual_seed(epoch_seed(seed, 0))
    getattr(loader, "base_dataloader", loader).generator = generator  # accelerate wraps torch's DataLoader


def set_epoch(loader: Any, epoch: int, seed: int) -> None:
    """Makes the next iteration over a DataLoader that of `epoch`, in its samplers and in the seeds of its workers.

    `DataLoaderShard.set_epoch` and Trainer stop one wrapper short of a sampler that several processes share after a
    resume: `SkipBatchSampler(BatchSamplerShard(BatchSampler(sampler)))`.

    Args:
        loader: One of torch's or of accelerate's.
        epoch: From 0.
        seed: Of the run.
    """
    layer = loader
    while layer is not None:
        if hasattr(layer, "set_epoch"):
            layer.set_epoch(epoch)
        inner = getattr(layer, "batch_sampler", None)
        layer = getattr(layer, "sampler", None) if inner is None else inner
    if (generator := getattr(loader, "generator", None)) is not None:
        generator.manual_seed(epoch_seed(seed, epoch))
