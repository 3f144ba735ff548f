"""Private methods of Hugging Face's `Trainer` that our Trainer overrides.

Private methods may change in any release of transformers. A test compares their source text with the digests below. If
it fails, read the change, adapt the override, and update the digest and `CHECKED_WITH`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

CHECKED_WITH = "5.23.0"  # version of transformers


class Override(NamedTuple):
    """Overridden private method.

    Args:
        reason: Why it is overridden.
        digest: Digest of the source text of upstream's method that the override was checked against.
    """

    reason: str
    digest: str


OVERRIDES = {
    "_determine_best_metric": Override(
        "The last point after an evaluation, and before its checkpoint, at which a NaN loss can be detected.",
        "6aec24273ce2da96",
    ),
    "_finalize_training": Override(
        "The training loss is the mean over all processes; upstream adds that of rank 0 alone.",
        "f5fd9dc629c98a72",
    ),
    "_get_dataloader": Override(
        "`dataloader_drop_last` applies to training only; DataLoader workers are seeded by seed and epoch.",
        "f3756cba92979274",
    ),
    "_get_eval_sampler": Override(
        "Evaluation reads rows in their order, so that predictions belong to rows; upstream may group them by length.",
        "06f56a5400859c31",
    ),
    "_get_grad_norm": Override(
        "The last point before the optimizer at which a NaN can be detected.",
        "24f67e25bdc0e4ab",
    ),
    "_get_learning_rate": Override(
        "Logs the learning rate without the multiplier of the first parameter group.",
        "d486e7ee5a43b5fc",
    ),
    "_get_num_items_in_batch": Override(
        "Models take the mean over their own micro-batch; many of them ignore the number or divide by it twice.",
        "9d210c2060a3a521",
    ),
    "_get_output_dir": Override(
        "A checkpoint is written to another directory and then moved, so that an incomplete one is never seen.",
        "0abdbe9c400da4ab",
    ),
    "_get_train_sampler": Override(
        "The order of rows depends on the data seed and the epoch alone, so that a resumed run continues it.",
        "6fb502c7a7523b01",
    ),
    "_init_training_state": Override(
        "A resumed run does not evaluate the start again, and uses only best checkpoints that are valid.",
        "cfaa9620ace2afdc",
    ),
    "_load_best_model": Override(
        "Does not read the best weights if they are those in memory, or if nothing uses them.",
        "44241953e901de77",
    ),
    "_load_from_checkpoint": Override(
        "Reads weights by their names in the file, since upstream skips renamed ones, for example of ViT.",
        "e40df75e25ed6be4",
    ),
    "_load_optimizer_and_scheduler": Override(
        "A state that does not fit the model is one error, and not a traceback of torch.",
        "1d9ade6f2bd18b79",
    ),
    "_load_rng_state": Override(
        "Restores the running loss and the training time, which upstream keeps only in memory.",
        "fe1c26f358f27859",
    ),
    "_maybe_log_save_evaluate": Override(
        "An evaluation that a signal interrupts is recorded in a checkpoint, and repeated by the resumed run.",
        "e7ab059263d3c743",
    ),
    "_run_epoch": Override(
        "Seeds the sampler that several processes share after a resume; upstream stops one wrapper short of it.",
        "d6d01f090d581fb1",
    ),
    "_save_checkpoint": Override(
        "Atomic checkpoints with a manifest; the free disk space is checked before.",
        "3654e98b9d0c1810",
    ),
    "_set_signature_columns_if_needed": Override(
        "Weights of rows reach the loss; upstream drops all columns that the model does not take.",
        "72bb00616c684fa2",
    ),
}


def digest(method: Callable[..., Any]) -> str:
    """Return a digest of the source text of a method, without its line breaks and indentation."""
    return hashlib.sha256(" ".join(inspect.getsource(method).split()).encode()).hexdigest()[:16]
