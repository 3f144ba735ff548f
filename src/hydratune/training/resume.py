"""Choice of the checkpoint that a run resumes from: the newest valid one of the same training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydratune.data.cache import source_hash
from hydratune.training.warm_cache import key_of
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import CHECKPOINTS
from hydratune.utils.provenance import text_hash

if TYPE_CHECKING:
    from torch import nn
    from transformers import Trainer

log = logging.getLogger(__name__)


def checkpoint_fingerprint(cfg: DictConfig, rows: Any, network: nn.Module) -> dict[str, str]:
    """Return the values that a checkpoint must share with a run that resumes from it, by names for the user."""
    shapes = {name: str(tuple(weight.shape)) for name, weight in network.named_parameters()}
    return {"network": text_hash(key_of(shapes)), "seed": str(cfg.seed), "training set": source_hash(rows)}


def check_seed(cfg: DictConfig, directory: Path) -> None:
    """Compare the seed with that of a run's checkpoints, before anything is loaded.

    Raises:
        ConfigError: If all checkpoints that can be read were trained with another seed.
    """
    from hydratune.training.trainer.checkpoint_files import list_checkpoints, read

    seeds = {}
    for checkpoint in list_checkpoints(directory / CHECKPOINTS):
        with suppress(OSError, ValueError, KeyError, TypeError):  # `latest_valid` reports the corrupt ones
            seeds[checkpoint.name] = str(read(checkpoint)["lineage"]["seed"])
    if seeds and str(cfg.seed) not in seeds.values():
        name, seed = next(iter(seeds.items()))
        text = f"cannot resume with seed={cfg.seed}: {name} was trained with seed={seed}"
        raise ConfigError(Problem("seed", text, f"set seed={seed}, or start a new run"))


def last_checkpoint(trainer: Trainer, belongs: Mapping[str, str]) -> str | None:
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
    if isinstance(trainer, CheckpointingMixin):
        trainer.lineage = belongs
        valid_checkpoint, skipped = latest_valid(folder, belongs)
    else:
        valid_checkpoint, skipped = None, []
        for checkpoint in list_checkpoints(folder):
            if _has_state(checkpoint):
                valid_checkpoint = checkpoint
                break
            skipped.append(f"{checkpoint.name}: it is incomplete")
    for message in skipped:
        log.warning("skipped %s", message)
    return str(valid_checkpoint) if valid_checkpoint else None


def _has_state(checkpoint: Path) -> bool:
    """Return whether Trainer has written its state, which is the last file and is written in place."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
