"""Checks that need torch and transformers, but no weights; `--dry-run` and each run make the same ones."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config.instantiate import build
from hydratune.config.optimization import rate_warning
from hydratune.data.local import LocalFiles
from hydratune.models.base import Checkpoint, Network
from hydratune.models.parameters import freeze
from hydratune.training.hardware.distributed import Distributed
from hydratune.training.setup import load_checkpoint, training_arguments
from hydratune.training.trainer.argument_check import check_training_arguments
from hydratune.training.warm_cache import key_of
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.logs import quiet_libraries

_LIGHT = ("keys and values", "data columns")  # `check_config` has checked them before
_NEVER = ("rows", "weights", "memory")
MOST_BYTES = 10 * 2**20  # size of local files whose rows a dry run reads
_OURS = ("hydratune.", "transformers.")  # code that may be built twice


@dataclass
class Coverage:
    """Checks that `--dry-run` reports as made or not made.

    Args:
        checked: Names of the checks that passed.
        unchecked: Names of what only the run shows.
        errors: Errors of the checks that did not pass.
        checkpoint: Config and processor of the last model, which the run need not load again.
        warnings: Lines on models that work with limits, each once.
    """

    checked: list[str] = field(default_factory=lambda: [*_LIGHT])
    unchecked: list[str] = field(default_factory=lambda: [*_NEVER])
    problems: list[Problem] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    warnings: dict[str, None] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Make one check and collect its errors, so that later checks can add theirs."""
        try:
            yield
        except ConfigError as error:
            self.problems += error.problems
        else:
            self.checked.append(name)

    def __str__(self) -> str:
        checked, unchecked = (", ".join(dict.fromkeys(names)) for names in (self.checked, self.unchecked))
        return "\n".join([*self.warnings, f"checked: {checked}", f"not checked: {unchecked}"])


def preflight(configs: Iterable[DictConfig], dry: bool = False, reads_rows: bool = False) -> Coverage:
    """Check one or more configs that passed `check_config`.

    Values that several configs share are checked once. Nothing is written, and nothing is logged.

    Args:
        configs: Configs of single runs.
        dry: Whether no run follows; the processes of a distributed run check their training arguments themselves.
        reads_rows: Whether to read the rows of small local files, and encode a sample of them.

    Raises:
        ConfigError: With the errors of all configs together.
    """
    coverage, networks, seen = Coverage(), dict[str, Any](), set[str]()
    are_all_read = reads_rows
    quiet_libraries()
    from hydratune.training.trainer.parameter_groups import check_parameter_groups
    from hydratune.training.trainer.unfreezing import check_unfreezing

    with _silence():
        for cfg in configs:
            nodes = (cfg.dataset, cfg.task, cfg.model, cfg.adapter)
            run_key, network_key = key_of(*nodes, cfg.trainer, cfg.hardware), key_of(*nodes)
            if run_key in seen:
                continue
            seen.add(run_key)
            source, task, model = (build(node) for node in nodes[:3])
            hub.force_offline_if_unreachable({**source.needs(), **model.needs()})
            args = _arguments(cfg, task, coverage, dry)
            if network_key not in networks:
                networks[network_key] = _network(cfg, task, model, coverage)
                if reads_rows and not coverage.problems:
                    are_all_read &= _rows(cfg, source, task, coverage)
            if args is not None and networks[network_key] is not None:
                with coverage.part("optimizer and trackers"):
                    check_training_arguments(args, networks[network_key])
                with coverage.part("parameter groups"):
                    check_parameter_groups(cfg.trainer, args, networks[network_key])
                with coverage.part("unfreezing"):
                    check_unfreezing(cfg.trainer.get("unfreeze") or {}, networks[network_key])
    if coverage.problems:
        raise ConfigError(*coverage.problems)
    if are_all_read:
        coverage.checked.append("rows")
        coverage.unchecked.remove("rows")
    return coverage


def _rows(cfg: DictConfig, source: Any, task: Any, coverage: Coverage) -> bool:
    """Read the rows of small local files and encode a sample of them; return whether the rows are valid."""
    from hydratune.data.label_typos import label_warning
    from hydratune.training.preview import encoded_sample

    is_small = isinstance(source, LocalFiles) and not source.streaming and source.size() <= MOST_BYTES
    if not is_small or coverage.checkpoint is None:
        return False
    try:
        splits, *_ = encoded_sample(cfg, source, task, coverage.checkpoint)
        if warning := label_warning(splits, task.columns):
            coverage.warnings[f"warning: {warning}"] = None
    except ConfigError as error:
        coverage.problems += error.problems
    return not coverage.problems


def _network(cfg: DictConfig, task: Any, model: Any, coverage: Coverage) -> Any:
    """Build the model with its adapter, without weights; return None if that is not possible."""
    network = adapted = None
    with coverage.part("model config and tokenizer"):
        coverage.checkpoint = load_checkpoint(cfg, task, model)
        coverage.warnings |= dict.fromkeys(f"warning: {note}" for note in coverage.checkpoint.notes)
        task.check_processor(coverage.checkpoint.processor)
        network = _outline(model, task, coverage.checkpoint.config, coverage)
    if network is not None:
        if model.freeze:
            with coverage.part("frozen parameters"):
                freeze(network.module, model.freeze)
        with coverage.part("adapter"):
            adapted = build(cfg.adapter).apply(network)
    return adapted


def _arguments(cfg: DictConfig, task: Any, coverage: Coverage, dry: bool) -> Any:
    """Build the training arguments and the callbacks; return None if the processes of a distributed run will do so.

    The arguments of a distributed run are built as for a single process. They open a CUDA device, which stays in use
    until this process ends and would be missing in the run's own processes.
    """
    hardware = build(cfg.hardware)
    if isinstance(hardware, Distributed):
        coverage.unchecked.append("communication and sharding of several processes")
        with coverage.part("batch per process"):
            hardware.shares(cfg.trainer.args, hardware.local_processes() * hardware.launch.nnodes)
        if not dry:
            return None
    from accelerate.state import AcceleratorState

    args = None
    with coverage.part("training arguments"):
        args = training_arguments(cfg, task, hardware, Path("checkpoints"))
    AcceleratorState._reset_state(reset_partial_state=True)  # the run decides its device and precision by itself
    if args is not None and (warning := rate_warning(args.learning_rate, args.optim.value)):
        coverage.warnings[f"warning: {warning}"] = None
    for name, node in cfg.trainer.callbacks.items():
        if str(node.get("_target_")).startswith(_OURS):
            with coverage.part("callbacks"):
                build(OmegaConf.select(cfg, f"trainer.callbacks.{name}"))
    return args


def _outline(model: Any, task: Any, config: Any, coverage: Coverage) -> Network | None:
    """Build the architecture without weights, if the model's class is ours; return None otherwise."""
    if not type(model).__module__.startswith(_OURS) or getattr(model, "trust_remote_code", False):
        coverage.unchecked.append("architecture of custom code")
        return None
    outline: Network = model.outline(task.auto_model, config)
    coverage.checked.append("architecture")
    return outline


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress log lines and warnings, because the run itself emits them."""
    previous_level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous_level)
