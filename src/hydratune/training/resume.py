"""Choice of the checkpoint that a run resumes from: the newest valid one of the same training."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.config.optimization import NEUTRAL
from hydratune.data.cache import source_hash, table_hash, tokenizer_hash
from hydratune.training.warm_cache import key_of
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import CHECKPOINTS, METRICS, write_json
from hydratune.utils.provenance import text_hash
from hydratune.utils.stored_files import StoredFileError, parse_stored, read_regular

if TYPE_CHECKING:
    from torch import nn

    from hydratune.tasks.base import EncodedData

log = logging.getLogger(__name__)

_STATEFUL = ("layer_decay", "head_lr_multiplier", "groups", "averaging")  # settings that determine saved states


def checkpoint_fingerprint(
    cfg: DictConfig, rows: Any, encoded: EncodedData, processor: Any, network: nn.Module
) -> dict[str, str]:
    """Return the values that a checkpoint must share with a run that resumes from it, by names for the user.

    They include everything that gives inputs and outputs of the model their meaning. With another order of labels or
    another tokenizer, training would continue without an error, but the resulting model would be useless.

    Args:
        cfg: Config of the run.
        rows: Training rows of the dataset.
        encoded: Rows as inputs of the model, and arguments of its head, such as the label names.
        processor: Tokenizer or image processor.
        network: Model with its adapter.
    """
    from hydratune.training.trainer.checkpoint_files import ENCODING

    shapes = {name: str(tuple(weight.shape)) for name, weight in network.named_parameters()}
    # The optimizer state is divided by group, and a checkpoint without an average cannot continue one.
    settings = {name: cfg.trainer.get(name, NEUTRAL[name]) for name in _STATEFUL}
    return {
        "network": text_hash(key_of(shapes)),
        "seed": str(cfg.seed),
        "training set": source_hash(rows),
        "list of labels": text_hash(key_of(encoded.head)),
        "tokenizer or image processor": _processor_hash(processor),
        ENCODING: encoded_hash(encoded.splits["train"]),
        "parameter grouping or averaging": text_hash(json.dumps(settings, default=str)),
    }


def encoded_hash(rows: Any) -> str:
    """Return a hash of rows as inputs of the model; of images, which are not encoded, the rows of the dataset have one.

    For a stream, it is a hash of the source and of the settings of the encoding. It is empty for other objects, which
    only a task of the user returns.
    """
    from datasets import Dataset, Image, IterableDataset

    if isinstance(rows, IterableDataset):
        return source_hash(rows)
    if not isinstance(rows, Dataset):
        return ""
    images = [name for name, feature in rows.features.items() if isinstance(feature, Image)]
    return table_hash(rows.remove_columns(images) if images else rows)


def _processor_hash(processor: Any) -> str:
    from transformers import PreTrainedTokenizerBase

    if isinstance(processor, PreTrainedTokenizerBase):
        return text_hash(f"{tokenizer_hash(processor)}\n{processor.chat_template}")
    return text_hash(key_of(processor.to_dict() if hasattr(processor, "to_dict") else {}))


def check_seed(cfg: DictConfig, directory: Path) -> None:
    """Compare the seed with that of a run's checkpoints, before anything is loaded.

    Raises:
        ConfigError: If all checkpoints that can be read were trained with another seed.
    """
    from hydratune.training.trainer.checkpoint_files import list_checkpoints, read

    seeds = {}
    for checkpoint in list_checkpoints(directory / CHECKPOINTS):
        with suppress(OSError, StoredFileError, KeyError):  # `latest_valid` reports the corrupt ones
            seeds[checkpoint.name] = read(checkpoint).lineage["seed"]
    if seeds and str(cfg.seed) not in seeds.values():
        name, seed = next(iter(seeds.items()))
        text = f"cannot resume with seed={cfg.seed}: {name} was trained with seed={seed}"
        raise ConfigError(Problem("seed", text, f"set seed={seed}, or start a new run"))


def resume_text(directory: Path | None) -> str:
    """Return which run a dry run would resume, and from which step; None stands for a new run."""
    from hydratune.training.trainer.checkpoint_files import find_damage, list_checkpoints, step_of

    if directory is None:
        return "one run"
    path = os.path.relpath(directory)
    if (directory / METRICS).is_file():
        return f"{path}: finished"
    for checkpoint in list_checkpoints(directory / CHECKPOINTS):
        if not find_damage(checkpoint):
            return f"would resume {path} from step {step_of(checkpoint):,}"
    return f"would start {path} again, which has no valid checkpoint"


def last_checkpoint(trainer: Any, belongs: Mapping[str, str]) -> str | None:
    """Return the checkpoint that an interrupted run resumes from; None for a new run.

    Skipped checkpoints are logged.

    Args:
        trainer: Trainer whose checkpoints are searched; those that it will write get the lineage.
        belongs: Lineage of the run.

    Raises:
        ConfigError: If there are valid checkpoints, but all have another lineage.
    """
    from hydratune.training.trainer.checkpoint_files import latest_valid, list_checkpoints
    from hydratune.training.trainer.checkpointing import CheckpointingMixin

    folder = Path(str(trainer.args.output_dir))
    trainer.lineage = belongs
    if isinstance(trainer, CheckpointingMixin):
        valid_checkpoint, skipped = latest_valid(folder, belongs)
    else:
        valid_checkpoint, skipped = None, []
        for checkpoint in list_checkpoints(folder):
            if not (damage := _damage(checkpoint)):
                valid_checkpoint = checkpoint
                break
            skipped.append(f"{checkpoint.name}: {damage}")
        _check_recorded(folder, valid_checkpoint, belongs)
    for message in skipped:
        log.warning("skipped %s", message)
    return str(valid_checkpoint) if valid_checkpoint else None


def _check_recorded(folder: Path, checkpoint: Path | None, belongs: Mapping[str, str]) -> None:
    """Raise ConfigError if a checkpoint of a Trainer of transformers belongs to another lineage, as far as recorded."""
    from hydratune.training.trainer.checkpoint_files import differing_names, lineage_error
    from hydratune.training.trainer.lineage_file import read_lineage

    recorded = read_lineage(folder) if checkpoint else None
    if recorded and checkpoint and (names := differing_names(recorded.lineage, belongs)):
        raise lineage_error(folder, f"{checkpoint.name} was trained with another {names}")


def _damage(checkpoint: Path) -> str | None:
    """Return why a Trainer of transformers cannot resume from a checkpoint; None if it can.

    It reads the path of the best checkpoint from the state, which is wrong after a move and may be someone else's. So
    this function replaces that path in the file.
    """
    from hydratune.training.trainer.checkpoint_files import PREFIX, STATE, find_reference

    if reference := find_reference(checkpoint):
        return reference
    try:
        state = parse_stored(read_regular(checkpoint / STATE), dict[str, Any])
    except (OSError, StoredFileError):
        return "it is incomplete"  # the state is the last file, and is written in place
    name = Path(str(state.get("best_model_checkpoint"))).name
    best = checkpoint.with_name(name)
    if not re.fullmatch(rf"{PREFIX}\d+", name) or not best.is_dir() or find_reference(best):
        changes = dict.fromkeys(("best_model_checkpoint", "best_metric", "best_global_step"))
    else:
        changes = {"best_model_checkpoint": str(best)}
    if any(state.get(key) != value for key, value in changes.items()):
        write_json(checkpoint / STATE, {**state, **changes})
    return None
