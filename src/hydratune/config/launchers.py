"""Typed allow-list of the settings of Hydra's launchers that a config may change.

submitit writes the settings into an sbatch script. joblib and Ray use them to create folders, evaluate expressions,
open ports, and start commands. So each key is listed with the values that it accepts. No text may have control
characters: a line break in a comment would be another line of the script.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydratune.config import allowlist
from hydratune.utils.errors import KEY, Problem, display_value, invalid_value, join_or, nearest, similar

_KEY = "hydra.launcher"


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and "${" not in value


def _label(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.:+-]+", value, re.ASCII) is not None


def _job_name(value: Any) -> bool:
    return value == "${hydra.job.name}" or _label(value)


def _batches(value: Any) -> bool:
    """Return whether a value is a safe expression for joblib, which evaluates it as Python arithmetic."""
    return _count(value) or re.fullmatch(r"all|auto|[0-9]{1,6}|([0-9]{1,3}\s*\*\s*)?n_jobs", str(value)) is not None


def _size(value: Any) -> bool:
    return _count(value) or re.fullmatch(r"[0-9]+[KMGT]?", str(value)) is not None


def _loopback(value: Any) -> bool:
    try:
        return value == "localhost" or ipaddress.ip_address(value).is_loopback
    except ValueError:
        return False


def _amounts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_label(name) and _number(amount) for name, amount in value.items())


Check = Callable[[Any], bool]
_REQUIREMENTS: dict[Check, str] = {
    _count: "an integer of at least 0",
    _integer: "an integer",
    _number: "a number of at least 0",
    _boolean: "true or false",
    _text: "one line of text without interpolations",
    _label: "a word of letters, digits, and any of ._:+-",
    _job_name: "a word of letters, digits, and any of ._:+-",
    _batches: "an integer, all, auto, or N*n_jobs",
    _size: "a size such as 10M",
    _loopback: "an address of this machine, because whoever reaches it can run code",
    _amounts: "a mapping of names to numbers",
}
_JOBLIB: dict[str, Check] = {
    "n_jobs": _integer,
    "backend": _label,
    "prefer": _label,
    "require": _label,
    "verbose": _count,
    "timeout": _number,
    "pre_dispatch": _batches,
    "batch_size": _batches,
    "max_nbytes": _size,
    "mmap_mode": _label,
}
_SUBMITIT: dict[str, Check] = {
    **dict.fromkeys(("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"), _count),
    "name": _job_name,
    "stderr_to_stdout": _boolean,
}
_SLURM: dict[str, Check] = {
    **_SUBMITIT,
    **dict.fromkeys(("partition", "qos", "comment", "constraint", "exclude", "gres", "account"), _text),
    **dict.fromkeys(("mem_per_gpu", "mem_per_cpu"), _size),
    **dict.fromkeys(("cpus_per_gpu", "gpus_per_task", "signal_delay_s"), _count),
    **dict.fromkeys(("max_num_timeout", "array_parallelism"), _count),
}
_RAY: dict[str, Check] = {
    **dict.fromkeys(("ray.init.num_cpus", "ray.init.num_gpus"), _number),
    **dict.fromkeys(("ray.init.object_store_memory", "ray.init.dashboard_port"), _count),
    "ray.init.resources": _amounts,
    "ray.init.dashboard_host": _loopback,
    **dict.fromkeys(("ray.init.include_dashboard", "ray.init.log_to_driver"), _boolean),
    **dict.fromkeys(("ray.init.logging_level", "ray.init.namespace"), _label),
    **dict.fromkeys(("ray.remote.num_cpus", "ray.remote.num_gpus"), _number),
    **dict.fromkeys(("ray.remote.memory", "ray.remote.max_calls"), _count),
    "ray.remote.max_retries": _integer,
    "ray.remote.resources": _amounts,
    **dict.fromkeys(("ray.remote.accelerator_type", "ray.remote.scheduling_strategy"), _label),
}


class LauncherKind(StrEnum):
    """Launchers of Hydra that are on the allow-list, by the name of their class."""

    BASIC = "BasicLauncher"
    JOBLIB = "JoblibLauncher"
    SUBMITIT_LOCAL = "LocalLauncher"
    SUBMITIT_SLURM = "SlurmLauncher"
    RAY = "RayLauncher"

    @property
    def option(self) -> str:
        """Its option of the group hydra/launcher."""
        return self.name.lower()


# The settings of each launcher, except for the folders below, which `_folder` checks.
_SETTINGS: dict[LauncherKind, dict[str, Check]] = {
    LauncherKind.BASIC: {},
    LauncherKind.JOBLIB: _JOBLIB,
    LauncherKind.SUBMITIT_LOCAL: _SUBMITIT,
    LauncherKind.SUBMITIT_SLURM: _SLURM,
    LauncherKind.RAY: _RAY,
}
# Settings of any launcher for commands and for the address of a cluster. `hydra_guard` checks them.
_ELSEWHERE = ("additional_parameters", "setup", "ray.init.address", "ray.init.runtime_env")
_FOLDERS = {
    LauncherKind.JOBLIB: "temp_folder",
    LauncherKind.SUBMITIT_LOCAL: "submitit_folder",
    LauncherKind.SUBMITIT_SLURM: "submitit_folder",
}


def launcher_kind(launcher: Mapping[Any, Any]) -> LauncherKind | None:
    """Return which launcher a node `hydra.launcher` describes; None if its class is not on the allow-list.

    Example:
        >>> launcher_kind({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}).option
        'joblib'
    """
    name = str(launcher.get("_target_")).rpartition(".")[2]
    return LauncherKind(name) if name in {*LauncherKind} else None


def problems(launcher: Any, sweep_directory: str | None) -> Iterator[Problem]:
    """Yield an error for each setting below `hydra.launcher` that a config must not have.

    Args:
        launcher: The unresolved node, as plain data.
        sweep_directory: Resolved `hydra.sweep.dir`, which must contain the launchers' folders; None if unknown.
    """
    if not isinstance(launcher, Mapping):
        yield invalid_value(_KEY, "a mapping", display_value(launcher), "choose an option: hydra/launcher=joblib")
        return
    kind = launcher_kind(launcher)
    if kind is None:
        return
    settings, folder = _SETTINGS[kind], _FOLDERS.get(kind)
    for key, value in _flat(launcher, set(settings)):
        full_key = f"{_KEY}.{key}"
        exempt = (*allowlist.user_allowlist(), *(f"{_KEY}.{name}" for name in ("_target_", *_ELSEWHERE)))
        if value is None or allowlist.is_in(full_key, exempt):
            continue
        if key == folder:
            yield from _folder(full_key, str(value), sweep_directory)
        elif key not in settings:
            hint = similar("setting", key, settings, suggest_launcher(full_key), f"{_KEY}.")
            yield Problem(full_key, f"{KEY} is not a setting of {kind}", hint)
        elif not settings[key](value):
            yield invalid_value(full_key, _REQUIREMENTS[settings[key]], display_value(value))
    if kind is LauncherKind.SUBMITIT_SLURM:
        yield from _signal_at_start(launcher)


def _signal_at_start(launcher: Mapping[Any, Any]) -> Iterator[Problem]:
    """Yield an error if Slurm would end each worker at its start: the sweep would replace them forever."""
    minutes, delay = launcher.get("timeout_min"), launcher.get("signal_delay_s")
    if isinstance(minutes, int) and isinstance(delay, int) and 0 < 60 * minutes <= delay:  # 0 is no time limit
        limit = f"{_KEY}.signal_delay_s ({delay} s), the time between the signal to a worker and its time limit"
        hint = f"set {_KEY}.timeout_min={delay // 60 + 5}, or a lower {_KEY}.signal_delay_s"
        yield invalid_value(f"{_KEY}.timeout_min", f"longer than {limit}", minutes, hint)


def suggest_launcher(full_key: str) -> str:
    """Return a hint that names the launchers with a setting, or a similar setting; empty if there is none.

    >>> suggest_launcher("hydra.launcher.ray.init.num_cpus")
    'choose its launcher, and add the key with a plus sign: hydra/launcher=ray +hydra.launcher.ray.init.num_cpus=VALUE'
    """
    key = full_key.removeprefix(f"{_KEY}.")
    if key == full_key:
        return ""
    if key in _RAY:  # its config has only the address, so the launcher may be chosen already
        ray = f"hydra/launcher={LauncherKind.RAY.option} +{full_key}=VALUE"
        return f"choose its launcher, and add the key with a plus sign: {ray}"
    if overrides := [f"hydra/launcher={kind.option}" for kind, settings in _SETTINGS.items() if key in settings]:
        return f"choose its launcher: {join_or(overrides)}"
    close = nearest(key, {setting for settings in _SETTINGS.values() for setting in settings})
    return f"a similar setting exists: {_KEY}.{close}" if close else ""


def _folder(key: str, value: str, sweep_directory: str | None) -> Iterator[Problem]:
    """Yield an error for a folder outside the sweep's directory, or whose path would break a line of a script."""
    default = "${hydra.sweep.dir}/"
    if value.startswith(default):
        value = f"{sweep_directory or '.'}/{value.removeprefix(default)}"
    parent_directory = Path(sweep_directory or ".").resolve()
    if "${" in value or "\0" in value or not Path(value).resolve().is_relative_to(parent_directory):
        yield invalid_value(key, "a directory below hydra.sweep.dir", repr(value))
    elif not str(path := Path(value).resolve()).isprintable():
        yield Problem(key, f"the path of {KEY} contains control characters: {str(path)!r}", "rename the directory")


def _flat(node: Mapping[Any, Any], leaves: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with their values; a mapping is one value if its key is one of the leaves."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key not in leaves:
            yield from _flat(value, leaves, f"{key}.")
        else:
            yield key, value
