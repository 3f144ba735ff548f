"""Whether a run that is cut off and goes on ends with the same bits, and what keeps it from that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Trainer

EXACT = "exact"  # the tag of a run
# Code whose collators and callbacks draw and remember nothing that a checkpoint has not.
_KNOWN = ("hydratune.", "transformers.")


def exactness(trainer: Trainer) -> str:
    """`yes`, or `no, because ...` with all reasons."""
    reasons = list(_obstacles(trainer))
    return f"no, because {'; '.join(reasons)}" if reasons else "yes"


def _obstacles(trainer: Any) -> Iterator[str]:
    import torch
    from transformers.trainer_callback import ExportableState
    from transformers.trainer_utils import has_length

    from hydratune.training.saving import SavingTrainer

    args, collator, callbacks = trainer.args, trainer.data_collator, trainer.callback_handler.callbacks
    if not isinstance(trainer, SavingTrainer):
        yield f"{type(trainer).__name__} forgets some of what it goes on from (trainer._target_)"
    if not has_length(trainer.train_dataset):
        yield "a stream begins at another row (dataset.streaming)"
    if args.device.type != "cpu" and not torch.are_deterministic_algorithms_enabled():
        yield "kernels of a GPU add in an order of their own (hardware.deterministic)"
    if args.save_only_model:
        yield "no checkpoint has the optimizer (trainer.args.save_only_model)"
    if not _is_known(collator) or getattr(collator, "mlm", False):
        yield f"{_name(collator)} may draw at random (task)"
    for callback in callbacks:
        if isinstance(callback, ExportableState) and not args.restore_callback_states_from_checkpoint:
            yield f"{_name(callback)} begins anew (trainer.args.restore_callback_states_from_checkpoint)"
        if not isinstance(callback, ExportableState) and not _is_known(callback) and vars(callback):
            yield f"no checkpoint has what {_name(callback)} remembers, which is no ExportableState (trainer.callbacks)"


def _is_known(one: Any) -> bool:
    return str(one.__module__).startswith(_KNOWN)


def _name(one: Any) -> str:
    return str(getattr(one, "__name__", type(one).__name__))
