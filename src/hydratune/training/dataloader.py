"""The order in which a DataLoader reads rows, and the random numbers of its workers: both by seed and epoch alone."""

from __future__ import annotations

from typing import Any

from hydratune.training.sampler import seeded_generator


def seed_workers(loader: Any, seed: int) -> None:
    """Gives a DataLoader a generator of its own, from which it draws the seeds of its workers.

    Without one, each iterator draws from torch's global generator. How many iterators a run makes depends on where it
    was interrupted (persistent workers make theirs once), so that the dropout of a resumed run would differ.
    """
    loader = getattr(loader, "base_dataloader", loader)  # accelerate wraps torch's
    loader.generator = seeded_generator(seed, 0)


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
        generator.set_state(seeded_generator(seed, epoch).get_state())
