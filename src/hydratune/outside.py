"""What Hydra does by itself with what stands below `hydra`, before any code of ours: a config must not use it as code.

Hydra builds callbacks and launchers, sets up logging, changes the environment and imports packages that configs are
read from. `validation` looks at each `_target_`; the rest is here.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune import allowed, launchers
from hydratune.errors import Mistake, one_line, one_of

# Keys whose values are commands, or reach a shell, an interpreter or a loader through the environment.
_CODE = (
    "hydra.job.env_set",
    "hydra.launcher.additional_parameters",
    "hydra.launcher.ray.init.runtime_env",
    "hydra.launcher.setup",
)
# Where a sweep connects to Ray: data, but whoever answers there receives the sweep's credentials and runs its pickles.
RAY_ADDRESS = "hydra.launcher.ray.init.address"
_RAY_HERE = ("auto", "local")  # clusters of this machine
_RAY_HOST = re.compile(r"(ray://)?([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
# The classes and objects that a logging config may name, and the files that it may write.
_CLASSES = ("logging.FileHandler", "logging.Formatter", "logging.NullHandler", "logging.StreamHandler")
_STREAMS = ("ext://sys.stderr", "ext://sys.stdout")
_FILE = re.compile(r"\$\{hydra\.runtime\.output_dir\}/(\$\{hydra\.job\.name\}|[\w.-])+")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SECTIONS = ("formatters", "loggers", "root")
_LOGGING = ("hydra.job_logging", "hydra.hydra_logging")


def code(hydra: DictConfig) -> Iterator[Mistake]:
    """What below `hydra` would be code, or would write outside the run's directory, whatever it resolves to."""
    raw = {"hydra": OmegaConf.to_container(hydra, resolve=False)}
    for key in _CODE:
        if _given(raw, key) and key not in allowed.listed():
            fix = f"Set it outside of configs, or list {key} under [tool.hydratune] allow or in {allowed.VARIABLE}."
            yield Mistake(key, "nothing, since it can run code", "a value", fix)
    yield from launchers.mistakes(_given(raw, "hydra.launcher"), _directory(hydra, "sweep.dir"))
    address = _given(raw, RAY_ADDRESS)
    if (
        address is not None
        and address not in _RAY_HERE
        and not (isinstance(address, str) and _RAY_HOST.fullmatch(address))
    ):
        fix = f"Set {RAY_ADDRESS}=HOST:6379."
        yield Mistake(RAY_ADDRESS, "HOST:PORT, ray://HOST:PORT, auto, or local", repr(address), fix)
    for key in _LOGGING:
        yield from _logging(_given(raw, key), key)
        yield from _unknown_handlers(_given(raw, key), key)


def mistakes(hydra: DictConfig) -> Iterator[Mistake]:
    """Yield what below `hydra` is code, or is a setting that a run cannot have."""
    yield from code(hydra)
    if hydra.job.get("chdir"):
        fix = "Leave it out: relative paths are read from the directory where the command starts."
        yield Mistake("hydra.job.chdir", "false", repr(hydra.job.chdir), fix)
    if "/" in str(name := hydra.job.name):
        yield Mistake("hydra.job.name", "a name without a slash", repr(name), "It names the log: leave it out.")
    if getattr(hydra.mode, "name", hydra.mode) == "MULTIRUN":  # a text in the config that a rank reads
        yield Mistake("hydra.mode", "RUN", "MULTIRUN", "Leave it out: -m runs a sweep.")
    if not isinstance(hydra.verbose, bool | str | ListConfig):
        yield Mistake(
            "hydra.verbose", "true, false, or names of loggers", repr(hydra.verbose), "Set hydra.verbose=true."
        )
    if (folder := hydra.output_subdir) != ".hydra":
        yield Mistake("hydra.output_subdir", "'.hydra', where `hydratune resume` looks", repr(folder), "Leave it out.")


def place(hydra: DictConfig, name: str) -> Iterator[Mistake]:
    """Yield what makes a directory for results unusable, as far as that shows before it is created.

    Args:
        hydra: Hydra's part of a config.
        name: `run.dir` or `sweep.dir`.
    """
    key = f"hydra.{name}"
    expected, fix = "a directory that can be created", f"Set {key} to another place."
    try:
        text = str(OmegaConf.select(hydra, name))
        path = Path(text).resolve()
        there = next(folder for folder in (path, *path.parents) if folder.exists())
    except (OmegaConfBaseException, OSError, ValueError) as error:
        yield Mistake(key, expected, one_line(error), fix)
        return
    if not text or path == Path.cwd():
        yield Mistake(key, "a directory for this run alone", f"{text!r}, the working directory", fix)
    elif not there.is_dir():
        yield Mistake(key, expected, f"{text!r}, where {os.path.relpath(there)!r} is a file", fix)
    elif not os.access(there, os.W_OK):
        yield Mistake(key, expected, f"{text!r}, where {os.path.relpath(there)!r} is not writable", fix)


def _directory(hydra: DictConfig, name: str) -> str | None:
    """Return a resolved path; None if it does not resolve, which `place` reports."""
    try:
        return str(OmegaConf.select(hydra, name))
    except OmegaConfBaseException:
        return None


def ray_address(hydra: DictConfig, typed: Iterable[str]) -> Iterator[Mistake]:
    """Yield a mistake if a file names the host of a Ray cluster, so that no config sends credentials to a stranger.

    Args:
        hydra: Hydra's part of a config.
        typed: The keys of the overrides on the command line.
    """
    address = OmegaConf.select(hydra, RAY_ADDRESS.removeprefix("hydra."))
    if address is None or address in _RAY_HERE or RAY_ADDRESS in allowed.listed():
        return
    if not any(f"{RAY_ADDRESS}.".startswith(f"{key}.") for key in typed):
        fix = f"Type {RAY_ADDRESS}={address}, or set RAY_ADDRESS in the environment."
        yield Mistake(RAY_ADDRESS, "an address on the command line or in RAY_ADDRESS", "one from a config file", fix)


def search_path(values: Iterable[Any], shipped: str) -> Iterator[Mistake]:
    """A mistake for each package of a search path that Hydra would import, and for each folder that does not exist."""
    for value in values:
        package, folder = str(value).removeprefix("pkg://"), str(value).removeprefix("file://")
        if value and package == str(value) and "${" not in folder and not Path(folder).is_dir():
            yield Mistake("hydra.searchpath", "folders that exist", repr(value), f"Paths are relative to {Path.cwd()}.")
        if package == str(value) or package == shipped or package in allowed.listed():
            continue
        fix = f"Name a folder, file://DIR, or list {package} under [tool.hydratune] allow or in {allowed.VARIABLE}."
        yield Mistake("hydra.searchpath", f"folders, or pkg://{shipped}", repr(value), fix)


def _given(node: Any, key: str) -> Any:
    """What stands at a dotted key, or in its place: an interpolation hides what is below."""
    for name in key.split("."):
        if not isinstance(node, Mapping):
            return node
        node = node.get(name)
    return None if node == "???" else node


def _logging(node: Any, key: str) -> Iterator[Mistake]:
    """Code that `logging.config.dictConfig` would look up and call, files elsewhere, and what cannot be seen yet."""
    if isinstance(node, list):
        for i, value in enumerate(node):
            yield from _logging(value, f"{key}[{i}]")
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from _named(str(name), value, f"{key}.{name}")
    elif isinstance(node, str) and "${" in node:
        yield Mistake(key, "a value that is written out", repr(node), "A logging config takes no interpolations.")
    elif isinstance(node, str) and node.startswith(("ext://", "cfg://")) and node not in _STREAMS:
        yield Mistake(key, one_of(_STREAMS), repr(node), f"Set {key}={_STREAMS[0]}.")


def _unknown_handlers(node: Any, key: str) -> Iterator[Mistake]:
    """Yield a mistake for each handler that the root logger names and nothing defines."""
    defined, named = (_given(node, name) for name in ("handlers", "root.handlers"))
    for name in named if isinstance(named, list) and isinstance(defined, Mapping) else ():
        if name not in defined:
            yield Mistake(f"{key}.root.handlers", one_of(defined), repr(name), f"Leave out {name}.")


def _named(name: str, value: Any, key: str) -> Iterator[Mistake]:
    if name in ("()", "class") and value not in (*_CLASSES, *allowed.listed()):
        yield Mistake(key, one_of(_CLASSES), repr(value), "Leave it out.")
    elif name == ".":
        yield Mistake(key, "no attributes of handlers", repr(value), "Leave it out.")
    elif name == "filename":
        if not _FILE.fullmatch(str(value)):
            fix = f"Set {key}='${{hydra.runtime.output_dir}}/NAME.log'."
            yield Mistake(key, "a file of the run's directory", repr(value), fix)
    elif name == "version" and value != 1:
        yield Mistake(key, "1", repr(value), "Leave it out.")
    elif name == "level" and value not in logging.getLevelNamesMapping() and not isinstance(value, int):
        yield Mistake(key, one_of(_LEVELS), repr(value), f"Set {key}=INFO.")
    elif (name in _SECTIONS and not isinstance(value, Mapping | None)) or (name == "handlers" and value is None):
        yield Mistake(key, "keys with values", repr(value), "Leave it out.")
    else:
        yield from _logging(value, key)
