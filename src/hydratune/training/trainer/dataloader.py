"""Row order of a DataLoader and random numbers of its workers; both depend only on the seed and the epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hydratune.utils import signals
from hydratune.utils.rng import seeded_generator


def seed_workers(loader: Any, seed: int) -> None:
    """Give a DataLoader its own generator, from which it draws the seeds of its workers.

    Without one, each iterator draws from torch's global generator. The number of iterators depends on where a run was
    interrupted, since persistent workers create theirs once. The dropout of a resumed run would then differ.
    """
    loader = getattr(loader, "base_dataloader", loader)  # accelerate wraps the DataLoader of torch
    loader.generator = seeded_generator(seed, 0)


def protect_workers(loader: Any) -> None:
    """Make the workers of a DataLoader survive a signal that is sent to all processes of a job.

    If a worker ends, the training process fails before it can save a checkpoint.
    """
    loader = getattr(loader, "base_dataloader", loader)
    if loader.num_workers:
        loader.worker_init_fn = _WorkerInit(loader.worker_init_fn, signals.training_flag())


@dataclass(frozen=True)
class _WorkerInit:
    """`worker_init_fn` of a DataLoader, as a class for workers that are not forked.

    Args:
        before: Function that the DataLoader had before.
        training: Flag of the training process.
    """

    before: Callable[[int], None] | None
    training: Any

    def __call__(self, worker_id: int) -> None:
        """Initialize a worker, inside its process."""
        signals.install_in_data_worker(self.training)
        if self.before:
            self.before(worker_id)


def set_epoch(loader: Any, epoch: int, seed: int) -> None:
    """Set the epoch of the next iteration over a DataLoader, in its samplers and in the seeds of its workers.

    After a resume, `DataLoaderShard.set_epoch` and Trainer stop one wrapper short of a sampler that several processes
    share: `SkipBatchSampler(BatchSamplerShard(BatchSampler(sampler)))`.

    Args:
        loader: DataLoader of torch or of accelerate.
        epoch: Epoch, counted from 0.
        seed: Seed of the run.
    """
    # Follow the wrappers inward: DataLoader, batch samplers, sampler.
    layer = loader
    while layer is not None:
        if hasattr(layer, "set_epoch"):
            layer.set_epoch(epoch)
        inner = getattr(layer, "batch_sampler", None)
        layer = getattr(layer, "sampler", None) if inner is None else inner
    if (generator := getattr(loader, "generator", None)) is not None:
        generator.set_state(seeded_generator(seed, epoch).get_state())
