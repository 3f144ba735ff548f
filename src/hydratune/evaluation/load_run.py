"""Loading of a finished run: its directory, its config, which is checked again, its model, and its tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import composition
from hydratune.config.allowlist import is_in
from hydratune.config.compose_errors import compose_error
from hydratune.config.composition import Request
from hydratune.config.frozen_values import text_of_interpolation
from hydratune.config.instantiate import build
from hydratune.config.secret_values import resolved_secrets
from hydratune.config.signatures import signature
from hydratune.config.validate import check_targets
from hydratune.models import adapters, code_guard
from hydratune.models.base import checked_tokenizer
from hydratune.tasks.probabilities import ProbabilitySettings
from hydratune.tracking.run_directories import unfinished_run
from hydratune.tracking.run_lookup import RunLookup
from hydratune.training.results import read_metrics
from hydratune.training.setup import training_arguments
from hydratune.utils import gc_tuning, hub
from hydratune.utils.errors import ConfigError, Problem, one_line, similar
from hydratune.utils.files import CONFIG, METRICS, MODEL, check_links
from hydratune.utils.logs import shows_bars
from hydratune.utils.secret_patterns import MASK
from hydratune.utils.yaml_files import read_hydra_node, read_plain_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hydratune.tasks.base import Task

_LABELS = "dataset.labels"  # a list or a mapping, which replaces the run's label names and is not merged with them
# TrainingArguments that disable the parts of training that evaluation does not need.
_OVER = {
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "report_to": "none",
    "push_to_hub": False,
}


@dataclass(frozen=True)
class FinishedRun:
    """A run directory with its config and metrics.

    Args:
        directory: Run directory.
        cfg: Resolved config; `check_targets` must run before anything of it is built.
        metrics: Trainer's name of a metric -> value.
    """

    directory: Path
    cfg: DictConfig
    metrics: Mapping[str, Any]

    def tuned(self, task: Task) -> dict[str, float]:
        """Return the values that were tuned on validation, by the names of `Task.tuned_metrics`."""
        return {name: self.metrics[f"eval_{name}"] for name in task.tuned_metrics if f"eval_{name}" in self.metrics}


@dataclass(frozen=True)
class LoadedRun:
    """A run's model on its device, with the processor that converts rows into inputs.

    Args:
        network: Model in evaluation mode.
        processor: Tokenizer or image processor of the model.
        longest: Maximum number of tokens per input, as in training.
        args: `TrainingArguments` of the run, without evaluation, saving, and reporting during training.
        precision: Precision of the evaluation, e.g. `bf16`.
    """

    network: PreTrainedModel
    processor: Any
    longest: int | None
    args: Any
    precision: str

    @property
    def head(self) -> dict[str, Any]:
        """Number and names of the model's labels."""
        config = self.network.config
        return {"num_labels": config.num_labels, "id2label": config.id2label}


def open_run(name: str, uri: str | None = None) -> FinishedRun:
    """Return the finished run that RUN stands for.

    Args:
        name: RUN as the user typed it.
        uri: Store that the user typed, if any.

    Raises:
        ConfigError: If the run does not exist, did not finish, or has unreadable files.
    """
    directory = RunLookup(uri).directory(name)
    if missing := [file_name for file_name in (CONFIG, METRICS, MODEL) if not (directory / file_name).exists()]:
        raise ConfigError(unfinished_run(directory, missing))
    check_links(directory)
    try:
        config = OmegaConf.to_container(read_plain_config(directory / CONFIG), resolve=True)
    except OmegaConfBaseException as error:
        text = f"cannot read the run {str(directory)!r}: {one_line(error, 300)}"
        raise ConfigError(Problem("RUN", text, f"restore its {CONFIG}")) from error
    metrics = read_metrics(directory)
    if unknown := [*_unknown_keys(config)]:
        text = f"the config of {str(directory)!r} has keys that this version does not have: {', '.join(unknown)}"
        raise ConfigError(Problem("RUN", text, "use the version of hydratune that trained the run"))
    cfg = OmegaConf.create(_without_masks(config))
    try:
        check_targets(cfg)
    except ConfigError as error:
        source = os.path.relpath(directory / CONFIG)
        raise ConfigError(*(replace(problem, source=source) for problem in error.problems)) from error
    return FinishedRun(directory, cfg, metrics)


def _unknown_keys(config: Any) -> Iterator[str]:
    """Yield the keys of a stored config that this version does not have, such as keys that were renamed since."""
    for group, node in config.items():
        target = node.get("_target_") if isinstance(node, dict) else None
        target_signature = signature(target) if isinstance(target, str) else None
        if target_signature and not target_signature.accepts_any:
            yield from (
                f"{group}.{key}" for key in node if key not in target_signature.parameters and not key.startswith("_")
            )


def _without_masks(value: Any) -> Any:
    """Return the config with null in place of masked secrets."""
    if isinstance(value, dict):
        return {name: _without_masks(item) for name, item in value.items()}
    return None if value == MASK else value


def started_here(directory: Path) -> bool:
    """Return whether a run names the current directory as the one where it was started.

    The paths are compared as text: /proc/self/cwd would always be the current directory.
    """
    try:
        return bool(read_hydra_node(directory).runtime.cwd == str(Path.cwd()))
    except ConfigError:
        return False


def build_task(cfg: DictConfig) -> Task:
    """Build the task of a stored config, after checking the config's targets, the task, and the hardware."""
    check_targets(cfg)
    task: Task = build(cfg.task)
    problems = [problem.under("task") for problem in task.check()]
    problems += [problem.under("hardware") for problem in build(cfg.hardware).check()]
    if problems:
        raise ConfigError(*problems)
    return task


def load_processor(run: FinishedRun, task: Task) -> Any:
    """Load the run's tokenizer or image processor, and let the task check rows with it from here on.

    Raises:
        ConfigError: If it cannot be loaded, or does not fit the task.
    """
    import transformers

    folder = run.directory / MODEL
    hub.check_checkpoint("RUN", str(folder))
    reader = transformers.AutoTokenizer if task.processor == "tokenizer" else transformers.AutoImageProcessor
    try:
        processor = reader.from_pretrained(folder, trust_remote_code=False)
    except hub.unreadable() as error:
        raise _unloadable(folder, error) from error
    if task.processor == "tokenizer":
        checked_tokenizer(processor, "RUN")
    task.check_processor(processor)
    return processor


def _unloadable(folder: Path, error: Exception) -> ConfigError:
    text = f"cannot load the model in {str(folder)!r}: {one_line(error, 300)}"
    return ConfigError(Problem("RUN", text, "restore its files; an adapter also needs its base model"))


def load(run: FinishedRun, task: Task, processor: Any, output_dir: Path, batch_size: int | None = None) -> LoadedRun:
    """Load the model, with its adapter if it has one, on the device of the run's config.

    Args:
        run: Run with a checked config.
        task: Task of the run.
        processor: Processor of the run, from `load_processor`.
        output_dir: Directory that Trainer may write to.
        batch_size: Rows per batch; None for the run's batch size.
    """
    from hydratune.training.effective_precision import precisions

    folder = run.directory / MODEL
    hub.check_checkpoint("RUN", str(folder))
    batch_args = {} if batch_size is None else {"per_device_eval_batch_size": batch_size}
    cfg = _for_evaluation(run.cfg)
    hardware = build(cfg.hardware)
    bars = {} if shows_bars() else {"disable_tqdm": True}
    args = training_arguments(cfg, task, hardware, output_dir, **_OVER, **batch_args, **bars)
    hardware.log_summary()
    try:
        model = _network(run, folder, task)
    except ConfigError:
        raise
    except hub.unreadable(ImportError, RuntimeError) as error:
        raise _unloadable(folder, error) from error
    if not getattr(model, "is_quantized", False):  # quantized models must stay on the device that they were loaded on
        model.to(args.device)
    gc_tuning.restore_gc()
    if isinstance(task, ProbabilitySettings):
        task.load_decisions(folder, [str(model.config.id2label[i]) for i in range(model.config.num_labels)])
    precision = precisions(args, model, cfg.hardware.get("eval_precision"))["eval_precision"]
    return LoadedRun(model.eval(), processor, task.max_tokens(model.config, processor), args, precision)


def _for_evaluation(cfg: DictConfig) -> DictConfig:
    """Return the config with `hardware.eval_precision`, if set, in place of the training precision."""
    cfg = cfg.copy()
    if precision := cfg.hardware.get("eval_precision"):
        cfg.hardware.precision = precision
        for name in ("bf16", "fp16"):
            cfg.trainer.args.pop(name, None)
    return cfg


def _network(run: FinishedRun, folder: Path, task: Task) -> PreTrainedModel:
    import transformers

    if (folder / "adapter_config.json").is_file():
        return adapters.load(folder)
    kernel = OmegaConf.select(run.cfg, "model.attn_implementation")
    if errors := [problem.under("model") for problem in code_guard.kernel(kernel)]:
        raise ConfigError(*errors)
    if OmegaConf.select(run.cfg, "model.trust_remote_code"):
        text = f"the model in {str(folder)!r} needs code from the Hub, which is not run here"
        raise ConfigError(Problem("RUN", text, "load it with transformers, as its README.md shows"))
    return getattr(transformers, task.auto_model).from_pretrained(
        folder, attn_implementation=kernel, trust_remote_code=False, use_safetensors=True
    )


def change_config(cfg: DictConfig, request: Request, changeable: Sequence[str]) -> tuple[DictConfig, list[Problem]]:
    """Apply overrides to the stored config of a finished run.

    Args:
        cfg: The stored config; it stays unchanged.
        request: The overrides, inside `overriding`.
        changeable: Keys that may be changed, with everything below them. A config group among them can be replaced
            (`hardware=cpu`), which takes the option's values instead of the stored ones.

    Returns:
        The changed config, and an error for each invalid override. Invalid overrides are not applied.
    """
    problems = [problem for _, problem in composition.check_choices(request)]
    for override in request.parsed:
        key = override.key_or_group
        if not is_in(key, changeable) or override.is_delete():
            text = f"the override {override.input_line!r} is not allowed for a finished run"
            hint = similar("key", key, changeable) or "list the allowed keys with --help"
            problems.append(Problem(key, text, "" if is_in(key, changeable) else hint))
    if problems:
        return cfg, problems
    cfg = cfg.copy()
    if groups := request.chosen_groups:
        composed = composition.compose_config(request, composition.force_add(request))
        for group in groups:
            plain = OmegaConf.to_container(composed[group], resolve=True)
            if "${" in json.dumps(plain, default=str):  # the value would be resolved a second time
                problems.append(text_of_interpolation(group))
            cfg[group] = OmegaConf.create(plain)
    for override in request.parsed:
        if override.key_or_group not in groups:
            key = override.key_or_group
            OmegaConf.update(cfg, key, override.value(), merge=key != _LABELS, force_add=True)
    return cfg, problems or [*resolved_secrets(cfg, ())]


@contextmanager
def overriding(overrides: Sequence[str], config_dir: Path | None = None) -> Iterator[Request]:
    """Yield a `Request` of overrides that follow Hydra's grammar and have one value each.

    Raises:
        ConfigError: If an override is invalid.
    """
    from hydra.errors import HydraException

    request = Request(tuple(overrides), config_dir=config_dir)
    try:
        with composition.composer(request):
            if problems := [*composition.check_single(request)]:
                raise ConfigError(*problems)
            yield request
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(compose_error(error)) from error
