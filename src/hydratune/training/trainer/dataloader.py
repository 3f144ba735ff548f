"""The order in which a DataLoader reads rows, and the random numbers of its workers: both by seed and epoch alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hydratune.utils import signals
from hydratune.utils.rng import seeded_generator


def seed_workers(loader: Any, seed: int) -> None:
    """Gives a DataLoader a generator of its own, from which it draws the seeds of its workers.

    Without one, each iterator draws from torch's global generator. How many iterators a run makes depends on where it
    was interrupted (persistent workers make theirs once), so that the dropout of a resumed run would differ.
    """
    loader = getattr(loader, "base_dataloader", loader)  # accelerate wraps torch's
    loader.generator = seeded_generator(seed, 0)


def protect_workers(loader: Any) -> None:
    """Makes the workers of a DataLoader survive a signal that is sent to all processes of a job.

    A worker that ends makes the training process fail, which would otherwise save a checkpoint.
    """
    loader = getattr(loader, "base_dataloader", loader)
    if loader.num_workers:
        loader.worker_init_fn = _WorkerInit(loader.worker_init_fn, signals.training_flag())


@dataclass(frozen=True)
class _WorkerInit:
    """The `worker_init_fn` of a DataLoader; a class, for workers that are not forked.

    Args:
        before: The function that the DataLoader had.
        training: The flag of the process that trains.
    """

    before: Callable[[int], None] | None
    training: Any

    def __call__(self, worker_id: int) -> None:
        """Runs in the worker."""
        signals.install_in_data_worker(self.training)
        if self.before:
            self.before(worker_id)


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
