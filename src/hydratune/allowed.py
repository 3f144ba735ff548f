"""Which code a config may name: what `_target_` can lead to. A config is data, and data must not run what it likes."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydratune.errors import ConfigError, Mistake, nearest, one_of
from hydratune.signatures import Found, bases, locate, module_names

PACKAGES = ("hydratune", "optuna.samplers", "peft", "transformers")
VARIABLE = "HYDRATUNE_ALLOW"
# What of these packages a config may name: these classes and what inherits from them. A function, or any other class,
# may write files, download or run what it is given.
_KINDS = {
    "hydratune.adapters.NoAdapter",
    "hydratune.data.base.Source",
    "hydratune.data.mixture.Mixture",
    "hydratune.hardware.base.Hardware",
    "hydratune.hardware.distributed.Launch",
    "hydratune.models.base.Model",
    "hydratune.sweep.options.Sweep",
    "hydratune.tasks.base.Task",
    "hydratune.tasks.metric.Metric",
    "hydratune.tracking.base.Tracking",
    "hydratune.training.trainer.Trainer",
    "optuna.samplers._base.BaseSampler",
    "peft.config.PeftConfig",
    "transformers.trainer.Trainer",
    "transformers.trainer_callback.TrainerCallback",
    "transformers.training_args.TrainingArguments",
}
_SPOKEN = (
    "a dataset, task, metric, model, adapter, hardware, tracking, sweep, optuna sampler, peft config, "
    "TrainingArguments, Trainer or TrainerCallback"
)
# What Hydra itself may build, below `hydra`.
HYDRA = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra_plugins.hydratune.sweeper.HydratuneSweeper",
)


def settle() -> None:
    """Reads the list once and leaves it to the processes that this one starts, wherever they start."""
    with contextlib.suppress(ConfigError):  # a file that cannot be read is told where a config is checked
        if names := listed():
            os.environ[VARIABLE] = ",".join(names)


def listed() -> tuple[str, ...]:
    """What the user allows beside our own list, by dotted names.

    From `allow = [...]` under `[tool.hydratune]` in the `pyproject.toml` of the directory that this process began in,
    and from the environment variable HYDRATUNE_ALLOW, separated by commas. Never from a config.
    """
    named = (name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return tuple(dict.fromkeys([*_of_project(), *(name for name in named if name)]))


def mistake(path: Any, key: str, more: Iterable[str] = ()) -> Mistake | None:
    """What is wrong with a config's `_target_` at `key`; None where it may be imported and called.

    Told from source text: nothing is imported.

    Args:
        path: The value of `_target_`.
        key: Where it stands.
        more: Classes that may be named here, by their dotted paths.
    """
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        return Mistake(key, "the dotted name of a class", repr(path), "Write it out: a.b.Class.")
    own = listed()
    if path in more:
        return None
    known = (*PACKAGES, *own)
    found = locate(path) if _is_in(path, known) else None
    if found and path in own:
        return None
    if not _is_in(path, known) or (found and not _is_in(found.path, known)):
        fix = f"To run this code, list its package under [tool.hydratune] allow in pyproject.toml or in {VARIABLE}."
        return Mistake(key, f"code of {one_of(PACKAGES)}", repr(path), fix)
    if found is None:
        return Mistake(key, "a class or function that exists", repr(path), _nearest(path))
    if _is_in(path, own) and _is_in(found.path, own):
        return None
    if any(part.startswith("_") for part in path.split(".")) or not _is_kind(found):
        fix = f"To run this code all the same, list this name under [tool.hydratune] allow or in {VARIABLE}."
        return Mistake(key, _SPOKEN, repr(path), fix)
    return None


def load(path: Any, key: str) -> Any:
    """The class or function that a config names at `key`, imported; raises ConfigError where it may not be."""
    if wrong := mistake(path, key):
        raise ConfigError(wrong)
    found = locate(path)
    assert found is not None  # `mistake` has seen it
    owner, name = path.rpartition(".")[::2]
    if found.owner:  # a method, of a class of the user's own
        module, kind = owner.rpartition(".")[::2]
        return getattr(getattr(importlib.import_module(module), kind), name)
    return getattr(importlib.import_module(owner), name)


def beyond(node: Any) -> list[str]:
    """The `_target_`s of a plain config that only the user's own list allows."""
    own = listed()
    named = {str(one["_target_"]) for _, one in targets(node)}
    return sorted(path for path in named if path not in HYDRA and _is_in(path, own))


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every node of a plain config that says what it builds, wherever it stands: its key, and itself."""
    if isinstance(node, list):
        for i, value in enumerate(node):
            yield from targets(value, f"{key}[{i}]")
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield key, node
    for name, value in node.items():
        yield from targets(value, f"{key}.{name}".lstrip("."))


@functools.cache
def _of_project() -> list[str]:
    """What the first working directory's pyproject.toml lists, read once.

    A config or a stored run that changes the directory must not bring a list of its own.
    """
    project = Path.cwd() / "pyproject.toml"
    if not project.is_file():
        return []
    try:
        tools = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError) as error:
        fix = f"Mend {project}."
        raise ConfigError(Mistake("pyproject.toml", "a readable TOML file", str(error), fix)) from error
    allow = tools.get("hydratune", {}).get("allow", [])
    if not isinstance(allow, list) or not all(isinstance(name, str) for name in allow):
        fix = 'Write allow = ["my_package"].'
        raise ConfigError(Mistake("pyproject.toml [tool.hydratune] allow", "a list of packages", repr(allow), fix))
    return allow


def _is_in(path: str, packages: Iterable[str]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _is_kind(found: Found) -> bool:
    """Whether a class is one of `_KINDS` or inherits from one."""
    seen, waiting = set(), [found]
    while waiting:
        one = waiting.pop()
        if one.path in _KINDS:
            return True
        if one.path not in seen and isinstance(one.node, ast.ClassDef):
            seen.add(one.path)
            waiting += filter(None, bases(one))
    return False


def _nearest(path: str) -> str:
    module, _, name = path.rpartition(".")
    close = nearest(name, module_names(module))
    return f"Did you mean {module}.{close}?" if close else "Correct the path."
