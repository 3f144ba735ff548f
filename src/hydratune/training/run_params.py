"""Params of a run: the resolved values of everything that determines its training."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist
from hydratune.config.optimization import NEUTRAL
from hydratune.tracking.base import DatasetInfo
from hydratune.training.job import Job
from hydratune.utils import provenance
from hydratune.utils.batches import effective_batch_size, optimizer_steps
from hydratune.utils.errors import optional_record

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

_NODES = ("dataset", "model", "adapter", "task")  # config groups whose values, and the chosen option, are params
# These come first, since MLflow's table has few columns.
FIRST = (
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "warmup_steps",
    "lr_scheduler_type",
    "optim",
)
# Arguments that change where and how often something is written, how fast a step is, or what is reported, but not
# which steps are taken. All others are params, also those that a later release of transformers adds.
_WITHOUT_EFFECT = (
    *(
        "output_dir",
        "run_name",
        "project",
        "report_to",
        "disable_tqdm",
        "log",
        "logging",
        "trackio",
        "hub",
        "push_to_hub",
    ),
    *("push_to_hub", "save_only_model", "save_on_each_node", "save_total_limit", "enable_jit_checkpoint"),
    *(
        "resume_from_checkpoint",
        "ignore_data_skip",
        "restore_callback_states_from_checkpoint",
        "do",
        "debug",
        "skip_memory_metrics",
    ),
    *("include_num_input_tokens_seen", "include_for_metrics", "batch_eval_metrics", "per_device_eval_batch_size"),
    *("eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object", "eval_on_start"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
    *("dataloader_multiprocessing_context", "dataloader_in_order", "ddp", "fsdp", "parallelism_config", "local_rank"),
    *("gradient_checkpointing", "activation_checkpointing", "torch_compile", "torch_empty_cache_steps", "use_cpu"),
    *("use_liger_kernel", "liger_kernel_config", "use_cache", "auto_find_batch_size", "full_determinism"),
    *("remove_unused_columns", "label_names", "length_column_name", "prediction_loss_only"),
    *("bf16", "fp16", "tf32", "seed"),  # `precision` and `seed` are params of their own
)
_LONGEST = 500  # characters; every MLflow store takes as many
_DIGEST = 12  # characters


def training_args(args: TrainingArguments) -> dict[str, Any]:
    """Return the effective training arguments as plain values, without secrets."""
    plain: dict[str, Any] = provenance.redact(json.loads(args.to_json_string()))
    return plain


def run_params(
    cfg: DictConfig, job: Job, trainer: Trainer, splits: Sequence[DatasetInfo], decided: Mapping[str, Any]
) -> dict[str, str]:
    """Return name -> value, with the same names in every run of a kind, so that runs can be compared and grouped.

    A value that is too long for MLflow ends with a digest, so that two long values are equal only if they are the same.

    Args:
        cfg: Resolved config.
        job: Job of the run.
        trainer: Trainer that is ready to train, after hardware and task have set their arguments.
        splits: Rows of each split; see `hydratune.training.artifacts.dataset_infos`.
        decided: More params that follow from several settings, e.g. `max_length` and `precision`.
    """
    with optional_record("params"):
        values = _values(cfg, job, trainer, decided)
        for split in splits:
            values |= {f"rows.{split.split}": split.rows, f"digest.{split.split}": split.digest}
        values |= job.trial.chart_params if job.trial else {}
        return {name: _text(value) for name, value in values.items()}
    return {}


def schedule(trainer: Trainer) -> str:
    """Return a line with the effective batch size and the number of optimizer steps."""
    args, rows = trainer.args, trainer.train_dataset
    factors = [f"{args.train_batch_size}"]
    factors += [f"{args.gradient_accumulation_steps} accumulated"] if args.gradient_accumulation_steps > 1 else []
    factors += [f"{args.world_size} processes"] if args.world_size > 1 else []
    text = f"effective batch size {effective_batch_size(args):,}"
    text += f" ({' x '.join(factors)})" if len(factors) > 1 else ""
    if not hasattr(rows, "__len__"):
        return f"{text}, {args.max_steps:,} steps on a stream"
    per_epoch, steps = optimizer_steps(args, len(rows))
    return f"{text}, {per_epoch:,} steps per epoch, {steps:,} steps"


def param_name(key: str) -> str:
    """Return the param that records a key of the config, e.g. `learning_rate` for `trainer.args.learning_rate`."""
    return key.removeprefix("trainer.args.")


def _values(cfg: DictConfig, job: Job, trainer: Trainer, decided: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {name: job.choices.get(name) for name in _NODES}
    values |= {"seed": cfg.seed, **dict(_of_training(cfg, trainer)), **decided, **_of_network(trainer)}
    for name in (*_NODES, "callbacks"):
        values |= _leaves(name, cfg.trainer.callbacks if name == "callbacks" else cfg[name])
    values |= {f"trainer.{name}": cfg.trainer.get(name, default) for name, default in NEUTRAL.items()}
    return {**values, "trainer._target_": cfg.trainer._target_}


def _of_training(cfg: DictConfig, trainer: Trainer) -> Iterator[tuple[str, Any]]:
    """Yield the arguments with an effect, and values that follow from several of them."""
    args = training_args(trainer.args)
    for name in dict.fromkeys((*FIRST, *args)):
        if not any(name == prefix or name.startswith(f"{prefix}_") for prefix in _WITHOUT_EFFECT):
            yield name, args[name]
    if args["seed"] != cfg.seed:
        yield "trainer.args.seed", args["seed"]
    yield "effective_batch_size", effective_batch_size(trainer.args)
    yield "world_size", trainer.args.world_size
    yield "device", trainer.args.device.type


def _of_network(trainer: Trainer) -> dict[str, Any]:
    """Return the attention kernel, the dropout, and the number of trainable parameters of the model."""
    from transformers import PreTrainedConfig

    network: Any = trainer.model
    config = getattr(network, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return {}
    plain = config.to_dict()
    dropout = {name: value for name, value in plain.items() if ("drop" in name) and isinstance(value, int | float)}
    trainable_parameters = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return {
        "attn_implementation": config._attn_implementation,
        "dropout": dropout,
        "trainable_parameters": trainable_parameters,
    }


def _leaves(name: str, node: Any) -> dict[str, Any]:
    """Return dotted key -> value for everything below a config node, and for the defaults that it omits."""
    plain: Any = OmegaConf.to_container(node, resolve=True)
    defaults = _defaults(str(plain["_target_"]), name) if "_target_" in plain else {}
    return dict(_flat(name, provenance.redact({**defaults, **plain})))


def _defaults(path: str, name: str) -> dict[str, Any]:
    """Return the default arguments of a `_target_`."""
    target: Any = allowlist.load(path, f"{name}._target_")
    if dataclasses.is_dataclass(target):
        fields = [field for field in dataclasses.fields(target) if field.init]
        default_values = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
        factory_values = {field.name: field.default_factory() for field in fields if callable(field.default_factory)}
        return {**default_values, **factory_values}
    parameters = inspect.signature(target).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, value


def _text(value: Any) -> str:
    text = "null" if value is None else str(value)
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{text[: _LONGEST - _DIGEST - 20]}... (sha256 {digest})"
