"""Config groups, their options, and the composition of overrides into one config."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from hydratune.config import search_path
from hydratune.config.compose_errors import check_words, compose_error
from hydratune.config.config_loader import ConfigLoader
from hydratune.config.dataset_name import data_name
from hydratune.config.options import CONFIG_MODULE, is_hydra_key, options, shipped_dir
from hydratune.config.suggestions import suggest_option
from hydratune.utils import env_variables
from hydratune.utils.errors import KEY, ConfigError, Problem, child_key
from hydratune.utils.hydra_versions import VERSION_BASE, register_resolver
from hydratune.utils.provenance import has_literal_secret
from hydratune.utils.yaml_files import check_yaml

CONFIG_NAME = "train"
# Hydra's name for a source of configs -> the flag that sets it.
_FLAGS = {"command-line": "--config-dir", "main": "--config-path"}
_now = [datetime.now()]  # value of `${now:...}`: start of this process or of its last composition
# An override whose value is one character that Hydra's grammar accepts only in quotes, e.g. dataset.delimiter=;
_SYMBOL = re.compile(r"^([^=]+=)([;#, \t])$")


@dataclass(frozen=True)
class Request:
    """Overrides and config locations from the command line."""

    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None  # searched after the shipped configs
    config_path: Path | None = None  # holds the primary config; may shadow shipped ones
    config_name: str = CONFIG_NAME
    stored: int = 0  # number of overrides, at the start, that come from a stored run and were not typed

    @functools.cached_property
    def groups(self) -> dict[str, list[str]]:
        """Group -> the names of its options, both shipped and the user's."""
        options_by_group: dict[str, list[str]] = {}
        folders = (self.config_path, shipped_dir(), self.config_dir)
        for option in options(*(folder for folder in folders if folder)):
            options_by_group.setdefault(option.group, []).append(option.name)
        return options_by_group

    @functools.cached_property
    def parsed(self) -> list[Override]:
        """Overrides parsed with Hydra's grammar; use it inside `composer`.

        Raises:
            ConfigError: Spaces split an override into several words.
            OverrideParseException: An override is invalid.
        """
        if problems := [*check_words(self.overrides)]:
            raise ConfigError(*problems)
        loader = GlobalHydra.instance().config_loader()  # resolves `glob(*)`
        return OverridesParser.create(loader).parse_overrides(
            [_SYMBOL.sub(r"\1'\2'", override) for override in self.overrides]
        )

    @property
    def typed_keys(self) -> list[str]:
        """Keys whose values the user has typed, also as parts of a mapping; use it inside `composer`.

        The position decides, not the text: the parser may change it, and a stored override may be typed again. Values
        of a typed option of a group come from a file. Those that a stored override adds to a typed mapping are not
        typed.
        """
        values = [
            (override.key_or_group, override.value())
            for override in self.parsed[self.stored :]
            if override.key_or_group not in self.groups and not override.is_delete()
        ]
        return [leaf for key, value in values for leaf, part in flat(value, key) if part != {}]

    @property
    def chosen_groups(self) -> list[str]:
        """Groups of which the overrides choose an option; use it inside `composer`."""
        return [override.key_or_group for override in self.parsed if override.key_or_group in self.groups]

    def sets(self, key: str) -> bool:
        """Return whether the command line sets a key."""
        return any(text.lstrip("+").startswith(f"{key}=") for text in self.overrides)


def check_choices(request: Request) -> Iterator[tuple[str, Problem]]:
    """Yield each override that names a nonexistent option, with the error."""
    for override in request.parsed:
        names = request.groups.get(override.key_or_group)
        if names is None or override.is_delete():
            continue
        for choice in _chosen(override):
            if choice not in names and (choice, override.key_or_group) != (None, "experiment"):
                key = override.key_or_group
                yield str(override.input_line), _unknown_option(key, choice, names, isinstance(override.value(), list))


def _unknown_option(group: str, choice: Any, names: Sequence[str], is_listed: bool) -> Problem:
    text = f"unknown option {choice!r} in group {group}" if "/" in group else f"unknown {group} {choice!r}"
    if choice is None:
        text = f"{KEY} must not be null"
    return Problem(group, text, suggest_option(group, choice, names, is_listed))


def check_single(request: Request) -> Iterator[Problem]:
    """Yield an error for each override that gives several values to a command for a single run."""
    for override in request.parsed:
        if override.is_sweep_override():
            key, _, values = str(override.input_line).partition("=")
            hint = f"add -m to run once per value\nfor a list, use {shlex.quote(f'{key}=[...]')}"
            yield Problem(key, f"{KEY} has several values: {values!r}", hint)


def _chosen(override: Override) -> list[Any]:
    """Return the options that a group override names: one, a list of them, or those of a sweep."""
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    value = override.value()
    return value if isinstance(value, list) else [value]


def force_add(request: Request) -> list[str]:
    """Return the overrides, with `++` before those that set a value.

    Hydra stops at the first unknown key, with a hint to use `+`. With `++` it accepts every key, and `check_config`
    reports all unknown keys together, each with the nearest name.
    """
    return [
        f"++{override.input_line}" if _sets_value(override, request.groups) else str(override.input_line)
        for override in request.parsed
    ]


def _sets_value(override: Override, groups: Collection[str]) -> bool:
    is_assignment = not (override.is_add() or override.is_force_add() or override.is_delete())
    key = override.key_or_group
    return is_assignment and key not in groups and "@" not in key and not is_hydra_key(key)


def expand_multirun(request: Request) -> list[list[str]]:
    """Return the overrides of each job of a multirun, in the order of Hydra's basic sweeper."""
    combinations: list[list[str]] = [[]]
    for override, text in zip(request.parsed, force_add(request), strict=True):
        if override.is_sweep_override() and not is_hydra_key(override.key_or_group):
            key = text.partition("=")[0]
            texts = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            texts = [text]
        combinations = [[*combination, text] for combination in combinations for text in texts]
    return combinations


@contextmanager
def composer(request: Request) -> Iterator[None]:
    """Set up the search path that Hydra's own main builds from the same flags, for `compose_config` inside.

    Otherwise the config that is checked could differ from the one that runs.
    """
    GlobalHydra.instance().clear()
    main = f"file://{request.config_path.absolute()}" if request.config_path else f"pkg://{CONFIG_MODULE}"
    _now[:] = [datetime.now()]
    with initialize_config_module(CONFIG_MODULE, **VERSION_BASE):  # restores Hydra's state afterwards
        sources = create_config_search_path(main)
        if request.config_dir:
            anchor = SearchPathQuery(provider="schema")
            sources.prepend("command-line", f"file://{request.config_dir.absolute()}", anchor)
        GlobalHydra.instance().clear()
        GlobalHydra.instance().initialize(Hydra("app", ConfigLoader(sources)))
        register_resolvers()
        yield


def compose_config(request: Request, overrides: Sequence[str]) -> DictConfig:
    """Compose the config of one job, with its `hydra` node; call this inside `composer`.

    Raises:
        ConfigError: The config does not compose, its search path is invalid, or it sets `hydra.overrides`.
    """
    check_search_path(request)
    try:
        cfg = compose(request.config_name, overrides=[*overrides], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, RecursionError) as error:
        raise ConfigError(*([*check_yaml(_user_files(request))] or [compose_error(error)])) from error
    except (
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # bugs of Hydra with unusual overrides
        raise ConfigError(*([*check_yaml(_user_files(request))] or [compose_error(error)])) from error
    composed_overrides: Any = OmegaConf.to_container(cfg.hydra.overrides, resolve=False)
    if [*composed_overrides["hydra"], *composed_overrides["task"]] != _ordered(overrides):
        raise ConfigError(Problem("hydra.overrides", f"{KEY} is managed by Hydra", "leave it out"))
    HydraConfig.instance().set_config(cfg)  # resolves ${hydra:...}
    return cfg


def _ordered(overrides: Sequence[str]) -> list[str]:
    """Return overrides in the order in which Hydra lists them: its own first."""
    return sorted(overrides, key=lambda text: not is_hydra_key(text.lstrip("+~")))


def check_search_path(request: Request) -> None:
    """Raise ConfigError for packages that Hydra would import to read configs from them, and for invalid folders.

    The loader refuses such packages, too, wherever the search path comes from. This check reports all entries together.
    """
    name = f"{request.config_name.removesuffix('.yaml')}.yaml"
    folders = (request.config_path or shipped_dir(), request.config_dir)  # Hydra reads the first that has the file
    path = next((folder / name for folder in folders if folder and (folder / name).is_file()), None)
    values = search_path.entries_of_file(path) if path and path.parent != shipped_dir() else []
    for override in request.parsed:
        if override.key_or_group == "hydra.searchpath":
            values += search_path.entries(override.value())
    if problems := [*search_path.problems(values)]:
        raise ConfigError(*problems)


def _user_files(request: Request) -> Iterator[Path]:
    """Yield the user's own config files."""
    search_paths = [
        override.value()
        for override in request.parsed
        if override.key_or_group == "hydra.searchpath" and not override.is_sweep_override()
    ]
    folder_names = [
        str(entry).removeprefix("file://") for value in search_paths for entry in search_path.entries(value)
    ]
    for folder in (request.config_path, request.config_dir, *map(Path, folder_names)):
        if folder and folder.is_dir():
            yield from sorted(path for path in folder.rglob("*.yaml") if path.is_file())


def config_flags(hydra: Any) -> list[str]:
    """Return the command-line flags that name the user's own configs, from the `hydra` node of a composed config."""
    flags = []
    for source in hydra.runtime.config_sources:
        if source.schema == "file" and source.provider in _FLAGS:
            flags += [_FLAGS[source.provider], os.path.relpath(source.path)]
    name = OmegaConf.select(hydra, "job.config_name")
    return [*flags, "--config-name", str(name)] if name not in (None, CONFIG_NAME) else flags


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return a composed config without its `hydra` node; interpolations still resolve."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def flat(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dicts, each with its dotted key."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from flat(value, child_key(key, name))
    else:
        yield key, node


def register_resolvers() -> None:
    """Register the resolvers that configs use.

    None of them turns text into nodes, and each one returns the same value every time. Otherwise a config could pass
    the checks with one value and run with another.
    """
    env_variables.register()
    register_resolver("package_path", package_path)
    register_resolver("data_name", _data_name)
    register_resolver("now", _formatted_start)
    register_resolver("oc.decode", _decoded)
    OmegaConf.clear_resolver("oc.create")


def _formatted_start(pattern: str) -> str:
    """Return the start time of the command in a format of `strftime`."""
    _check_no_secret("now", pattern)
    return _now[0].strftime(pattern)


def _check_no_secret(resolver: str, text: str | None) -> None:
    """Raise ValueError for a secret, because masks and checks do not find a secret that a resolver has changed."""
    if isinstance(text, str) and has_literal_secret(text):
        raise ValueError(f"{resolver} does not accept secrets of the environment")


def _decoded(text: str | None, *, _parent_: Container, _node_: Node) -> Any:
    """Decode a text like OmegaConf's `oc.decode`; raise ValueError for a secret, a list, or a dict."""
    _check_no_secret("oc.decode", text)
    value = oc.decode(text, _parent_, _node_)
    if isinstance(value, Container | dict | list):
        raise ValueError("oc.decode accepts only single values")
    return value


def package_path(package: str, *parts: str) -> str:
    """Return the path of a file or directory inside an installed package, without importing the package.

    Raises:
        ModuleNotFoundError: The package is not installed.
        ValueError: A part is a secret or leads out of the package.
    """
    for part in (package, *parts):
        _check_no_secret("package_path", part)
        if Path(part).is_absolute() or ".." in Path(part).parts:
            raise ValueError("package_path accepts only relative paths inside the package")
    spec = None if "." in package else importlib.util.find_spec(package)  # for a dotted name, it imports the first part
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No package named {package!r} is installed")
    return str(Path(spec.origin).parent.joinpath(*parts))


def _data_name(separator: str, *, _root_: DictConfig) -> str:
    """Return the name of the config's dataset, with `separator` in place of `/`."""
    choice = str(HydraConfig.get().runtime.choices.get("dataset"))
    try:
        config: Any = OmegaConf.to_container(_root_.dataset, resolve=True)
    except OmegaConfBaseException:  # reported where the dataset is checked
        config = {}
    return data_name(choice, config if isinstance(config, dict) else {}, separator)


def quoted(path: Path | str) -> str:
    """Quote a path for Hydra's grammar of overrides.

    Raises:
        ConfigError: The path contains `${`, so that Hydra would resolve it to another path.
    """
    if "${" in str(path):
        hint = f"rename the directory, or change name and {KEY}"
        raise ConfigError(Problem("hydra.run.dir", f"{KEY} must not contain '${{': {str(path)!r}", hint))
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
