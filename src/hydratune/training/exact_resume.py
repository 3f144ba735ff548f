"""Check whether a resume is bit-exact, and name the reasons if it is not."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist
from hydratune.config.composition import flat
from hydratune.config.optimization import NEUTRAL
from hydratune.data.cache import source_hash
from hydratune.data.eval_sets import sets_of
from hydratune.training.resume import encoded_hash
from hydratune.utils import provenance
from hydratune.utils.provenance import text_hash
from hydratune.utils.user_code import code_versions

if TYPE_CHECKING:
    from transformers import Trainer

log = logging.getLogger(__name__)

EXACT = "exact"  # tag of a run
# Code whose collators and callbacks use no randomness or state that a checkpoint lacks.
_KNOWN = ("hydratune.", "transformers.")
_NODES = ("task", "model", "adapter", "trainer")  # config nodes that determine what a run computes
_CODE = "code of "  # prefix of a condition: a package of the user, whose classes the config names
_PACKAGES = ("hydratune", "transformers", "torch", "accelerate")
# Prefixes of training arguments that change the scores of given weights on validation.
_SCORING = (
    *("metric_for_best_model", "greater_is_better", "label_smoothing_factor", "predict_with_generate", "generation_"),
    *("bf16", "fp16", "include_for_metrics"),
)
_TRAINING_ONLY = (*NEUTRAL, "on_nan", "max_skipped", "callbacks")  # settings of `trainer` that do not
_SAMPLED = 256  # values of each frozen parameter that are compared
# Training arguments that change neither the rows of a step nor its arithmetic, nor which weights are the best.
_NEUTRAL = (
    *("output_dir", "run_name", "report_to", "project", "trackio", "hub_", "push_to_hub", "disable_tqdm", "log"),
    *("do_", "save_total_limit", "save_on_each_node", "skip_memory_metrics", "resume_from_checkpoint", "local_rank"),
    *("ddp_timeout", "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_pin_memory"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "include_num_input_tokens_seen"),
)


def exactness(trainer: Trainer) -> str:
    """Return `yes`, or `no, because ...` with all reasons."""
    reasons = [*_obstacles(trainer), *getattr(trainer, "departures", ())]
    return f"no, because {'; '.join(reasons)}" if reasons else "yes"


def conditions(cfg: DictConfig, trainer: Any, splits: Mapping[str, Any], encoded: Mapping[str, Any]) -> dict[str, str]:
    """Return every condition besides the lineage that affects bit-exactness, by names for the user.

    Args:
        cfg: Config of the run.
        trainer: Trainer with final arguments: the hardware has divided batches, and chosen precision and kernels.
        splits: Rows of the dataset, by split.
        encoded: Rows as inputs of the model, by split.
    """
    import torch

    args = trainer.args
    plain: dict[str, Any] = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in _NODES}
    training_args = {name: value for name, value in args.to_dict().items() if not name.startswith(_NEUTRAL)}
    plain["trainer"]["args"] = training_args
    validation = [
        f"{name} {source_hash(splits[split])} {encoded_hash(encoded[split])}"
        for name, split in sets_of(splits, "validation").items()
    ]
    gpu = torch.cuda.get_device_name() if args.device.type == "cuda" else ""
    versions = provenance.versions()
    values = {
        **dict(flat(provenance.redact(plain))),
        "objective": cfg.objective,
        "validation set": text_hash("\n".join(validation))[:16],
        "frozen weights": _frozen_hash(trainer.model),
        **_model_settings(trainer.model),
        "hardware.nproc_per_node": args.world_size,
        "hardware.device": gpu or f"{args.device.type} {torch.backends.cpu.get_cpu_capability()}",
        "hardware.threads": torch.get_num_threads(),
        "hardware.precision": torch.backends.fp32_precision,
        "hardware.attn_implementation": getattr(getattr(trainer.model, "config", None), "_attn_implementation", None),
        "hardware.deterministic": torch.are_deterministic_algorithms_enabled(),
        "hardware.eval_precision": cfg.hardware.get("eval_precision"),
        "hardware.cpu_optimizations": cfg.hardware.get("cpu_optimizations"),
        **{name: versions.get(name) for name in _PACKAGES},
        **{f"{_CODE}{name}": code for name, code in code_versions(allowlist.user_allowed_targets(plain)).items()},
    }
    return {name: str(value) for name, value in values.items()}


def compare_conditions(trainer: Trainer, checkpoint: str | None, now: Mapping[str, str]) -> None:
    """Record in a Trainer the conditions of its training, and how they differ from those of its checkpoint.

    Checkpoints contain both. A run that was resumed under other conditions once is therefore never called exact again.
    """
    from hydratune.training.trainer import checkpoint_files
    from hydratune.training.trainer.checkpointing import CheckpointingMixin

    if not isinstance(trainer, CheckpointingMixin):
        _compare_recorded(trainer, checkpoint, now)
        return
    trainer.conditions = now
    if checkpoint is None:
        return
    manifest = checkpoint_files.read(Path(checkpoint))
    step = Path(checkpoint).name.removeprefix(checkpoint_files.PREFIX)
    saved_conditions = manifest.conditions
    names = _changed(saved_conditions, now)
    trainer.changed_scoring = _changed_scoring(saved_conditions, now)
    changes = [f"{name} changed from {saved_conditions.get(name)} to {now.get(name)} at step {step}" for name in names]
    if reason := trainer.best_is_lost(checkpoint):
        changes.append(f"the best weights until step {step} are lost ({reason})")
    trainer.departures = [*manifest.departures, *changes]


def _changed(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in saved.keys() | now.keys() if saved.get(name) != now.get(name))


def _changed_scoring(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the changed conditions that change scores.

    A key that only one of two configs of a model has is new in a version of transformers, and without effect.
    """
    return [
        name
        for name in _changed(saved, now)
        if _affects_scores(name)
        and (not name.startswith(("config.", "generation_config.")) or {name} <= saved.keys() & now.keys())
    ]


def _compare_recorded(trainer: Any, checkpoint: str | None, now: Mapping[str, str]) -> None:
    """Record the conditions of a Trainer of transformers, and remove scores that cannot be compared with later ones."""
    from hydratune.training.trainer import lineage_file

    folder = Path(str(trainer.args.output_dir))
    recorded = lineage_file.read_lineage(folder) if checkpoint else None
    changed = _changed_scoring(recorded.conditions, now) if recorded else []
    if changed and (best := lineage_file.forget_scores(Path(str(checkpoint)))):
        log.warning("skipped the best checkpoint so far (step %s): %s", best, lineage_file.forgotten_text(changed))
    if trainer.args.should_save:
        lineage_file.write_lineage(folder, lineage_file.RecordedLineage(trainer.lineage, now))


def _affects_scores(condition: str) -> bool:
    """Return whether given weights have other scores on validation if a condition changes, beyond rounding errors."""
    node, _, name = condition.partition(".")
    if condition.startswith("trainer.args."):
        return condition.removeprefix("trainer.args.").startswith(_SCORING)
    if node == "trainer":
        return not name.startswith(_TRAINING_ONLY)
    if node == "hardware":
        return condition == "hardware.eval_precision"
    return condition not in _PACKAGES and not condition.startswith(_CODE)


def _model_settings(network: Any) -> dict[str, Any]:
    """Return the settings in the model's config and in its generation config, which the base checkpoint may set.

    The lineage has the label names, and other conditions have the package and the attention implementation.
    """
    settings: dict[str, Any] = {}
    for node in ("config", "generation_config"):
        config: Any = getattr(network, node, None)
        plain = config.to_dict() if hasattr(config, "to_dict") else {}
        leaves = {name: value for name, value in plain.items() if name not in ("id2label", "label2id")}
        settings |= dict(flat({node: leaves}))
    return {name: value for name, value in settings.items() if "._" not in name and "transformers_version" not in name}


def _frozen_hash(network: Any) -> str | None:
    """Return a hash of some values of each frozen parameter, if checkpoints lack them, as those of an adapter do.

    It is None for a whole model, and if processes other than the first one have no weights yet.
    """
    from transformers import PreTrainedModel
    from transformers.integrations.fsdp import is_fsdp_enabled

    if isinstance(network, PreTrainedModel) or is_fsdp_enabled():
        return None
    digest = hashlib.sha256()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad and parameter.numel():
            values = parameter.detach().flatten()
            sample = values[:: max(1, len(values) // _SAMPLED)].contiguous().cpu()
            digest.update(f"{name} {sample.dtype} {sample.double().tolist()}".encode())
    return digest.hexdigest()[:16]


def _obstacles(trainer: Any) -> Iterator[str]:
    import torch
    from transformers.trainer_callback import ExportableState
    from transformers.trainer_utils import has_length

    from hydratune.training.trainer.checkpointing import CheckpointingMixin

    args, collator, callbacks = trainer.args, trainer.data_collator, trainer.callback_handler.callbacks
    if not isinstance(trainer, CheckpointingMixin):
        yield f"{type(trainer).__name__} does not save its full state (trainer._target_)"
    if not has_length(trainer.train_dataset):
        yield "a stream resumes at another row (dataset.streaming)"
    elif not _is_plain(trainer.train_dataset):
        yield f"rows of {_name(trainer.train_dataset)} may be random when they are read (dataset)"
    if args.device.type != "cpu" and not torch.are_deterministic_algorithms_enabled():
        yield "GPU kernels are not deterministic (hardware.deterministic)"
    if args.torch_compile:
        yield "compiled kernels depend on the shapes of earlier batches (hardware.torch_compile)"
    if args.dataloader_num_workers > 1 and not args.dataloader_in_order:
        yield "DataLoader workers return batches in any order (trainer.args.dataloader_in_order)"
    if args.world_size > 2 and _regroups_gradients(trainer):
        yield "the first step after a resume adds gradients in another order (trainer.args.ddp_find_unused_parameters)"
    if args.save_only_model:
        yield "checkpoints lack the optimizer state (trainer.args.save_only_model)"
    if not _is_known(collator) or getattr(collator, "mlm", False):
        yield f"{_name(collator)} may be random (task)"
    for callback in callbacks:
        if isinstance(callback, ExportableState) and not args.restore_callback_states_from_checkpoint:
            yield f"{_name(callback)} restarts without its state (trainer.args.restore_callback_states_from_checkpoint)"
        if not isinstance(callback, ExportableState) and not _is_known(callback) and vars(callback):
            yield f"checkpoints lack the state of {_name(callback)}: it is not an ExportableState (trainer.callbacks)"


def _regroups_gradients(trainer: Any) -> bool:
    """Return whether DDP changes its gradient buckets after the first step, and so the order of additions.

    The sum over two processes does not depend on the order; the sum over three does.
    """
    handler = trainer.accelerator.ddp_handler
    return handler is not None and (bool(handler.static_graph) or not handler.find_unused_parameters)


def _is_plain(rows: Any) -> bool:
    """Return whether reading a row twice gives the same values, as in a table without the user's transform."""
    from datasets import Dataset

    return isinstance(rows, Dataset) and rows.format["type"] != "custom"


def _is_known(component: Any) -> bool:
    return str(component.__module__).startswith(_KNOWN)


def _name(component: Any) -> str:
    return str(getattr(component, "__name__", type(component).__name__))
