"""Preparation of a run: the objects of its config, its data, its model, and its Trainer."""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist
from hydratune.config.instantiate import build, refusal
from hydratune.config.optimization import NEUTRAL, rate_warning
from hydratune.config.signatures import signature
from hydratune.data.cross_validation import NO_FOLDS, CrossValidation
from hydratune.data.label_typos import label_warning
from hydratune.data.splits import without_groups
from hydratune.models.base import Checkpoint, max_positions
from hydratune.training import artifacts
from hydratune.training.eval_sets import EvalSets, eval_splits, scorer
from hydratune.training.exact_resume import compare_conditions, conditions
from hydratune.training.job import Job
from hydratune.training.push import Push
from hydratune.training.resume import checkpoint_fingerprint, last_checkpoint
from hydratune.training.trainer.argument_check import check_full_batch, check_training_arguments
from hydratune.training.warm_cache import key_of
from hydratune.utils import gc_tuning, hub
from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.files import CHECKPOINTS
from hydratune.utils.logs import quiet_libraries

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PretrainedConfig, Trainer

    from hydratune.data.dropped import DroppedRows
    from hydratune.data.source import Source
    from hydratune.models.adapters import Adapter
    from hydratune.models.base import Model, Network
    from hydratune.tasks.base import EncodedData, Task
    from hydratune.tasks.losses import Loss
    from hydratune.tracking.base import ModelInfo
    from hydratune.training.hardware.hardware import Hardware

log = logging.getLogger(__name__)

_FOLLOW_OBJECTIVE = ("reduce_lr_on_plateau", "greedy")  # values of `lr_scheduler_type`


@dataclass(frozen=True)
class PreparedData:
    """Data that a model trains on, from steps that the runs of a sweep share.

    Args:
        task: Task, after it has read the data.
        splits: Split -> rows with the task's columns.
        config: Config of the checkpoint.
        processor: Tokenizer or image processor of the checkpoint.
        max_length: Maximum number of tokens of a row; None for images and for models without a limit.
        encoded: Inputs of the model.
        dropped: Rows that the dataset has dropped.
        places: See `Source.places`.
    """

    task: Task
    splits: DatasetDict
    config: PretrainedConfig
    processor: Any
    max_length: int | None
    encoded: EncodedData
    dropped: DroppedRows
    places: Mapping[str, Sequence[tuple[str, int]]]

    @property
    def balanced_weights(self) -> Mapping[str, Mapping[str, float]]:
        """Setting of the task -> label name -> weight, for `balanced` settings."""
        return (self.encoded.loss.balanced if self.encoded.loss else None) or {}


@dataclass(frozen=True)
class Setup:
    """Objects of a run that is ready to train.

    Args:
        data: Rows, inputs, and tokenizer.
        model: Model with its adapter.
        adapter: Adapter of the model.
        hardware: Settings of the machine.
        trainer: Trainer with model, data, and callbacks.
        checkpoint: Checkpoint to resume from; None to start.
        push: Upload of the final model, if it is requested.
        precision: Precisions of training and evaluation, as params.
        sources: What the run reads from the Hub, see `Source.needs`.
        model_info: Facts about the model for the tracker.
    """

    data: PreparedData
    model: Any
    adapter: Adapter
    hardware: Hardware
    trainer: Trainer
    checkpoint: str | None
    push: Push | None
    precision: Mapping[str, str]
    sources: Mapping[str, Any]
    model_info: ModelInfo


def set_up(cfg: DictConfig, job: Job) -> Setup:
    """Prepare everything that a run trains with.

    Raises:
        ConfigError: For errors that only the data or the checkpoint can show.
    """
    nodes = (cfg.dataset, cfg.task, cfg.model, cfg.adapter, cfg.hardware)
    source, task, model, adapter, hardware = (build(node) for node in nodes)
    hub.force_offline_if_unreachable(sources := {**source.needs(), **model.needs()})
    from hydratune.training.effective_precision import precisions
    from hydratune.training.trainer.parameter_groups import ParameterGroupsMixin, check_parameter_groups
    from hydratune.training.trainer.unfreezing import check_unfreezing

    quiet_libraries()
    # The user's training arguments, and the hardware's where the user set none
    args = training_arguments(cfg, task, hardware, job.directory / CHECKPOINTS)
    if warning := rate_warning(args.learning_rate, args.optim.value):
        log.warning("%s", warning)
    _check_evaluation(cfg, hardware)
    push = _push(args, job)
    callbacks = build(cfg.trainer.callbacks)
    data = _load_data(cfg, job, args, source, task, model)
    # The model with the task's head, then the adapter
    key = key_of(cfg.model, cfg.adapter, data.task.auto_model, dict(data.encoded.head), cfg.seed)
    loaded = job.cache.network(key, lambda: load_model(cfg.seed, model, adapter, data))
    hardware.configure_model(args, loaded.module, data.encoded.splits["train"], given={**cfg.model, **cfg.trainer.args})
    precision = precisions(args, loaded.module, hardware.eval_precision)
    data.task.initialize(loaded, data.encoded)
    network = adapter.apply(loaded)
    served = adapter.saves_whole
    model_info = artifacts.describe_model(cfg, job, data.task, data.splits["train"], data.processor, served=served)
    check_training_arguments(args, network)
    check_parameter_groups(cfg.trainer, args, network)
    check_unfreezing(cfg.trainer.get("unfreeze") or {}, network)
    trainer = _trainer(cfg, job, data, network, args, list(callbacks.values()))
    if hardware.eval_precision:
        trainer.eval_precision = hardware.eval_precision
    fingerprint = checkpoint_fingerprint(cfg, data.splits["train"], data.encoded, data.processor, network)
    checkpoint = last_checkpoint(trainer, fingerprint)
    hardware.fit_batch_size(trainer, checkpoint)
    check_full_batch(trainer)
    if isinstance(trainer, ParameterGroupsMixin):
        trainer.assign_parameter_groups()
    hardware.log_summary()
    compare_conditions(trainer, checkpoint, conditions(cfg, trainer, data.splits, data.encoded.splits))
    return Setup(data, network, adapter, hardware, trainer, checkpoint, push, precision, sources, model_info)


def _load_data(cfg: DictConfig, job: Job, args: Any, source: Source, task: Task, model: Model) -> PreparedData:
    """Load the dataset, and tokenize it with the checkpoint's tokenizer; the runs of a process share the result."""
    with args.main_process_first():  # the other processes of the run read its cache
        make = functools.partial(prepare_data, cfg, source, task, model, job.checkpoint)
        data = job.cache.data(key_of(cfg.dataset, cfg.get("cv"), cfg.task, cfg.model), make)
    sets = source.validation_sets()
    for objective in (cfg.objective, *(job.trial.objectives if job.trial else ())):
        data.task.check_head(data.encoded.head, objective, sets)
    gc_tuning.restore_gc()
    return replace(data, task=copy.copy(data.task))  # runs that share the data do not share a calibration


def _trainer(
    cfg: DictConfig, job: Job, data: PreparedData, network: Any, args: Any, callbacks: Sequence[Any]
) -> Trainer:
    """Create the Trainer; its collator pads each batch to the longest row of the batch."""
    task, encoded = data.task, data.encoded
    collator = task.collator(data.processor)
    validation = eval_splits(encoded, "validation")
    several, only = len(validation) > 1 or "" not in validation, next(iter(validation.values()))
    trainer = make_trainer(
        cfg.trainer,
        model=network,
        args=args,
        data_collator=collator,
        train_dataset=encoded.splits["train"],
        eval_dataset={name: split.rows for name, split in validation.items()} if several else only.rows,
        processing_class=data.processor,
        compute_metrics=scorer(task, only),
        preprocess_logits_for_metrics=task.reduce_logits,
        callbacks=[*callbacks, *task.callbacks(collator), *(job.trial.callbacks if job.trial else ())],
    )
    use_task_loss(trainer, encoded.loss)
    if several:
        trainer.validation_sets = EvalSets(task, validation)
    _set_up_callbacks(trainer, job, predicts=cross_validation(cfg).folds is not None)
    return trainer


def use_task_loss(trainer: Trainer, loss: Loss | None) -> None:
    """Let a Trainer compute the loss of the task, unless it is that of the model.

    Raises:
        ConfigError: If the Trainer cannot, or if it has a loss function of the user.
    """
    from hydratune.training.trainer.accumulation import GradientAccumulationMixin

    if loss is None or loss.is_upstreams(trainer.args.label_smoothing_factor):
        return
    if not isinstance(trainer, GradientAccumulationMixin):
        text = f"{KEY} must be a Trainer of hydratune for task.loss=focal and for weights of labels or rows"
        raise ConfigError(Problem("trainer._target_", text, "set trainer._target_=hydratune.training.Trainer"))
    if trainer.compute_loss_func is not None:
        text = f"{KEY} conflicts with task.loss=focal and with weights of labels or rows"
        raise ConfigError(Problem("trainer.compute_loss_func", text, f"leave {KEY} out"))
    trainer.loss = loss


def cross_validation(cfg: DictConfig) -> CrossValidation:
    """Return the folds of a run; none if the user's own primary config has no node `cv`."""
    return build(cfg.cv) if cfg.get("cv") else NO_FOLDS


def load_checkpoint(cfg: DictConfig, task: Task, model: Model) -> Checkpoint:
    """Load the model's config and its tokenizer or image processor.

    Raises:
        ConfigError: If they do not fit each other or the task.
    """
    config = model.load_config()
    task.check_network(config)
    processor = model.load_processor(task.processor, config)
    notes, limit = [*model.notes], max_positions(config, processor)
    if limit and task.max_length and task.max_length > limit:
        notes.append(
            f"task.max_length={task.max_length} exceeds the {limit} positions of the model, which limit inputs"
        )
    return Checkpoint(key_of(cfg.task, cfg.model), config, processor, tuple(notes))


def prepare_data(cfg: DictConfig, source: Source, task: Any, model: Model, loaded: Checkpoint | None) -> PreparedData:
    """Prepare the rows as inputs of the model, truncated to its number of positions."""
    if loaded is None or loaded.key != key_of(cfg.task, cfg.model):
        loaded = load_checkpoint(cfg, task, model)
    config, processor = loaded.config, loaded.processor
    for note in loaded.notes:
        log.warning("model: %s", note)
    task.check_processor(processor)
    splits = source.load(task, cross_validation(cfg))
    if warning := label_warning(splits, task.columns):
        log.warning("data: %s", warning)
    max_length = task.max_tokens(config, processor)
    encoded = task.prepare(without_groups(splits), processor, max_length, source.label_names)
    for note in encoded.notes:
        log.warning("data: %s", note)
    return PreparedData(task, splits, config, processor, max_length, encoded, source.dropped, source.places)


def load_model(seed: int, model: Model, adapter: Adapter, prepared: PreparedData) -> Network:
    """Load the checkpoint's model with a randomly initialized head."""
    from transformers import set_seed

    set_seed(seed)
    task = prepared.task
    return model.load_network(task.auto_model, prepared.config, prepared.encoded.head, adapter.quantization())


def _push(args: Any, job: Job) -> Push | None:
    """Return the upload of the final model, or None if no upload is requested.

    Trainer itself pushes nothing, and writes no token into its checkpoints.
    """
    push_requested, token = args.push_to_hub, args.hub_token
    args.push_to_hub, args.hub_token = False, None
    if not push_requested or job.trial:
        return None
    repo_id = str(args.hub_model_id)
    hub.check_push("trainer.args.hub_model_id", repo_id, token)
    return Push(job.directory, repo_id, args.hub_private_repo, token)


def training_arguments(cfg: DictConfig, task: Task, hardware: Hardware, output_dir: Path, **decided: Any) -> Any:
    """Build the `TrainingArguments` of a config; hardware and task fill in values, and `decided` ones win."""
    hardware_args = hardware.prepare(given=cfg.trainer.args)
    task_args = {**_sampling(cfg.trainer, task), **task.arguments(cfg.objective)}
    defaults = {k: v for k, v in task_args.items() if k not in cfg.trainer.args}
    greater_is_better = cfg.trainer.args.get("greater_is_better")
    defaults["greater_is_better"] = (
        task.higher_is_better(cfg.objective) if greater_is_better is None else greater_is_better
    )
    defaults |= _plateau(cfg.trainer.args, defaults["greater_is_better"])
    args = build(cfg.trainer.args, output_dir=str(output_dir), **{**hardware_args, **defaults, **decided})
    args.adam_beta1, args.adam_beta2 = float(args.adam_beta1), float(args.adam_beta2)  # torch rejects an integer 0
    hardware.use_one_gpu(args)
    return args


def _plateau(args: DictConfig, greater_is_better: bool) -> dict[str, Any]:
    """Return the mode of schedules that follow the objective; the default lowers the rate while a score rises."""
    if args.get("lr_scheduler_type") not in _FOLLOW_OBJECTIVE:
        return {}
    scheduler_kwargs = args.get("lr_scheduler_kwargs") or {}
    return {"lr_scheduler_kwargs": {"mode": "max" if greater_is_better else "min", **scheduler_kwargs}}


def _sampling(node: DictConfig, task: Task) -> dict[str, str]:
    """Return the option that groups texts by length, if the Trainer is ours: others would shuffle evaluation, too."""
    groups = task.processor == "tokenizer" and _evaluates_all(node)
    return {"train_sampling_strategy": "group_by_length"} if groups else {}


def _evaluates_all(node: DictConfig) -> bool:
    """Return whether the Trainer of `node` evaluates all rows, in their order and in the configured precision."""
    from hydratune.training.trainer.trainer import Trainer

    trainer = allowlist.load(node._target_, "trainer._target_")
    return isinstance(trainer, type) and issubclass(trainer, Trainer)


def _check_evaluation(cfg: DictConfig, hardware: Hardware) -> None:
    """Raise ConfigError for options of evaluation that a Trainer other than ours ignores."""
    if _evaluates_all(cfg.trainer):
        return
    problems, path = [], cfg.trainer._target_
    if cfg.trainer.args.get("dataloader_drop_last"):
        text = f"{KEY}=true would also drop validation and test rows, since {path} evaluates them"
        problems.append(Problem("trainer.args.dataloader_drop_last", text, f"leave out {KEY}=true"))
    if hardware.eval_precision:
        text = f"{path} does not support {KEY}={hardware.eval_precision}"
        hint = f"set {KEY}=null, or hardware.precision=fp32 for training as well"
        problems.append(Problem("hardware.eval_precision", text, hint))
    if problems:
        raise ConfigError(*problems)


def make_trainer(node: DictConfig, **runtime: Any) -> Trainer:
    """Create the Trainer of `node`, with the `args` and `callbacks` that the run has built by itself."""
    names = [str(name) for name in node if name not in ("args", "callbacks")]
    accepted = signature(node._target_)
    if accepted and not accepted.accepts_any:  # Trainers other than ours
        names = [name for name in names if name in accepted.parameters or name not in NEUTRAL]
    partial = build(OmegaConf.masked_copy(node, names))
    try:
        with warnings.catch_warnings():  # the loss of the task smooths these labels, see `use_task_loss`
            warnings.filterwarnings("ignore", "Label smoothing is not compatible with multi-label", UserWarning)
            return partial(**runtime)
    except (ImportError, ValueError) as error:
        raise refusal("trainer", node._target_, error) from error


def _set_up_callbacks(trainer: Trainer, job: Job, predicts: bool) -> None:
    """Replace the stock progress bar, which a run of a sweep does not show.

    Args:
        trainer: Trainer of the run.
        job: Job of the run.
        predicts: Whether a run of a sweep uses the best weights at its end, to predict for its fold.
    """
    from transformers import PrinterCallback, ProgressCallback

    from hydratune.training.trainer.callbacks import progress_callback
    from hydratune.training.trainer.checkpointing import CheckpointingMixin

    stock_callback = trainer.pop_callback(ProgressCallback)
    if job.trial:
        trainer.pop_callback(PrinterCallback)
        if isinstance(trainer, CheckpointingMixin):
            trainer.leaves_weights = predicts
    elif stock_callback:
        trainer.add_callback(progress_callback())
