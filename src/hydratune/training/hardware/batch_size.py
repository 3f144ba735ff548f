"""Search for the largest micro-batch that fits into memory, before training starts.

A step over accumulated micro-batches equals a step over the whole batch (see
`hydratune.training.trainer.accumulation`). The result of training therefore does not depend on the machine. Batch norm
is an exception, because it normalizes over a micro-batch. The search does not change weights, gradients, or random
numbers. A run whose batch fits is bit-exact with a run without the search.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.rng import random_state, set_random_state
from hydratune.utils.stored_files import read_regular

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

KEY = "trainer.args.per_device_train_batch_size"
_GB = 10**9
_USABLE = 0.8  # share of CPU memory; exceeding it kills the process, and evaluation and the system need some
CERTAIN = 0.5  # share of memory up to which an estimate suffices, without a trial
_BACKWARD = 1.5  # memory of both passes, relative to the memory that the forward pass keeps


def fit_batch_size(trainer: Trainer, memory: int | None, checkpoint: str | None = None) -> list[str]:
    """Split the batch of a Trainer into micro-batches that fit into memory.

    Args:
        trainer: Trainer that has not trained yet.
        memory: Bytes that the process may still use; None if unknown. GPU memory is tested by trial.
        checkpoint: Directory of the checkpoint to resume from. Its micro-batch size is used if it still fits.

    Returns:
        Messages for the user; empty if the batch was not split.

    Raises:
        ConfigError: If not even one row fits.
    """
    if not _can_split(trainer):
        return []
    args = trainer.args
    batch_size = args.per_device_train_batch_size
    with _untouched(trainer):
        rows = longest_rows(trainer)
        fits = fitting_estimate(trainer, rows, memory) if args.device.type == "cpu" else _trial(trainer, rows)
        size = largest_divisor_that_fits(batch_size, _parts_of(checkpoint) or batch_size, fits)
    if args.world_size > 1:  # every process uses the size that fits into the smallest memory
        import torch

        size = int(trainer.accelerator.gather(torch.tensor([size], device=args.device)).min())
    if not size:
        raise ConfigError(_too_large(rows, memory if args.device.type == "cpu" else None))
    if size == batch_size:
        return []
    args.per_device_train_batch_size = size
    args.gradient_accumulation_steps *= batch_size // size
    trainer._train_batch_size = args.train_batch_size
    return [f"batches of {batch_size} split into micro-batches of {size} (memory)"]


def largest_divisor_that_fits(whole: int, most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest divisor of `whole`, up to `most`, that fits; 0 if none fits."""
    sizes = (size for size in range(most, 0, -1) if whole % size == 0)
    return next((size for size in sizes if fits(size)), 0)


def _can_split(trainer: Trainer) -> bool:
    """Return whether micro-batches make the same step as the whole batch, and the model can be tested in place."""
    from transformers.trainer_utils import has_length

    from hydratune.training.trainer.accumulation import GradientAccumulationMixin

    args = trainer.args
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled or trainer.is_model_parallel
    has_known_length = trainer.train_dataset is not None and has_length(trainer.train_dataset)
    return isinstance(trainer, GradientAccumulationMixin) and has_known_length and not sharded and args.n_gpu < 2


def _parts_of(checkpoint: str | None) -> int | None:
    """Return the micro-batch size that a checkpoint was trained with; None without a checkpoint."""
    if checkpoint is None:
        return None
    state = json.loads(read_regular(Path(checkpoint) / "trainer_state.json"))
    return state.get("train_batch_size")


@contextmanager
def _untouched(trainer: Trainer) -> Iterator[None]:
    """Restore the model's state and the random numbers after the block."""
    network: Any = trainer.model
    rng_state, was_training = random_state(), network.training
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}  # e.g. of batch norm
    _checkpoint_activations(trainer)
    network.train()
    try:
        yield
    finally:
        network.zero_grad(set_to_none=True)
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        network.train(was_training)
        set_random_state(rng_state)


def _checkpoint_activations(trainer: Trainer) -> None:
    """Turn on activation checkpointing if Trainer is asked to; it will do so again later."""
    args: Any = trainer.args
    if args.activation_checkpointing and hasattr(trainer.model, "activation_checkpointing_enable"):
        options = dict(args.activation_checkpointing_kwargs or {})
        layer_options = {"every_n_layers": options.pop("every_n_layers", 1), "offload": options.pop("offload", False)}
        trainer.model.activation_checkpointing_enable(activation_checkpointing_kwargs=options or None, **layer_options)


def longest_rows(trainer: Trainer) -> list[Any]:
    """Return the row with the most tokens, and that with the most labels if it differs: they set a batch's shape."""
    from hydratune.training.trainer.sampler import lengths

    data: Any = trainer.train_dataset
    names = getattr(trainer.processing_class, "model_input_names", ["input_ids"])
    positions = set()
    for name in (names[0], "labels"):
        if row_lengths := lengths(data, name):
            positions.add(max(range(len(row_lengths)), key=row_lengths.__getitem__))
    rows = trainer._remove_unused_columns(data) if hasattr(data, "remove_columns") else data
    return [rows[position] for position in sorted(positions or {0})]


def _loss(trainer: Trainer, rows: list[Any], size: int) -> torch.Tensor:
    """Return the loss of a batch of `size` rows, all of them as long as the longest."""
    batch = trainer.data_collator(list(islice(cycle(rows), size)))
    with trainer.accelerator.autocast():
        loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    assert not isinstance(loss, tuple)
    return loss


def _trial(trainer: Trainer, rows: list[Any]) -> Callable[[int], bool]:
    """Return a function that tests whether a micro-batch of a size goes forward and backward.

    The test reserves the memory that the optimizer will need.
    """
    import torch

    network: Any = trainer.model
    needed = _optimizer_bytes(trainer)

    def fits(size: int) -> bool:
        try:
            reserved = torch.empty(needed, dtype=torch.uint8, device=trainer.args.device)
            _loss(trainer, rows, size).backward()
            del reserved
        except (RuntimeError, MemoryError) as error:
            if not is_oom(error):
                raise
            return False
        finally:
            network.zero_grad(set_to_none=True)
            gc.collect()  # release what an exception still holds
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
        return True

    return fits


def is_oom(error: Exception) -> bool:
    """Return whether an error reports that memory ran out."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error)


def fitting_estimate(trainer: Trainer, rows: list[Any], memory: int | None) -> Callable[[int], bool]:
    """Return a function that estimates whether a micro-batch of a size fits, and tests only close cases.

    The estimate extrapolates from the bytes that the forward pass of a few rows keeps.
    """
    if memory is None:
        return lambda size: True  # noqa: ARG005
    sample_size = max(2, len(rows))  # batch norm rejects a single row
    fits_in_trial = _trial(trainer, rows)
    weight_bytes = sum(p.numel() * p.element_size() for p in trainer.model.parameters() if p.requires_grad)
    fixed_bytes = weight_bytes + _optimizer_bytes(trainer)  # a gradient is as large as its weight
    try:
        sample_bytes = kept_bytes(trainer, rows, sample_size)
        max_row_bytes = sample_bytes / sample_size  # per row; some of it does not depend on the number of rows
        if fixed_bytes + _BACKWARD * max_row_bytes * trainer.args.per_device_train_batch_size <= CERTAIN * memory:
            return lambda size: True  # noqa: ARG005
        # A second size separates the bytes per row from those that do not depend on the rows.
        row_bytes = (kept_bytes(trainer, rows, 2 * sample_size) - sample_bytes) / sample_size
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        return fits_in_trial
    fixed_bytes += sample_bytes - sample_size * row_bytes

    def fits(size: int) -> bool:
        needed_bytes = fixed_bytes + _BACKWARD * row_bytes * size
        return needed_bytes <= CERTAIN * memory or (needed_bytes <= _USABLE * memory and fits_in_trial(size))

    return fits


def kept_bytes(trainer: Trainer, rows: list[Any], size: int) -> int:
    """Return the bytes, without weights, that the forward pass of `size` rows keeps for the backward pass."""
    from torch.autograd.graph import saved_tensors_hooks

    weight_pointers = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    storage_bytes: dict[int, int] = {}

    def look(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weight_pointers:
            storage_bytes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would form a cycle with the graph and leak the model

    with saved_tensors_hooks(look, lambda tensor: tensor):
        loss = _loss(trainer, rows, size)
    del loss  # it held all tensors until here, so no address was reused
    return sum(storage_bytes.values())


def _optimizer_bytes(trainer: Trainer) -> int:
    """Return the bytes of AdamW's two moments per trainable parameter, and of its average, if there is one.

    Other optimizers need less.
    """
    average_bytes = 4 if getattr(trainer, "averages_steps", False) else 0  # in float32
    trainable = [p for p in trainer.model.parameters() if p.requires_grad]
    return sum(p.numel() * (2 * p.element_size() + average_bytes) for p in trainable)


def _too_large(rows: list[Any], memory: int | None) -> Problem:
    tokens = max((len(row["input_ids"]) for row in rows if "input_ids" in row), default=0)
    memory_text = f"{memory / _GB:.2g} GB" if memory is not None else "the GPU's memory"
    row, shorter = (f"a row of {tokens:,} tokens", "lower task.max_length, ") if tokens else ("a row", "")
    hint = f"{shorter}set trainer.args.activation_checkpointing=true, or use a smaller model"
    return Problem(KEY, f"training on {row} does not fit into {memory_text}, even with a micro-batch size of 1", hint)
