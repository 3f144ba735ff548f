"""Checks of the node `hydra`, with which a config must not run code.

Hydra uses the node before any code of ours runs. It instantiates callbacks and launchers, configures logging, changes
the environment, and imports packages to read configs from them. `validate` checks each `_target_`, `launchers` checks
launchers, and `logging_config` checks logging. This module checks the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import allowlist, launchers, logging_config
from hydratune.config.secret_values import hydra_secrets
from hydratune.utils.errors import KEY, ConfigError, Problem, child_key, display_value, invalid_value, one_line, setting
from hydratune.utils.places import check_place, untrusted_link
from hydratune.utils.provenance import has_literal_secret

# Keys whose values are commands, or reach a shell, an interpreter or a loader through the environment.
_CODE = (
    "hydra.job.env_set",
    "hydra.launcher.additional_parameters",
    "hydra.launcher.ray.init.runtime_env",
    "hydra.launcher.setup",
)
# Address of a sweep's Ray cluster. It is data, but its host receives the sweep's credentials and runs its pickles.
RAY_ADDRESS = "hydra.launcher.ray.init.address"
_RAY_HERE = ("auto", "local")  # clusters on this machine
_RAY_HOST = re.compile(r"(ray://)?([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_LOGGING = ("hydra.job_logging", "hydra.hydra_logging")
# The only keys that may have interpolations. Hydra must use the value that is checked here, but an interpolation may
# resolve to another one later, e.g. to a node with a `_target_`. `_FREE` are keys that Hydra itself fills, prints, or
# resolves into a path that is checked. `_CHECKED` are keys that are checked as a whole.
_FREE = re.compile(r"hydra\.((runtime|overrides|help|hydra_help)\..*|job\.override_dirname|(run|sweep)\.dir)")
_CHECKED = (*_LOGGING, "hydra.job.name", "hydra.launcher", "hydra.sweep.subdir")
_SWEEPER = "hydra.sweeper"
_SUBDIRECTORY = "workers/${hydra:job.num}"
_PLACES = {"run.dir": "outputs", "sweep.dir": "multirun"}
_NAME = re.compile(r"[\w .-]*\w")


def code(hydra: DictConfig) -> Iterator[Problem]:
    """Yield an error for each setting below `hydra` that can run code or write outside the run's directory.

    Unresolved values are checked, so the result holds whatever they resolve to.
    """
    raw = {"hydra": OmegaConf.to_container(hydra, resolve=False)}
    for key in _CODE:
        if _given(raw, key) and key not in allowlist.user_allowlist():
            yield Problem(key, f"{KEY} can run code and is not on the allow-list", allowlist.how_to_allow(key))
    if _given(raw, _SWEEPER):
        yield Problem(
            _SWEEPER, f"{KEY} has no effect: hydratune runs sweeps itself", "configure the group sweep instead"
        )
    yield from launchers.problems(_given(raw, "hydra.launcher"), _directory(hydra, "sweep.dir"))
    address = _given(raw, RAY_ADDRESS)
    if (
        address is not None
        and address not in _RAY_HERE
        and not (isinstance(address, str) and _RAY_HOST.fullmatch(address))
    ):
        requirement, hint = "HOST:PORT, ray://HOST:PORT, auto, or local", f"set {KEY}=HOST:6379"
        yield invalid_value(RAY_ADDRESS, requirement, display_value(address), hint)
    for key in _LOGGING:
        yield from logging_config.problems(_given(raw, key), key)
    yield from _interpolations(raw["hydra"], "hydra")
    name = _given(raw, "hydra.job.name")
    if not _NAME.fullmatch(str(name)):  # it names the log file and the Slurm job
        requirement = "one line of letters, digits, spaces, and any of ._-"
        yield invalid_value("hydra.job.name", requirement, display_value(name))
    if (subdirectory := _given(raw, "hydra.sweep.subdir")) != _SUBDIRECTORY:
        text = f"{KEY} is managed by hydratune and must be {_SUBDIRECTORY!r}, not {display_value(subdirectory)}"
        yield Problem("hydra.sweep.subdir", text, "leave it out")


def _interpolations(node: Any, key: str) -> Iterator[Problem]:
    """Yield an error for each interpolation, except for those that are Hydra's or the shipped configs' own."""
    for full_key, text in _strings(node, key):
        if "${" not in text or _FREE.fullmatch(full_key):
            continue
        is_listed = allowlist.is_in(full_key, allowlist.user_allowlist())
        if not is_listed and not full_key.startswith(_CHECKED):  # checked as a whole, including interpolations
            yield Problem(full_key, f"{KEY} must not contain an interpolation: {text!r}", "write the value itself")


def _strings(node: Any, key: str, omitted: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield the strings of a node with their keys, e.g. `hydra.overrides.task[0]`, without the nodes of some keys."""
    if key in omitted:
        return
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _strings(value, child_key(key, name), omitted)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _strings(value, f"{key}[{i}]", omitted)
    elif isinstance(node, str):
        yield key, node


def unsafe(hydra: DictConfig) -> Iterator[Problem]:
    """Yield the errors of `code`, and an error for each `_target_` below `hydra` that is not allowed there."""
    yield from code(hydra)
    for key, node in allowlist.targets(OmegaConf.to_container(hydra, resolve=False), "hydra"):
        wrong = allowlist.check_target(node["_target_"], f"{key}._target_")
        if wrong and not allowlist.is_in(key, [_SWEEPER]):
            yield wrong


def check_hydra_node(hydra: DictConfig, config_passwords: Collection[str] = ()) -> Iterator[Problem]:
    """Yield an error for each setting below `hydra` that can run code or that a run cannot have."""
    yield from code(hydra)
    if hydra.job.get("chdir"):
        hint = "leave it out: relative paths start at the directory where the command runs"
        yield invalid_value("hydra.job.chdir", "false", display_value(hydra.job.chdir), hint)
    yield from hydra_secrets(hydra, config_passwords)
    if getattr(hydra.mode, "name", hydra.mode) == "MULTIRUN":  # a string in the config that a rank reads
        yield Problem("hydra.mode", f"{KEY}=MULTIRUN is not supported", "run a sweep with -m")
    if not isinstance(hydra.verbose, bool | str | ListConfig):
        requirement, hint = "true, false, or names of loggers", f"set {KEY}=true"
        yield invalid_value("hydra.verbose", requirement, display_value(hydra.verbose), hint)
    if (folder := hydra.output_subdir) != ".hydra":
        text = f"{KEY} is managed by hydratune and must be '.hydra', not {display_value(folder)}"
        yield Problem("hydra.output_subdir", text, "leave it out")


def place(hydra: DictConfig, name: str, is_typed: bool) -> Iterator[Problem]:
    """Yield an error if a directory for results is unusable, as far as that can be checked before it is created.

    A config must not choose one of the user's directories: its results go below outputs/ or multirun/.

    Args:
        hydra: The `hydra` node of a config.
        name: `run.dir` or `sweep.dir`.
        is_typed: Whether the user set it on the command line.
    """
    key = f"hydra.{name}"
    hint = f"set {KEY}={_PLACES[name]}/my_name"
    try:
        text = str(OmegaConf.select(hydra, name))
        path = Path(text).resolve()
        existing_parent = next(folder for folder in (path, *path.parents) if folder.exists())
    except (OmegaConfBaseException, OSError, ValueError) as error:
        yield Problem(key, f"{KEY} is not a usable path: {one_line(error, 200)}", hint)
        return
    if problem := _unusable(text, path, existing_parent):
        yield Problem(key, problem, hint)
    if not untrusted_link(Path.cwd() / _PLACES[name]):  # `result_links` reports it
        try:
            check_place(key, Path(text))
        except ConfigError as error:
            yield from error.problems
    results_directory = Path(_PLACES[name]).resolve()
    if not is_typed and (path == results_directory or not path.is_relative_to(results_directory)):
        problem = f"{KEY} is set in a config file to {text!r}, which is not below {_PLACES[name]}/"
        yield Problem(key, problem, f"to use it, type {setting(KEY, text)}")


def _unusable(text: str, path: Path, existing_parent: Path) -> str | None:
    """Return the text of the error if a directory cannot hold results, else None."""
    if not text or path == Path.cwd():
        return f"{KEY} must be a separate directory, not the working directory ({text!r})"
    if has_literal_secret(text):
        return f"{KEY} contains a secret of the environment"
    if not str(path).isprintable():  # a line break would be another line of Slurm's script
        return f"the path of {KEY} contains control characters: {str(path)!r}"
    if "${" in text:  # an escaped interpolation, which Hydra would resolve in the directory that it receives
        return f"{KEY} must not contain '${{': {text!r}"
    if not existing_parent.is_dir():
        return f"{KEY} cannot be created: {text!r} ({os.path.relpath(existing_parent)!r} is a file)"
    if not os.access(existing_parent, os.W_OK):
        return f"{KEY} cannot be created: {text!r} ({os.path.relpath(existing_parent)!r} is not writable)"
    return None


def _directory(hydra: DictConfig, name: str) -> str | None:
    """Return a resolved path; None if it does not resolve, which `place` reports."""
    try:
        return str(OmegaConf.select(hydra, name))
    except OmegaConfBaseException:
        return None


def _given(node: Any, key: str) -> Any:
    """Return the value at a dotted key, or the first value above it that is not a mapping.

    Such a value, e.g. an interpolation, hides the keys below it.
    """
    for name in key.split("."):
        if not isinstance(node, Mapping):
            return node
        node = node.get(name)
    return None if node == "???" else node
