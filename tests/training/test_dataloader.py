"""The order of rows and the seeds of workers depend on the seed and the epoch alone, however a run got there."""

import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import BatchSampler, DataLoader

from hydratune.training.trainer.dataloader import seed_workers, set_epoch
from hydratune.training.trainer.sampler import LengthGroupedSampler

ROWS = list(range(64))


def shard(process, processes, skipped=0):
    """The loader of one of several processes, in batches of 4 rows, as Trainer has it after a resume."""
    sampler = LengthGroupedSampler([1 + row % 7 for row in ROWS], 4, seed=3)
    plain = DataLoader(ROWS, batch_sampler=BatchSampler(sampler, 4, drop_last=False), collate_fn=list)
    loader = prepare_data_loader(plain, num_processes=processes, process_index=process, put_on_device=False)
    return skip_first_batches(loader, skipped) if skipped else loader


def read(loader, epoch):
    """The batches of an epoch."""
    set_epoch(loader, epoch, seed=3)
    return list(loader)


@pytest.mark.parametrize("processes", [1, 2])
def test_set_epoch_reaches_the_sampler_after_a_resume(processes):
    """The rest of epoch 1 is what an uninterrupted run reads of it, and not that of epoch 0."""
    for process in range(processes):
        whole = read(shard(process, processes), 1)
        assert read(shard(process, processes, skipped=3), 1) == whole[3:]
        assert read(shard(process, processes), 0) != whole


def test_set_epoch_reads_every_row_once():
    """Two processes that resume within epoch 1 read all rows of it, none twice."""
    before = [batch for process in (0, 1) for batch in read(shard(process, 2), 1)[:3]]
    after = [batch for process in (0, 1) for batch in read(shard(process, 2, skipped=3), 1)]
    assert sorted(row for batch in before + after for row in batch) == ROWS


@pytest.mark.parametrize("workers", [0, 2])
def test_seed_workers_leaves_the_global_generator_alone(workers):
    """An iterator over a loader changes no random number of the training, in the main process."""
    loader = DataLoader(ROWS, num_workers=workers, multiprocessing_context="fork" if workers else None)
    seed_workers(loader, seed=3)
    before = torch.get_rng_state()
    set_epoch(loader, 1, seed=3)
    iter(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_set_epoch_seeds_workers_by_epoch():
    """The seed that workers get in an epoch does not depend on how many iterators there were before."""
    loader, resumed = (prepare_data_loader(DataLoader(ROWS), put_on_device=False) for _ in range(2))
    for one in (loader, resumed):
        seed_workers(one, seed=3)
    seeds = []
    for epoch in range(3):
        set_epoch(loader, epoch, seed=3)
        seeds.append(iter(loader.base_dataloader)._base_seed)
    set_epoch(resumed, 2, seed=3)
    assert iter(skip_first_batches(resumed, 1).base_dataloader)._base_seed == seeds[2]
    assert len(set(seeds)) == 3
