"""One run: load, train, evaluate, save, and record."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist
from hydratune.config.instantiate import build, refusal
from hydratune.data.splits import without_groups
from hydratune.data.streaming import format_length
from hydratune.models.base import Checkpoint
from hydratune.tasks.base import EvalSplit
from hydratune.tracking.base import NoTracking
from hydratune.training import artifacts, model_card
from hydratune.training.exact_resume import EXACT, compare_conditions, conditions, exactness
from hydratune.training.hardware.environment import is_rank
from hydratune.training.job import Job, facts, foreign_code
from hydratune.training.push import TAG, Push, default_repo_id
from hydratune.training.results import PRECISIONS, RunResult, split_metrics
from hydratune.training.resume import checkpoint_fingerprint, last_checkpoint
from hydratune.training.run_params import run_params, training_args
from hydratune.training.trainer.argument_check import check_training_arguments
from hydratune.training.warm_cache import key_of
from hydratune.utils import gc_tuning, hub, signals
from hydratune.utils.errors import SAVED, ConfigError, Mistake, optional_record
from hydratune.utils.files import CHECKPOINTS, METRICS, MODEL, write_json
from hydratune.utils.logs import quiet_libraries

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import EvalPrediction, PretrainedConfig, Trainer

    from hydratune.data.dropped import DroppedRows
    from hydratune.data.source import Source
    from hydratune.models.adapters import Adapter
    from hydratune.models.base import Model, Network
    from hydratune.tasks.base import EncodedData, Task
    from hydratune.training.hardware.hardware import Hardware

log = logging.getLogger(__name__)

_FOLLOW_OBJECTIVE = ("reduce_lr_on_plateau", "greedy")  # values of `lr_scheduler_type`


def run(cfg: DictConfig, job: Job) -> RunResult:
    """Fine-tune one model as a checked config says (see `check_config`), and write its files to the job's directory.

    Raises:
        ConfigError: For errors that only the data or the checkpoint can show; nothing is trained or tracked then.
    """
    if foreign := foreign_code(cfg):
        log.warning("code: beyond hydratune's own list this run executes %s", ", ".join(foreign))
    nodes = (cfg.dataset, cfg.task, cfg.model, cfg.adapter, cfg.hardware)
    source, built, model, adapter, machine = (build(node) for node in nodes)
    hub.force_offline_if_unreachable(needs := {**source.needs(), **model.needs()})
    from hydratune.training.effective_precision import precisions
    from hydratune.training.trainer.callbacks import PreemptionCallback, closing_bars
    from hydratune.training.trainer.cpu_speedups import lean_steps
    from hydratune.training.trainer.fsdp import gather_weights

    quiet_libraries()
    # 1. Build the training arguments: the user's, and the hardware's where the user set none.
    args = training_arguments(cfg, built, machine, job.directory / CHECKPOINTS)
    _check_evaluation(cfg, machine)
    push = _push(args, default_repo_id(cfg, job.directory), job)
    callbacks = build(cfg.trainer.callbacks)
    # 2. Load the dataset, and tokenize it with the checkpoint's tokenizer.
    with args.main_process_first():  # the other processes of the run read its cache
        make = functools.partial(_material, cfg, source, built, model, job.checkpoint)
        made = job.kept.data(key_of(cfg.dataset, cfg.task, cfg.model), make)
    task, splits, processor, data = made.task, made.splits, made.processor, made.data
    for objective in (cfg.objective, *(job.part.objectives if job.part else ())):
        task.check_head(data.head, objective)
    gc_tuning.restore_gc()
    # 3. Load the model with the task's head.
    key = key_of(cfg.model, cfg.adapter, task.auto_model, dict(data.head), cfg.seed)
    loaded = job.kept.network(key, lambda: _network(cfg.seed, task, model, adapter, made))
    machine.suit(args, loaded.module, data.splits["train"], given={**cfg.model, **cfg.trainer.args})
    precision = precisions(args, loaded.module, machine.eval_precision)
    # 4. Add the adapter to the model.
    task.initialize(loaded, data)
    network = adapter.apply(loaded)
    known = artifacts.model_facts(cfg, job, task, splits["train"], processor, served=adapter.saves_whole)
    # 5. Create the Trainer; the collator pads each batch to its own longest row.
    collator = task.collator(processor)
    check_training_arguments(args, network)
    trainer = make_trainer(
        cfg.trainer,
        model=network,
        args=args,
        data_collator=collator,
        train_dataset=data.splits["train"],
        eval_dataset=data.splits["validation"],
        processing_class=processor,
        compute_metrics=scorer(task, EvalSplit(data.splits["validation"], data.head)),
        preprocess_logits_for_metrics=task.reduce_logits,
        callbacks=[
            *callbacks.values(),
            *task.callbacks(collator),
            *(job.part.callbacks if job.part else ()),
        ],
    )
    _suit(trainer, job)
    if machine.eval_precision:
        trainer.eval_precision = machine.eval_precision
    checkpoint = last_checkpoint(trainer, checkpoint_fingerprint(cfg, splits["train"], network))
    machine.fit(trainer, checkpoint)
    machine.say()
    compare_conditions(trainer, checkpoint, conditions(cfg, trainer, splits))
    log.info("exact: %s", exact := exactness(trainer))
    tracking = build(cfg.tracking) if job.first else NoTracking()
    known_splits = artifacts.known_splits(cfg, job, splits)
    params = run_params(cfg, job, trainer, known_splits, {"max_length": made.longest, **precision})
    with tracking.start(facts(cfg, job, params)) as run_log:
        if job.first:
            artifacts.log_run_start(cfg, job, known_splits, trainer.args, run_log)
            artifacts.dropped_rows(job, made.dropped, run_log)
            run_log.tags({EXACT: exact})
        for callback in run_log.callbacks(known):
            trainer.add_callback(callback)
        # A sweep in this process ends by the request itself; a rank reports to `launch` that it has saved.
        saved = None if job.part and not is_rank() else SystemExit(SAVED)
        trainer.add_callback(PreemptionCallback(saved, getattr(trainer, "resumes_evaluation", False)))
        # 6. Train and evaluate on validation; Trainer ends with the weights of the best checkpoint.
        with (
            signals.defer_signals(),
            closing_bars(trainer),
            lean_steps(trainer) if machine.cpu_optimizations else nullcontext(),
        ):
            trainer.train(resume_from_checkpoint=checkpoint)
        if job.first:
            artifacts.streamed_dropped_rows(job, made.dropped, run_log)
        samples = {one.split: one.rows for one in known_splits}  # needed to judge a proportion
        metrics = {**_kept_metrics(trainer, cfg.objective), "eval_samples": samples.get("validation")}
        run_log.metrics(
            {f"best_{name}": value for name, value in split_metrics(metrics, "eval").items()}, metrics["step"]
        )
        if job.part:  # a sweep reads no test data, and keeps scores but no weights
            if job.first:
                write_json(job.directory / METRICS, {**metrics, PRECISIONS: precision})
            return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link())
        # 7. Evaluate once on test.
        if "test" in data.splits:
            tuned = {name: metrics[f"eval_{name}"] for name in task.tuned if f"eval_{name}" in metrics}
            test = EvalSplit(data.splits["test"], data.head, tuned)
            trainer.compute_metrics = scorer(task, test)
            tested = trainer.predict(test.rows, metric_key_prefix="test")
            metrics |= {**tested.metrics, "test_samples": samples.get("test")}
            run_log.metrics(tested.metrics, step=trainer.state.global_step)
        # 8. Save the model, its processor, and its card.
        gather_weights(network, keep=job.first)
        if not job.first:
            return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link())
        adapter.save(network, job.directory / MODEL)
        if made.longest and task.processor == "tokenizer":
            processor.model_max_length = made.longest  # the length to which `truncation=True` truncates after loading
        processor.save_pretrained(job.directory / MODEL)
        rows = {split: format_length(splits[split]) for split in splits}
        with optional_record("model card"):
            kinds, settings = (task.auto_model, task.processor), (precision, params, training_args(args))
            model_card.write(
                job.directory / MODEL, model_card.ModelCardInputs(cfg, job, *kinds, needs, rows, metrics, *settings)
            )
        # 9. Record predictions and plots, whose errors must not lose the model; push the model if requested.
        if "test" in data.splits:
            with optional_record("predictions"):
                artifacts.predictions(job, task, splits["test"], tested, test, run_log)
        write_json(
            job.directory / METRICS, {**metrics, PRECISIONS: precision}
        )  # the last file: a run that has it is finished
        run_log.artifact(job.directory / METRICS)
        with optional_record("model in MLflow"):
            run_log.model(replace(known, step=metrics["step"], metrics=metrics))
        url = push.try_send() if push else None
        if url:
            run_log.tags({TAG: url})
    pushed, tracked = bool(url) or not push, not run_log.is_blocked()
    return RunResult(metrics[cfg.objective], metrics, job.directory, run_log.link(), pushed, tracked)


@dataclass(frozen=True)
class _PreparedData:
    """Data that a model trains on, from steps that the runs of a sweep share."""

    task: Task
    splits: DatasetDict
    config: PretrainedConfig
    processor: Any
    longest: int | None
    data: EncodedData
    dropped: DroppedRows


def load_checkpoint(cfg: DictConfig, task: Task, model: Model) -> Checkpoint:
    """Load the model's config and its tokenizer or image processor.

    Raises:
        ConfigError: If they do not fit each other or the task.
    """
    config = model.load_config()
    task.check_network(config)
    processor = model.load_processor(task.processor, config)
    return Checkpoint(key_of(cfg.task, cfg.model), config, processor, tuple(model.notes))


def _material(cfg: DictConfig, source: Source, task: Any, model: Model, loaded: Checkpoint | None) -> _PreparedData:
    """Prepare the rows as inputs of the model, truncated to its number of positions."""
    if loaded is None or loaded.key != key_of(cfg.task, cfg.model):
        loaded = load_checkpoint(cfg, task, model)
    config, processor = loaded.config, loaded.processor
    for note in loaded.notes:
        log.warning("model: %s", note)
    task.check_processor(processor)
    splits = source.load(task)
    longest = task.longest(config, processor)
    data = task.prepare(without_groups(splits), processor, longest, source.label_names)
    for sentence in data.said:
        log.warning("data: %s", sentence)
    return _PreparedData(task, splits, config, processor, longest, data, source.dropped)


def _network(seed: int, task: Task, model: Model, adapter: Adapter, made: _PreparedData) -> Network:
    """Load the checkpoint's model with a randomly initialized head."""
    from transformers import set_seed

    set_seed(seed)
    return model.load_network(task.auto_model, made.config, made.data.head, adapter.quantization())


def _push(args: Any, repo_id: str, job: Job) -> Push | None:
    """Return the upload of the final model, or None if no upload is requested.

    Trainer itself pushes nothing, and writes no token into its checkpoints.
    """
    asked, token = args.push_to_hub, args.hub_token
    args.push_to_hub, args.hub_token = False, None
    if not asked or job.part:
        return None
    hub.check_push("trainer.args.hub_model_id", repo_id, token)
    return Push(job.directory, repo_id, args.hub_private_repo, token)


def training_arguments(cfg: DictConfig, task: Task, hardware: Hardware, output_dir: Path, **decided: Any) -> Any:
    """Build the `TrainingArguments` of a config; hardware and task fill in values, and `decided` ones win."""
    machine = hardware.prepare(given=cfg.trainer.args)
    fitting = {**_sampling(cfg.trainer, task), **task.arguments(cfg.objective)}
    ours = {k: v for k, v in fitting.items() if k not in cfg.trainer.args}
    direction = cfg.trainer.args.get("greater_is_better")
    ours["greater_is_better"] = task.higher_is_better(cfg.objective) if direction is None else direction
    ours |= _plateau(cfg.trainer.args, ours["greater_is_better"])
    args = build(cfg.trainer.args, output_dir=str(output_dir), **{**machine, **ours, **decided})
    args.adam_beta1, args.adam_beta2 = float(args.adam_beta1), float(args.adam_beta2)  # torch rejects an integer 0
    hardware.alone(args)
    return args


def _plateau(args: DictConfig, greater_is_better: bool) -> dict[str, Any]:
    """Return the mode of schedules that follow the objective; the default lowers the rate while a score rises."""
    if args.get("lr_scheduler_type") not in _FOLLOW_OBJECTIVE:
        return {}
    given = args.get("lr_scheduler_kwargs") or {}
    return {"lr_scheduler_kwargs": {"mode": "max" if greater_is_better else "min", **given}}


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
    mistakes, path = [], cfg.trainer._target_
    if cfg.trainer.args.get("dataloader_drop_last"):
        expected = f"false, since {path} would drop rows of validation and test too"
        mistakes.append(Mistake("trainer.args.dataloader_drop_last", expected, "true", "Leave it out."))
    if hardware.eval_precision:
        fix = "Leave it out, or set hardware.precision=fp32."
        mistakes.append(Mistake("hardware.eval_precision", f"null for {path}", repr(hardware.eval_precision), fix))
    if mistakes:
        raise ConfigError(*mistakes)


def make_trainer(node: DictConfig, **runtime: Any) -> Trainer:
    """Create the Trainer of `node`, with the `args` and `callbacks` that the run has built by itself."""
    names = [str(name) for name in node if name not in ("args", "callbacks")]
    partial = build(OmegaConf.masked_copy(node, names))
    try:
        return partial(**runtime)
    except (ImportError, ValueError) as error:
        raise refusal("trainer", node._target_, error) from error


def scorer(task: Task, evaluated: EvalSplit) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return the function that Trainer calls with the predictions of one split."""
    return functools.partial(task.compute_metrics, evaluated=evaluated)


def _suit(trainer: Trainer, job: Job) -> None:
    """Replace the stock progress bar with ours; a run of a sweep shows no bar and needs no weights at its end."""
    from transformers import PrinterCallback, ProgressCallback

    from hydratune.training.trainer.callbacks import Progress
    from hydratune.training.trainer.checkpointing import CheckpointingMixin

    shown = trainer.pop_callback(ProgressCallback)
    if job.part:
        trainer.pop_callback(PrinterCallback)
        if isinstance(trainer, CheckpointingMixin):
            trainer.leaves_weights = False
    elif shown:
        trainer.add_callback(Progress)


def _kept_metrics(trainer: Trainer, objective: str) -> dict[str, Any]:
    """Return the evaluation of the trainer's current weights; evaluate only if the history lacks it."""
    state = trainer.state
    step = state.best_global_step if trainer.args.load_best_model_at_end else state.global_step
    evaluations = [entry for entry in state.log_history if objective in entry and entry["step"] == step]
    metrics = evaluations[-1] if evaluations else {**trainer.evaluate(), "step": step}
    training: Mapping[str, Any] = next((entry for entry in reversed(state.log_history) if "train_runtime" in entry), {})
    return {**metrics, **{name: value for name, value in training.items() if name.startswith("train_")}}
