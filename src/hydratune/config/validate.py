"""Validation of a config: all errors together, before anything heavy is imported or loaded."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import allowlist, frozen_values, hydra_guard, instantiate
from hydratune.config.annotations import type_error
from hydratune.config.compose_errors import unresolved
from hydratune.config.composition import Request, without_hydra
from hydratune.config.objectives import check_objective
from hydratune.config.optimization import is_neutral
from hydratune.config.options import options, shipped_dir
from hydratune.config.rules import agreement, bounds, refused_arguments, select
from hydratune.config.secret_values import directory_secrets, literal_secrets, passwords, resolved_secrets
from hydratune.config.signatures import Signature, signature
from hydratune.config.suggestions import suggest_argument, suggest_key, top_level_keys
from hydratune.config.value_hints import value_hint
from hydratune.utils import hub
from hydratune.utils.errors import (
    KEY,
    ConfigError,
    Problem,
    display_value,
    invalid_value,
    nearest,
)
from hydratune.utils.secret_names import is_secret

# The nodes that a run builds, each by its `_target_`.
BUILT = ("dataset", "task", "model", "adapter", "trainer", "trainer.args", "hardware", "tracking", "sweep")
# Nodes whose classes check more about their arguments than a signature tells.
CHECKED = ("dataset", "task", "model", "adapter", "hardware", "tracking", "sweep", "cv")
RESERVED = (*instantiate.RESERVED, "_args_")  # Hydra's own keys of a node with a `_target_`
# Key that the run decides, so that a config must not set it -> the hint, which names what to set instead.
DECIDED = {
    "trainer.args.output_dir": "use hydra.run.dir={}",
    "trainer.args.fsdp": "use hardware=fsdp",
    "trainer.args.fsdp_config": "use hardware=fsdp and hardware.fsdp_config",
    "trainer.model": "use model=NAME",
    "trainer.train_dataset": "use dataset=NAME",
    "trainer.eval_dataset": "use dataset=NAME",
    "trainer.data_collator": "use task=NAME",
    "trainer.compute_metrics": "use task.metrics",
    "trainer.preprocess_logits_for_metrics": "use task.metrics",
    "trainer.processing_class": "use model=NAME",
}
# Required key -> example of its value. Other required keys have `VALUE`.
_EXAMPLES = {
    "dataset.files.train": "reviews.csv",
    "dataset.path": "OWNER/NAME",
    "model.model_type": "gpt2",
    "model.pretrained_model_name_or_path": "google-bert/bert-base-uncased",
}


def check_config(cfg: DictConfig) -> None:
    """Raise ConfigError unless `cfg` can run, as far as that can be checked without its data and weights.

    This imports none of torch, transformers, datasets, and mlflow: signatures are read from source text. Afterwards,
    `cfg` has the checked values in place of interpolations.

    Args:
        cfg: A composed config. If it has a `hydra` node, the `_target_`s of that node are checked too.

    Raises:
        ConfigError: The config is invalid; it has all errors together.
    """
    run_cfg = without_hydra(cfg)
    problems = [*literal_secrets(run_cfg)]
    plain = _code(run_cfg, problems)
    problems += resolved_secrets(plain, {problem.key for problem in problems})
    if "hydra" in cfg:  # Hydra runs its callbacks, sweeper and launcher from here
        problems += hydra_guard.check_hydra_node(cfg.hydra, passwords(plain))
        reported = {problem.key for problem in problems}
        hydra_targets = _targets(OmegaConf.to_container(cfg.hydra, resolve=False), "hydra")
        problems += (problem for problem in hydra_targets if problem.key not in reported)
    problems += _own_checks(plain, {problem.key for problem in problems})
    problems += bounds(plain, {problem.key for problem in problems})
    problems += agreement(plain, {problem.key for problem in problems})
    problems = problems or [*directory_secrets(cfg, passwords(plain)), *frozen_values.freeze(cfg, plain)]
    if problems:
        raise ConfigError(*(_at_source(problem, run_cfg) for problem in problems))


def check_targets(cfg: DictConfig) -> None:
    """Raise ConfigError unless each `_target_` of a run's config is allowed and accepts its arguments.

    This is for a finished run: its data and checkpoint may be gone, and its stored config may have been changed.

    Raises:
        ConfigError: A target is invalid; it has all errors together.
    """
    problems: list[Problem] = []
    plain = _code(cfg, problems)
    for key in ("name", "objective"):
        if not isinstance(plain.get(key), str):
            problems.append(invalid_value(key, "a string", display_value(plain.get(key))))
    args = select(plain, "trainer.args")
    problems += refused_arguments(args) if isinstance(args, dict) else ()
    if problems:
        raise ConfigError(*problems)


def check_part(cfg: DictConfig, key: str) -> None:
    """Raise ConfigError unless one node of a config is valid by itself.

    Raises:
        ConfigError: The node is invalid; it has all errors together.
    """
    problems = [*literal_secrets(OmegaConf.masked_copy(cfg, [key]))]
    plain = {key: _child(cfg, key, "", problems)}
    problems += resolved_secrets(plain, {problem.key for problem in problems})
    problems += _targets(plain, "")
    problems += _own_checks(plain, {problem.key for problem in problems})
    if problems:
        raise ConfigError(*problems)


def _code(cfg: DictConfig, problems: list[Problem]) -> Any:
    """Return `cfg` as plain data; append the errors of its top level and of its targets to `problems`."""
    plain = _resolved(cfg, "", problems)
    problems += _top_level(plain)
    problems += _targets(plain, "")
    return plain


# --- values ----------------------------------------------------------------------------------------------


def _resolved(node: Any, key: str, problems: list[Problem]) -> Any:
    """Return `node` as plain data; missing and unresolvable values become `_ABSENT` and are reported."""
    if isinstance(node, DictConfig):
        return {str(name): _child(node, name, key, problems) for name in node}
    if isinstance(node, ListConfig):
        return [_child(node, i, key, problems) for i in range(len(node))]
    if isinstance(node, str) and "${" in node:
        problems.append(frozen_values.text_of_interpolation(key))
    return node


_ABSENT = object()  # placeholder for a value, so that its error is reported once


def _at_source(problem: Problem, cfg: DictConfig) -> Problem:
    """Move an error to the key that the user sets if the value of its key is only `${that.key}`."""
    if is_secret(problem.key):  # its value must be `${oc.env:NAME}` itself
        return problem
    try:
        parent, _, name = problem.key.rpartition(".")
        raw = OmegaConf.to_container(OmegaConf.select(cfg, parent), resolve=False)[name]  # type: ignore[index, call-overload]
    except (OmegaConfBaseException, KeyError, TypeError, ValueError):
        return problem
    source = re.fullmatch(r"\$\{([\w.]+)\}", str(raw))
    if source is None:
        return problem
    try:
        is_set = OmegaConf.select(cfg, source[1]) is not None
    except OmegaConfBaseException:  # the error is that of the source
        is_set = True
    return replace(problem, key=source[1]) if is_set else problem


def _child(node: DictConfig | ListConfig, name: Any, parent: str, problems: list[Problem]) -> Any:
    key = f"{parent}.{name}".lstrip(".")
    if OmegaConf.is_missing(node, name):
        problems.append(_required(key))
        return _ABSENT
    try:
        return _resolved(node[name], key, problems)
    except OmegaConfBaseException as error:
        raw = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[index]
        problems.append(unresolved(key, str(raw), error))
        return _ABSENT


def _required(key: str) -> Problem:
    return Problem(key, f"{KEY} is required", f"set {KEY}={_EXAMPLES.get(key, 'VALUE')}")


# --- keys ------------------------------------------------------------------------------------------------


@functools.cache
def _groups() -> Mapping[str, list[str]]:
    """Return group -> names of its shipped options."""
    return Request().groups


def _top_level(plain: Mapping[str, Any]) -> Iterator[Problem]:
    valid_keys = top_level_keys()
    known_nodes = {key: value for key, value in plain.items() if key in valid_keys}
    for key, value in plain.items():
        if key not in valid_keys:
            hint = suggest_key(key, value, _groups(), known_nodes)
            if not hint and (close := nearest(key, valid_keys)):
                hint = f"a similar key exists: {close}"
            elif not hint and key.isidentifier():
                hint = f"for values of your own, use vars.{key}=VALUE"
            text = f"unknown key {key!r}"
            if "/" in key:
                text, hint = f"unknown config group {key!r}", "list the groups with `hydratune configs`"
            yield Problem(key, text, hint)
    for key in BUILT:
        node = select(plain, key)
        if not isinstance(node, dict) or "_target_" not in node:
            hint = f"list the options with `hydratune configs {key.partition('.')[0]}`"
            yield invalid_value(key, "a mapping with a _target_", display_value(node), hint)


# --- targets ---------------------------------------------------------------------------------------------


def _targets(node: Any, key: str) -> Iterator[Problem]:
    """Yield the errors of every node with a `_target_`, at any depth."""
    for target_key, target_node in allowlist.targets(node, key):
        yield from _target(target_node, target_key)


def _target(node: Mapping[str, Any], key: str) -> Iterator[Problem]:
    path = node["_target_"]
    if problem := allowlist.check_target(path, f"{key}._target_"):
        yield problem
        return
    if "_args_" in node:
        yield Problem(f"{key}._args_", f"{KEY} is not supported", "name each argument")
    if target_signature := signature(path):
        yield from _arguments(node, key, target_signature)


def _arguments(node: Mapping[str, Any], key: str, target_signature: Signature) -> Iterator[Problem]:
    arguments = {name: value for name, value in node.items() if name not in RESERVED}
    for name, value in arguments.items():
        full_key = f"{key}.{name}"
        if full_key in DECIDED:
            hint = DECIDED[full_key].format(value) if isinstance(value, str) else DECIDED[full_key]
            yield Problem(full_key, f"{KEY} is managed by hydratune", hint)
        elif full_key == "trainer.callbacks":  # by name, so that a config can add one and an override can drop one
            if not isinstance(value, dict) or not all(map(_is_node, value.values())):
                requirement = "a mapping of names to callbacks, each with a _target_"
                hint = "choose callbacks: 'trainer/callbacks=[early_stopping]'"
                yield invalid_value(full_key, requirement, display_value(value), hint)
        elif name in target_signature.parameters:
            skip = value is _ABSENT or _is_node(value)
            parameter = target_signature.parameters[name]
            if not skip and (expected_type := type_error(parameter, value)):
                yield invalid_value(
                    full_key, expected_type, display_value(value), value_hint(value, parameter, target_signature)
                )
        elif not target_signature.accepts_any and not is_neutral(full_key, value):
            yield _unknown_argument(key, name, value, target_signature, str(node["_target_"]))
    if not node.get("_partial_"):
        for name, parameter in target_signature.parameters.items():
            if parameter.required and name not in arguments and not name.startswith("*"):
                yield _required(f"{key}.{name}")


def _unknown_argument(key: str, name: str, value: Any, target_signature: Signature, target: str) -> Problem:
    text = f"{KEY} is not an argument of {target}"
    if key == "trainer.args":
        text = f"unknown training argument {name!r}"
    elif target.startswith("hydratune."):  # an option has named the class, not the user
        text = f"unknown argument {KEY}"
    hint = (
        f"list the arguments with `python -m pydoc {target_signature.path}`\n"
        f"if a config file sets it, delete it with '~{KEY}'"
    )
    suggestion = suggest_argument(key, name, value, target_signature.parameters, _groups())
    return Problem(f"{key}.{name}", text, suggestion or hint)


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


# --- checks of our own objects ---------------------------------------------------------------------------


def _own_checks(plain: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield the errors that our classes' `check` methods find, for nodes that have no error yet."""
    objects: dict[str, Any] = {}
    sets: list[str] = []
    needed: dict[str, hub.Repository] = {}
    for key in CHECKED:
        node = select(plain, key)
        if not isinstance(node, dict) or any(
            blamed_key == key or blamed_key.startswith(f"{key}.") for blamed_key in blamed
        ):
            continue
        instance = _light_object(node)
        node_problems = [problem.under(key) for problem in instance.check()] if hasattr(instance, "check") else []
        yield from node_problems
        if key == "dataset" and instance is not None:
            sets = _sets(instance, is_valid=not node_problems)
        if not node_problems:
            objects[key] = instance
            needed |= {f"{key}.{name}": repo for name, repo in getattr(instance, "needs", dict)().items()}
    yield from hub.check(needed)
    task, dataset, cv = (objects.get(key) for key in ("task", "dataset", "cv"))
    if dataset is not None and cv is not None:
        yield from cv.check_dataset(dataset)
    if task is not None and dataset is not None:
        yield from _columns(dataset, task)
        if getattr(dataset, "streaming", False) and not task.streams:
            text = f"{KEY}=true is not supported for this task: {type(task).__name__} needs all rows"
            yield Problem("dataset.streaming", text, f"set {KEY}=false")
    if task is not None and "objective" not in blamed:
        yield from check_objective(plain, task, sets, getattr(dataset, "sets_option", ""))


def _sets(dataset: Any, is_valid: bool) -> list[str]:
    """Return the names of the validation sets; with errors, e.g. a missing file, as far as the option has them."""
    option = getattr(dataset, "sets_option", "")
    has_names = is_valid or isinstance(getattr(dataset, option or "_", None), Mapping)
    return dataset.validation_sets() if has_names else []


def _columns(dataset: Any, task: Any) -> Iterator[Problem]:
    """Yield the errors of the columns that the task reads; suggest a shipped task that fits the data."""
    column_problems = [problem.under("dataset") for problem in dataset.check_columns(task.columns)]
    is_missing = bool(column_problems) and column_problems[0].key.startswith("dataset.columns")
    other_tasks = (
        [(name, columns) for name, columns in _shipped_tasks() if _reads_more(columns, task.columns)]
        if is_missing
        else []
    )
    # Labels may be words, so tasks that read numbers come last.
    other_tasks.sort(key=lambda task: any(column.kind == "number" and column.required for column in task[1].values()))
    if fitting_tasks := [name for name, columns in other_tasks if not any(dataset.check_columns(columns))]:
        hints = (column_problems[0].hint, f"for a task that reads these columns, set task={fitting_tasks[0]}")
        column_problems[0] = replace(column_problems[0], hint="\n".join(filter(None, hints)))
    yield from column_problems


def _reads_more(columns: Mapping[str, Any], other_columns: Mapping[str, Any]) -> bool:
    """Return whether data with the columns of a task is likely meant for it, not for a task that reads `other_columns`.

    Text columns alone do not indicate a particular task.
    """
    required = {name for name, column in columns.items() if column.required}
    return len(required) > 1 and bool(required - {*other_columns})


def _shipped_tasks() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each option of the group `task` with its columns, except for options that require none."""
    for option in options(shipped_dir()):
        if option.group == "task":
            module, _, name = str(OmegaConf.load(option.path)._target_).rpartition(".")
            columns = getattr(importlib.import_module(module), name).columns
            if any(column.required for column in columns.values()):
                yield option.name, columns


def _light_object(node: Mapping[str, Any]) -> Any:
    """Build an object of one of our classes, whose modules import nothing heavy; return None for other targets."""
    path = str(node.get("_target_"))
    if not path.startswith("hydratune.") or allowlist.check_target(path, ""):
        return None
    module, _, name = path.rpartition(".")
    target = getattr(importlib.import_module(module), name)
    if not inspect.isclass(target):
        return None
    return target(**{key: _light_value(value) for key, value in node.items() if key not in RESERVED})


def _light_value(value: Any) -> Any:
    """Return a value in which our own nodes are built; other nodes stay as they are."""
    if _is_node(value) and (built := _light_object(value)) is not None:
        return built
    return {name: _light_value(item) for name, item in value.items()} if isinstance(value, dict) else value
