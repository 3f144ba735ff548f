"""Allow-list of the code that a `_target_` in a config may name.

A config is data, and data must not run arbitrary code.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydratune.config import trust
from hydratune.config.signatures import Found, bases, locate, module_names
from hydratune.utils.errors import KEY, ConfigError, Problem, child_key, display_value, invalid_value, nearest

PACKAGES = ("hydratune", "optuna.samplers", "peft", "transformers")
EXPORTING = ("data", "models", "sweep", "tasks", "tracking", "training")  # our packages whose exports configs name
VARIABLE = "HYDRATUNE_ALLOW"
# The configs of peft whose fields were reviewed; `adapters` rejects fields that name files.
_PEFT = (
    *("boft.config.BOFTConfig", "c3a.config.C3AConfig", "fourierft.config.FourierFTConfig", "hra.config.HRAConfig"),
    *("ia3.config.IA3Config", "ln_tuning.config.LNTuningConfig", "loha.config.LoHaConfig", "lokr.config.LoKrConfig"),
    *("lora.config.LoraConfig", "oft.config.OFTConfig", "p_tuning.config.PromptEncoderConfig"),
    *("prefix_tuning.config.PrefixTuningConfig", "randlora.config.RandLoraConfig", "vera.config.VeraConfig"),
)
_OWN = "hydratune.config.configurable.Configurable"
# Class -> keys at which a config may name it or a subclass; elsewhere it would escape the checks of its arguments.
# Functions and other classes may write files, download, or run code that they are given.
_KINDS = {
    _OWN: r"(?!trainer\b).*",  # unless it is of another kind, too
    "optuna.samplers._base.BaseSampler": r"sweep\.sampler\b.*",
    **dict.fromkeys((f"peft.tuners.{name}" for name in _PEFT), r"adapter\b.*"),
    "transformers.trainer.Trainer": "trainer",
    "transformers.trainer_callback.TrainerCallback": r"trainer\.callbacks\.[^.]+",
    "transformers.training_args.TrainingArguments": r"trainer\.args",
}
# Subclass of `_KINDS` that is unsafe with data from someone else -> the class to name instead.
_REPLACED = {"optuna.samplers._cmaes.CmaEsSampler": "hydratune.sweep.CmaEsSampler"}
_REPORTERS = ("transformers.integrations",)  # their callbacks send metrics to servers, or write to other directories
_USABLE = (
    "a dataset, task, metric, model, adapter, hardware, tracking, sweep, Optuna sampler, PEFT config, "
    "TrainingArguments, Trainer, or TrainerCallback"
)
# Node below `hydra` -> the classes that a config may name there. Hydra instantiates them. Other nodes have none.
_HYDRA = {
    "hydra.launcher": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    ),
}


def export_allowlist() -> None:
    """Read the allow-list once and pass it to child processes, whatever their working directory."""
    with contextlib.suppress(ConfigError):  # a file that cannot be read is reported when a config is checked
        if names := user_allowlist():
            os.environ[VARIABLE] = ",".join(names)


def user_allowlist() -> tuple[str, ...]:
    """Return the dotted names that the user allows in addition to our own list.

    They never come from a config. The sources are:

    - the environment variable HYDRATUNE_ALLOW, separated by commas
    - `allow = [...]` under `[tool.hydratune]` in the `pyproject.toml` of the directory in which this process started,
      if the user trusts that list
    """
    named = (name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return tuple(dict.fromkeys([*trust.trusted_names(), *(name for name in named if name)]))


def how_to_allow(name: str) -> str:
    """Return the hint for an error about code that is not on the allow-list."""
    if is_in(name, trust.untrusted_names()):
        return "if you trust the list in pyproject.toml, run `hydratune trust`"
    names = ",".join([*filter(None, [os.environ.get(VARIABLE)]), name])
    command = f"export {VARIABLE}={shlex.quote(names)}"
    listed = "list it in pyproject.toml under [tool.hydratune] allow and run `hydratune trust`"
    return f"if you trust it, run `{command}`, or {listed}"


def check_target(path: Any, key: str) -> Problem | None:
    """Return an error if a config's `_target_` must not be imported and called, else None.

    The source text is inspected; nothing is imported.

    Args:
        path: Value of `_target_`.
        key: Dotted key of `_target_`; `._target_` or empty for a node outside of a config.
    """
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        return invalid_value(key, "the dotted name of a class, such as package.module.Class", display_value(path))
    user_names = user_allowlist()
    if key.startswith("hydra."):  # Hydra imports and instantiates it, whatever its class
        allowed = _HYDRA.get(key.removesuffix("._target_"), ())
        if path in allowed or is_in(path, user_names):
            return None
        return Problem(key, f"{path!r} is not on the allow-list ({KEY})", how_to_allow(path))
    allowed_names = (*PACKAGES, *user_names)
    definition = locate(path) if is_in(path, allowed_names) else None
    if definition and path in user_names:
        return None
    if not is_in(path, allowed_names):
        return Problem(key, f"{path!r} is not on the allow-list ({KEY})", how_to_allow(path.partition(".")[0]))
    if definition is None:
        return Problem(key, f"{KEY} names a class that does not exist: {path!r}", _nearest(path))
    if not is_in(definition.path, allowed_names):
        text = f"{path!r} is defined in {definition.module.name}, which is not on the allow-list ({KEY})"
        return Problem(key, text, how_to_allow(path))
    if is_in(path, user_names) and is_in(definition.path, user_names):
        return None
    if definition.path in _REPLACED:
        hint = f"set {KEY}={_REPLACED[definition.path]}"
        return Problem(key, f"{path!r} is not allowed, because it stores pickles in the study ({KEY})", hint)
    if is_in(definition.path, _REPORTERS):
        hint = "set trainer.args.report_to=NAME on the command line"
        return Problem(key, f"{path!r} is not allowed, because it reports to a tracker ({KEY})", hint)
    kinds = _kinds(definition)
    if any(part.startswith("_") for part in path.split(".")) or not kinds:
        return Problem(key, f"{KEY} must be {_USABLE}, not {path!r}", how_to_allow(path))
    place, narrower_kinds = key.removesuffix("._target_"), kinds - {_OWN}
    if place and not any(re.fullmatch(_KINDS[kind], place) for kind in narrower_kinds or kinds):
        return Problem(key, f"{path!r} is not allowed at {KEY}, where its arguments are not checked", f"remove {place}")
    return None


def load(path: Any, key: str) -> Any:
    """Import and return the class or function that a config names at `key`.

    Raises:
        ConfigError: `path` does not exist, or a config must not name it.
    """
    if problem := check_target(path, key):
        raise ConfigError(problem)
    definition = locate(path)
    assert definition is not None  # `check_target` has located it
    owner, name = path.rpartition(".")[::2]
    if definition.owner:  # a method of one of the user's own classes
        module, kind = owner.rpartition(".")[::2]
        return getattr(getattr(importlib.import_module(module), kind), name)
    return getattr(importlib.import_module(owner), name)


def user_allowed_targets(node: Any) -> list[str]:
    """Return the `_target_`s of a plain config that are on the user's own list, sorted."""
    user_names = user_allowlist()
    paths = {str(target_node["_target_"]) for _, target_node in targets(node)}
    return sorted(path for path in paths if is_in(path, user_names))


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each node of a plain config that has a `_target_`, at any depth, as (dotted key, node)."""
    if isinstance(node, list):
        for i, value in enumerate(node):
            yield from targets(value, f"{key}[{i}]")
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield key, node
    for name, value in node.items():
        yield from targets(value, child_key(key, name))


def is_in(path: str, packages: Iterable[str]) -> bool:
    """Return whether a dotted name equals one of `packages` or is below one of them."""
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _kinds(definition: Found) -> set[str]:
    """Return the classes in `_KINDS` that a class is, or inherits from."""
    seen, pending = set(), [definition]
    while pending:
        candidate = pending.pop()
        if candidate.path not in seen:
            seen.add(candidate.path)
            if isinstance(candidate.node, ast.ClassDef):
                pending += filter(None, bases(candidate))
    return seen & _KINDS.keys()


def _nearest(path: str) -> str:
    """Return the hint for an error about a name that does not exist."""
    module, _, name = path.rpartition(".")
    exports = (f"hydratune.{package}" for package in EXPORTING if name in module_names(f"hydratune.{package}"))
    close = nearest(name, module_names(module))
    suggestion = next((f"{package}.{name}" for package in exports), f"{module}.{close}" if close else None)
    return f"a similar name exists: {suggestion}" if suggestion else ""
