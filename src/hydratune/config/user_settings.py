"""Settings that only the user may choose, not the author of a config file, a run, or a sweep.

They place results, name servers and machines, publish the model, or read data.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist, servers, tracker_settings, typed_settings
from hydratune.config.hydra_guard import RAY_ADDRESS
from hydratune.config.secret_values import STORES, passwords, store_secret
from hydratune.utils import env_variables, hub
from hydratune.utils.errors import KEY, Problem, child_key, setting
from hydratune.utils.files import expand_home
from hydratune.utils.image_formats import restrict_image_folders
from hydratune.utils.places import RESULTS
from hydratune.utils.secret_encodings import SHORTEST, contains_secret

_READ = ("dataset", "model", "task", "adapter")  # nodes whose values can be paths of files that a run reads
# Their other keys with texts, which are not paths. Names of sets and sources are free, so the whole key must match.
_NO_FILES = re.compile(
    r"dataset(\.sources\.[^.]+)?\.(labels|columns|comment|decimal|delimiter|escapechar|list_separator)(\..*)?"
    r"|task\.(chat_template|labels)(\..*)?",
    re.DOTALL,
)
# Key by which a run publishes or registers its model, or reports to a tracker -> the values with which it does not.
_SENDING: dict[str, tuple[Any, ...]] = {
    typed_settings.PUSH: (None, False),
    typed_settings.PRIVATE_REPO: (True,),
    typed_settings.REPO: (None,),
    typed_settings.REPORTERS: (None, "none", [], ["none"]),
    **dict.fromkeys(typed_settings.REGISTERED, (None,)),
}
_HUB_NAMES = ("hub_model_id", "hub_revision")  # arguments of the Trainer that the Hub receives
_REPOSITORY = re.compile(r"dataset(\.sources\..+)?\.path", re.DOTALL)  # keys of datasets of the Hub
_LOCAL_PREFIXES = re.compile("^(?:glob:|(?:file|local):(?://)?)*")
_HUB_ACCOUNT = "trainer.args.hub_token"
_HUB_TOKEN = re.compile(r"(HF|HUGGING_?FACE(_?HUB)?)_(\w+_)?TOKEN")  # names of variables
_PREFIXES = re.compile(r"^(?:.*::)?(?:glob:|(?:file|local):(?://)?)*", re.DOTALL)  # precede the path of a data file


def problems(cfg: DictConfig, typed: Collection[str], trusted: Collection[str] | None = None) -> Iterator[Problem]:
    """Yield the errors of `stores`, `sending`, and `rendezvous` for the config of a run.

    Args:
        cfg: A config that passed `check_config`.
        typed: Keys that the user typed.
        trusted: Keys that the user typed now or when the run was started; None for those of `typed`.
    """
    trusted = typed if trusted is None else trusted
    yield from stores(cfg, typed)
    yield from sending(cfg, trusted)
    yield from rendezvous(cfg, trusted)


def store(
    uri: str | None, key: str, is_typed: bool, config_passwords: Collection[str], directory: Path | None = None
) -> Iterator[Problem]:
    """Yield an error for an address that a config, not the user, must not have.

    It must hold no secret but its password, and a SQLite file must be below `outputs/` or `multirun/`.

    Args:
        uri: Resolved address of a store.
        key: Config key of the address.
        is_typed: Whether the user set it on the command line. HYDRATUNE_SERVERS is the user's, too.
        config_passwords: Passwords of the addresses in the config.
        directory: Directory of the sweep that stores the address; the sweep's own files may be in it.
    """
    if is_typed or uri is None:
        return
    if wrong := store_secret(uri, key, config_passwords) or servers.problem(uri, key):
        yield wrong
        return
    if link_problem := next(servers.links_above(uri), None):
        yield link_problem
    elif servers.stored_problem(uri, directory or Path(RESULTS[0]), key):
        text = f"{KEY} is set in a config file to {uri!r}, which is not below {' or '.join(RESULTS)}"
        yield Problem(key, text, f"to use it, type {setting(KEY, uri)}")


def stores(cfg: DictConfig, typed: Iterable[str], directory: Path | None = None) -> Iterator[Problem]:
    """Yield the errors of `store` for all stores of a config.

    Args:
        cfg: A config that passed `check_config`.
        typed: Keys of the overrides on the command line.
        directory: Directory of the sweep that stores the config; the sweep's own files may be in it.
    """
    config_passwords = passwords({key: OmegaConf.select(cfg, key) for key in STORES})
    for key in STORES:
        yield from store(OmegaConf.select(cfg, key), key, key in typed, config_passwords, directory)


def sending(cfg: DictConfig, typed: Iterable[str]) -> Iterator[Problem]:
    """Yield an error for each key with which a config, not the user, publishes the model or reports to a tracker.

    Args:
        cfg: A config that passed `check_config`.
        typed: Keys of the overrides on the command line.
    """
    yield from names_of_variables(cfg, typed)
    for key, harmless in _SENDING.items():
        value = OmegaConf.select(cfg, key, default=harmless[0])
        plain: Any = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        is_unused = key in (typed_settings.PRIVATE_REPO, typed_settings.REPO) and not OmegaConf.select(
            cfg, typed_settings.PUSH
        )
        if plain not in harmless and not is_unused and not allowlist.is_in(key, typed):
            value = json.dumps(plain)
            text = f"{KEY}={value} publishes data or registers a model, so it must not be set in a config file"
            yield Problem(key, text, f"to use it, type {shlex.quote(f'{key}={value}')}")
        elif key == typed_settings.REPORTERS:
            yield from tracker_settings.problems(plain)
    token: Any = OmegaConf.to_container(cfg.trainer.args, resolve=False).get("hub_token")  # type: ignore[union-attr]
    variable = str(token).removeprefix("${oc.env:").removesuffix("}")
    if token and not _HUB_TOKEN.fullmatch(variable.upper()) and not allowlist.is_in(_HUB_ACCOUNT, typed):
        # Someone else can write the text of other variables, e.g. the message of a commit, and so choose the account.
        # Tokens of other services must not be sent to the Hub.
        text = f"{KEY} of a config file must read a variable such as HF_TOKEN or HF_WORK_TOKEN, not {variable}"
        yield Problem(_HUB_ACCOUNT, text, f"to use it, type '{KEY}={token}'")


def names_of_variables(cfg: DictConfig, typed: Iterable[str], nodes: Iterable[str] = _READ) -> Iterator[Problem]:
    """Yield an error for each name in a config that contains the value of a variable, unless it is a local path.

    A name such as `OWNER/${oc.env:NAME}` or an address of a data file is sent to a server, whose owner may be the
    author of the config. Any variable can hold a secret, whatever its name.

    Args:
        cfg: A config that passed `check_config`.
        typed: Keys of the overrides on the command line.
        nodes: Nodes of the config whose names a command sends.
    """
    values = [value for value in env_variables.resolved().values() if len(value) >= SHORTEST]
    plain: Any = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in nodes}
    hub_names = {name: OmegaConf.select(cfg, f"trainer.args.{name}") for name in _HUB_NAMES}
    for key, text in _texts({**plain, "trainer": {"args": hub_names}}):
        if _NO_FILES.fullmatch(key) or key.startswith("model.config.") or allowlist.is_in(key, typed):
            continue
        is_path = _is_local(text) and not key.endswith("revision") and not key.startswith("trainer.")
        if any(contains_secret(text, value) for value in values) and not is_path:
            wrong = f"{KEY} of a config file contains the value of an environment variable, and is sent to a server"
            yield Problem(key, wrong, f"if you trust the config, type {KEY}=VALUE")


def ray_address(hydra: DictConfig, typed: Iterable[str]) -> Iterator[Problem]:
    """Yield an error if a file, not the user, names the host of a Ray cluster.

    Otherwise a config could send credentials to a stranger. This includes `auto`, a cluster that any user of the
    machine may have started.

    Args:
        hydra: The `hydra` node of a config.
        typed: Keys of the overrides on the command line.
    """
    address = OmegaConf.select(hydra, RAY_ADDRESS.removeprefix("hydra."))
    if address in (None, "local") or RAY_ADDRESS in allowlist.user_allowlist():
        return
    if not allowlist.is_in(RAY_ADDRESS, typed):
        hint = f"if you trust the cluster, type {setting(KEY, str(address))}, or export RAY_ADDRESS"
        yield Problem(RAY_ADDRESS, f"{KEY} must not be set in a config file ({str(address)!r})", hint)


def rendezvous(cfg: DictConfig, typed: Iterable[str]) -> Iterator[Problem]:
    """Yield an error if a file, not the user, names the machine that this one joins.

    The machines of a run trust each other: they exchange pickled objects.

    Args:
        cfg: A config that passed `check_config`.
        typed: Keys of the overrides on the command line.
    """
    key = typed_settings.RENDEZVOUS
    endpoint = OmegaConf.select(cfg, key)
    if endpoint and (OmegaConf.select(cfg, "hardware.launch.nnodes") or 1) > 1 and not allowlist.is_in(key, typed):
        hint = f"if you trust the machine, type {setting(KEY, str(endpoint))}"
        yield Problem(key, f"{KEY} must not be set in a config file ({str(endpoint)!r})", hint)


def data_files(cfg: DictConfig, typed: Iterable[str], nodes: Iterable[str] = _READ) -> Iterator[Problem]:
    """Yield an error for each file or directory outside this project that a run of another project reads.

    The config of such a run came from someone else, and the run records what it reads. Relative paths count from the
    current directory. Directories of installed packages, which shipped configs name, are not secret.

    Args:
        cfg: A config that passed `check_config`.
        typed: Keys of the overrides on the command line.
        nodes: Nodes of the config whose values the run reads.
    """
    plain: Any = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in nodes}
    allowed_folders = _allowed_folders()
    for key, value in _texts(plain):
        if _NO_FILES.fullmatch(key) or allowlist.is_in(key, typed):
            continue
        if not all(any(path.is_relative_to(folder) for folder in allowed_folders) for path in _read_paths(value)):
            text = f"{KEY} leads out of the working directory: {value!r}"
            yield Problem(key, text, f"if you trust the run, type {setting(KEY, value)}")


def restrict_images(cfg: DictConfig, typed: Iterable[str]) -> None:
    """Let the rows of another project's run name only images inside this project, or of the datasets that it names.

    Other datasets in the cache of the Hub may be private. If the user has typed the data, rows can name any image.

    Args:
        cfg: The config of the run.
        typed: Keys of the overrides on the command line.
    """
    is_typed = any(key == "dataset" or allowlist.is_in(key, ("dataset.files", "dataset.path")) for key in typed)
    texts = _texts({"dataset": OmegaConf.to_container(cfg.dataset, resolve=True)})
    repositories = (hub.cached_directory("datasets", text) for key, text in texts if _REPOSITORY.fullmatch(key))
    restrict_image_folders(None if is_typed else [*_allowed_folders(), *repositories])


def _allowed_folders() -> list[Path]:
    """Return the current directory, and those of installed packages."""
    packages = (path for name, path in sysconfig.get_paths().items() if name.endswith("lib"))
    return [Path.cwd(), *(Path(path).resolve() for path in packages)]


def _read_paths(value: str) -> Iterator[Path]:
    """Yield the resolved paths that a config value can read: its own path, and targets of links inside directories.

    A reader may take the value as it is, or without the protocols and the mark of a pattern in front of it.
    """
    for name in {value, _PREFIXES.sub("", value)}:
        is_elsewhere = len(name) > 1 and (name.startswith(("/", "~")) or ".." in Path(name).parts)
        try:
            path = expand_home(name)
            existing_paths = [path] if name and path.exists() else []
            if not existing_paths and value.startswith("glob:"):
                existing_paths = [Path(match) for match in glob.glob(name, recursive=True, include_hidden=True)]  # noqa: PTH207
            if is_elsewhere:
                yield path.resolve()
            for existing_path in existing_paths:
                yield existing_path.resolve()
                yield from (link.resolve() for link in existing_path.rglob("*") if link.is_symlink())
        except (OSError, RuntimeError, ValueError):  # name too long, with invalid characters, or `~` of an unknown user
            if is_elsewhere:
                yield Path("/")


def _is_local(value: str) -> bool:
    """Return whether a value is a path of this machine, so that no server is asked for it."""
    name = _LOCAL_PREFIXES.sub("", value)
    if not name or "::" in name or "://" in name:
        return False
    path = expand_home(name)
    # A name on the Hub has one slash at most, and no slash at its start.
    return (path.is_absolute() and len(path.parts) > 2) or os.path.lexists(path)


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the strings of a config with their dotted keys; the items of a list have the key of the list."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, child_key(key, name))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield key, node
