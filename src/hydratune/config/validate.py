"""Validation of a config: all errors together, before anything heavy is imported or loaded."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import allowlist, hydra_guard, instantiate
from hydratune.config.composition import options, shipped_dir, without_hydra
from hydratune.config.rules import agreement, bounds, refused_arguments, select
from hydratune.config.signatures import Signature, signature, type_error
from hydratune.config.suggestions import suggest_argument, suggest_key
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError, Mistake, Problem, invalid_value, nearest, one_of
from hydratune.utils.provenance import has_literal_secret, is_secret

# The nodes that a run builds, each by its `_target_`.
BUILT = ("dataset", "task", "model", "adapter", "trainer", "trainer.args", "hardware", "tracking", "sweep")
# Nodes whose classes check more about their arguments than a signature tells.
CHECKED = ("dataset", "task", "model", "adapter", "hardware", "tracking", "sweep")
# An interpolation. In the user information of an address, the text next to the interpolation matches too.
_INTERPOLATION = re.compile(r"(?<=://)[^/\s]*\$\{[^{}]*\}[^/\s]*(?=@)|\$\{[^{}]*\}")
# Keys that may hold a secret of the environment, because it is masked wherever they are written. The name of a key is
# not enough: `model.config.id2label.token` is a part of the model.
_MASKED = ("tracking.uri", "tracking.tags.", "tracking.run_name", "sweep.storage", "trainer.args.hub_token", "vars.")
_FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\w+\}")
RESERVED = (*instantiate.RESERVED, "_args_")  # Hydra's own keys of a node with a `_target_`
# Key that the run decides, so that a config must not set it -> what to set instead.
DECIDED = {
    "trainer.args.output_dir": "Set hydra.run.dir.",
    "trainer.args.fsdp": "Set hardware=fsdp.",
    "trainer.args.fsdp_config": "Set hardware=fsdp and hardware.fsdp_config.",
    "trainer.model": "Set model.",
    "trainer.train_dataset": "Set dataset.",
    "trainer.eval_dataset": "Set dataset.",
    "trainer.data_collator": "Set task.",
    "trainer.compute_metrics": "Set task.metrics.",
    "trainer.preprocess_logits_for_metrics": "Set task.metrics.",
    "trainer.processing_class": "Set model.",
}


def check_config(cfg: DictConfig) -> None:
    """Raise ConfigError unless `cfg` can run, as far as that can be checked without its data and weights.

    This imports none of torch, transformers, datasets, and mlflow: signatures are read from source text.

    Args:
        cfg: A composed config. If it has a `hydra` node, the `_target_`s of that node are checked too.

    Raises:
        ConfigError: The config is invalid; it has all errors together.
    """
    run_cfg = without_hydra(cfg)
    problems = [*_literal_secrets(run_cfg)]
    plain = _code(run_cfg, problems)
    problems += _resolved_secrets(plain, {problem.key for problem in problems})
    if "hydra" in cfg:  # Hydra runs its callbacks, sweeper and launcher from here
        problems += hydra_guard.check_hydra_node(cfg.hydra)
        problems += _targets(OmegaConf.to_container(cfg.hydra, resolve=False), "hydra")
    problems += _own_checks(plain, {problem.key for problem in problems})
    problems += bounds(plain, {problem.key for problem in problems})
    problems += agreement(plain, {problem.key for problem in problems})
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
            problems.append(invalid_value(key, "text", repr(plain.get(key))))
    args = select(plain, "trainer.args")
    problems += refused_arguments(args) if isinstance(args, dict) else ()
    if problems:
        raise ConfigError(*problems)


def check_part(cfg: DictConfig, key: str) -> None:
    """Raise ConfigError unless one node of a config is valid by itself.

    Raises:
        ConfigError: The node is invalid; it has all errors together.
    """
    problems = [*_literal_secrets(OmegaConf.masked_copy(cfg, [key]))]
    plain = {key: _child(cfg, key, "", problems)}
    problems += _resolved_secrets(plain, {problem.key for problem in problems})
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
    return node


_ABSENT = object()  # placeholder for a value, so that its error is reported once


def _unresolved(key: str, raw: str, error: OmegaConfBaseException) -> Problem:
    package = re.search(r"\$\{package_path:(\w+)", raw)
    if package and importlib.util.find_spec(package[1]) is None:
        fix = "Install it; the demo's packages come with pip install 'hydratune[demo]'."
        return Mistake(key, f"the package {package[1]} to be installed", "none", fix)
    if variable := re.search(r"Environment variable '(.+)' not found", str(error)):
        return Mistake(key, f"the environment variable {variable[1]}", "none", f"Run `export {variable[1]}=VALUE`.")
    got = f"{raw!r}: {str(error).splitlines()[0].rstrip('.')}"
    return Mistake(key, "an interpolation that resolves", got, "Correct the name inside.")


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
    if source is None or OmegaConf.select(cfg, source[1]) is None:
        return problem
    fix = problem.fix.replace(problem.key, source[1])
    return replace(problem, key=source[1], hint=problem.hint.replace(problem.key, source[1]), fix=fix)


def _child(node: DictConfig | ListConfig, name: Any, parent: str, problems: list[Problem]) -> Any:
    key = f"{parent}.{name}".lstrip(".")
    if OmegaConf.is_missing(node, name):
        problems.append(Mistake(key, "a value", "none", f"Set {key}=VALUE."))
        return _ABSENT
    try:
        return _resolved(node[name], key, problems)
    except OmegaConfBaseException as error:
        raw = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[index]
        problems.append(_unresolved(key, str(raw), error))
        return _ABSENT


def _literal_secrets(cfg: DictConfig) -> Iterator[Problem]:
    """Yield an error for each secret that is written out; `${oc.env:NAME}` stays as it is in every file of a run.

    A secret comes from the user's environment and from nowhere else. With someone else's token, a push would send the
    model to them.
    """
    leaves = [*_leaves(OmegaConf.to_container(cfg, resolve=False))]
    if has_literal_secret("\n".join(key for key, _ in leaves)):
        for key in (key for key, _ in leaves if has_literal_secret(key)):
            yield Mistake(key, "no secret in the name of a key", "one", "Rename the key.")
    for key, value in leaves:
        if not isinstance(value, str) or value == "???":
            continue
        written = _INTERPOLATION.sub("", value)
        if (is_secret(key) and not _FROM_ENVIRONMENT.fullmatch(value)) or has_literal_secret(written):
            fix = f"Put it into the environment and set {key}='${{oc.env:NAME}}'."
            if key.endswith("hub_token"):
                fix = "Run `hf auth login` or set HF_TOKEN in the environment."
            yield Mistake(key, "no secret in a config", "one", fix)


def _resolved_secrets(plain: Any, reported: Collection[str]) -> Iterator[Problem]:
    """Yield an error for each value that holds a secret of the environment, except where a secret is expected.

    Names of labels, runs, and experiments become parts of models, directories, and records, in which nothing is masked.
    """
    for key, value in _leaves(plain):
        is_expected = key.startswith(_MASKED) or key in reported
        if isinstance(value, str) and not is_expected and has_literal_secret(value):
            fix = f"Leave the secret out: the value of {key} is written to files and sent to servers as it is."
            yield Mistake(key, "a value without secrets", "one with a secret of the environment", fix)


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if pairs is None:
        yield key, node
    else:
        for name, value in pairs:
            yield from _leaves(value, f"{key}.{name}".lstrip("."))


# --- keys ------------------------------------------------------------------------------------------------


def top_level_keys() -> list[str]:
    """Return the keys and groups of the shipped train.yaml."""
    shipped = yaml.safe_load((files("hydratune.conf") / "train.yaml").read_text(encoding="utf-8"))
    entries = [next(iter(entry)) for entry in shipped["defaults"] if isinstance(entry, dict)]
    groups = [group for group in entries if " " not in group and "/" not in group]
    return [key for key in (*groups, *shipped) if key not in ("defaults", "experiment", "hydra")]


def _top_level(plain: Mapping[str, Any]) -> Iterator[Problem]:
    valid_keys = top_level_keys()
    for key in plain:
        if key not in valid_keys:
            others = {name: value for name, value in plain.items() if name in valid_keys}
            close = suggest_key(key, others) or nearest(key, valid_keys)
            fix = f"Did you mean {close}?" if close else f"Put values of your own below vars: vars.{key}."
            yield Mistake(key, one_of(valid_keys, "hydratune --cfg job"), repr(key), fix)
    for key in BUILT:
        node = select(plain, key)
        if not isinstance(node, dict) or "_target_" not in node:
            fix = f"Choose an option: run `hydratune configs {key.partition('.')[0]}`."
            yield Mistake(key, "a node with a _target_", repr(node), fix)


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
        yield Mistake(f"{key}._args_", "arguments by name", repr(node["_args_"]), "Name each argument.")
    if target_signature := signature(path):
        yield from _arguments(node, key, target_signature)


def _arguments(node: Mapping[str, Any], key: str, target_signature: Signature) -> Iterator[Problem]:
    arguments = {name: value for name, value in node.items() if name not in RESERVED}
    for name, value in arguments.items():
        full_key = f"{key}.{name}"
        if full_key in DECIDED:
            yield Mistake(full_key, "nothing, since the run decides it", repr(value), DECIDED[full_key])
        elif full_key == "trainer.callbacks":  # by name, so that a config can add one and an override can drop one
            if not isinstance(value, dict) or not all(map(_is_node, value.values())):
                fix = "Choose some: 'trainer/callbacks=[early_stopping]'."
                yield Mistake(full_key, "callbacks by name, each with a _target_", repr(value), fix)
        elif name in target_signature.parameters:
            skip = value is _ABSENT or _is_node(value)
            if not skip and (expected_type := type_error(target_signature.parameters[name], value)):
                yield Mistake(full_key, expected_type, repr(value), _suggest_fix(full_key, value, expected_type))
        elif not target_signature.accepts_any:
            close = suggest_argument(name, target_signature.parameters)
            otherwise = f"Remove it with '~{full_key}', or see the arguments of {target_signature.path}."
            fix = f"Did you mean {key}.{close}?" if close else otherwise
            yield Mistake(full_key, f"an argument of {node['_target_']}", repr(name), fix)
    if not node.get("_partial_"):
        for name, parameter in target_signature.parameters.items():
            if parameter.required and name not in arguments and not name.startswith("*"):
                yield Mistake(f"{key}.{name}", "a value", "none", f"Set {key}.{name}=VALUE.")


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _suggest_fix(key: str, value: Any, expected_type: str) -> str:
    if isinstance(value, str) and expected_type.startswith("one of"):
        close = nearest(value, expected_type.removeprefix("one of ").strip("[]").replace("'", "").split(", "))
        return f"Did you mean {key}={close}?" if close else f"Set {key} to one of them."
    if expected_type == "str" and not isinstance(value, dict | list) and value is not None:
        return f"Quote it: '{key}=\"{value}\"'."
    return f"Set {key} to {expected_type}."


# --- checks of our own objects ---------------------------------------------------------------------------


def _own_checks(plain: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield the errors that our classes' `check` methods find, for nodes that have no error yet."""
    objects: dict[str, Any] = {}
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
        if not node_problems:
            objects[key] = instance
            needed |= {f"{key}.{name}": repo for name, repo in getattr(instance, "needs", dict)().items()}
    yield from hub.check(needed)
    task, dataset = objects.get("task"), objects.get("dataset")
    if task is not None and dataset is not None:
        yield from _columns(dataset, task)
        if getattr(dataset, "streaming", False) and not task.streams:
            fix = "Set dataset.streaming=false."
            yield Mistake("dataset.streaming", f"false, since {type(task).__name__} needs all rows", "true", fix)
    if (
        task is not None
        and "objective" not in blamed
        and (objective := plain.get("objective")) not in task.objectives()
    ):
        options = task.objectives()
        close = nearest(str(objective), options) or options[-1]
        yield Mistake("objective", f"one of {options}", repr(objective), f"Set objective={close}.")


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
    other_tasks.sort(key=lambda task: any(column.kind == "number" for column in task[1].values()))
    if fitting_tasks := [name for name, columns in other_tasks if not any(dataset.check_columns(columns))]:
        fix = f"{column_problems[0].hint} Or set task={fitting_tasks[0]}, which reads such columns."
        column_problems[0] = replace(
            column_problems[0],
            hint=fix,
            fix=fix,
        )
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
    path = str(node["_target_"])
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
