"""Files of a sweep: its plan is stored, so that the same command resumes the sweep."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hydratune.config import config_folders, user_settings
from hydratune.config.composition import CONFIG_NAME
from hydratune.config.project import typed_flags
from hydratune.sweep.plan import Plan, common_config, values_of
from hydratune.sweep.space import Parameter
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line
from hydratune.utils.files import PLAN, PRIVATE_FOLDER, check_links, make_directory, write_json
from hydratune.utils.provenance import cli_path, redacted_overrides
from hydratune.utils.short_forms import short_name
from hydratune.utils.stored_files import StoredFileError, parse_stored, read_stored

_LONGEST_NAME = 200


def write_plan(plan: Plan) -> None:
    """Write the plan into its directory.

    Raises:
        ConfigError: If the directory has a different sweep, with the differences, or has files but no sweep.
    """
    path = plan.directory / PLAN
    if path.is_file():
        check_same(plan, read_plan(plan.directory).identity, str(os.path.relpath(plan.directory)))
    elif [name for name in _names(plan.directory) if not name.startswith(f".{PLAN}.")]:  # not one that is being written
        text = f"the directory {os.path.relpath(plan.directory)!r} is not empty, but has no {PLAN} of a sweep"
        raise ConfigError(Problem("hydra.sweep.dir", text, f"set {KEY} to a new directory"))
    else:
        make_directory(plan.directory, PRIVATE_FOLDER)
    write_json(path, {**asdict(plan), "directory": str(plan.directory)})


def _names(directory: Path) -> list[str]:
    """Return the names in a directory; empty if it does not exist."""
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []


def stored_sweep(directory: Path) -> tuple[Plan, DictConfig]:
    """Return the sweep in a directory, which may come from someone else, and the config that its trials share.

    Raises:
        ConfigError: A link leads out of its directory, it names a folder of configs elsewhere, or the stored overrides
            name a store elsewhere, in which tables would be created.
    """
    plan = read_plan(directory)
    check_links(plan.directory)
    folders = {"--config-dir": plan.flags.config_dir, "--config-path": plan.flags.config_path}
    if problems := [*config_folders.problems(folders)]:
        raise ConfigError(*problems)
    cfg = common_config(plan)
    if problems := [*user_settings.stores(cfg, (), plan.directory)]:
        raise ConfigError(*problems)
    return plan, cfg


def config_flags(plan: Plan, config_dir: str | None, cwd: str | None = None) -> list[str]:
    """Return the command-line flags that set where the trials of a sweep read their configs.

    Args:
        plan: Plan of the sweep.
        config_dir: Folder of the user's own configs; None without one.
        cwd: Directory in which the command runs; None for the current one.
    """
    folders = {"--config-dir": config_dir, "--config-path": plan.flags.config_path}
    flags = [text for flag, folder in folders.items() if folder for text in (flag, os.path.relpath(folder, cwd))]
    return flags + (["--config-name", plan.flags.config_name] if plan.flags.config_name != CONFIG_NAME else [])


def sweep_command(plan: Plan, *overrides: str) -> str:
    """Return the command that resumes a sweep; empty if an earlier version began the sweep.

    Args:
        plan: Plan of the sweep.
        overrides: More overrides.
    """
    if not plan.typed_overrides:
        return ""
    texts = redacted_overrides([*plan.typed_overrides, *overrides])
    if Path(plan.cwd).is_dir() and Path(plan.cwd).resolve() != Path.cwd().resolve():
        flags = config_flags(plan, plan.flags.config_dir, plan.cwd)
        return f"cd {shlex.quote(plan.cwd)} && {shlex.join(['hydratune', '-m', *flags, *texts])}"
    flags = typed_flags(config_flags(plan, plan.flags.config_dir))
    return shlex.join([cli_path(), "-m", *flags, *texts])


def check_same(plan: Plan, before: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError if an existing sweep of the same name has a different identity."""
    keys = [key for key in dict.fromkeys((*before, *plan.identity)) if before.get(key) != plan.identity.get(key)]
    if keys:
        hint = "set sweep.name=NAME for a new sweep, or restore the value"
        start = f"the sweep {plan.name!r} in {where} has {KEY}="
        values = {key: (_as_text(key, before.get(key)), _as_text(key, plan.identity.get(key))) for key in keys}
        raise ConfigError(*(Problem(key, f"{start}{old}, not {new}", hint) for key, (old, new) in values.items()))


def _as_text(key: str, value: Any) -> str:
    if key == "sweep.space" and isinstance(value, list):
        with suppress(StoredFileError):  # of a sweep that was changed by hand
            parameters = [parse_stored(json.dumps(parameter), Parameter) for parameter in value]
            return "; ".join(f"{short_name(parameter.name)}={values_of(parameter)}" for parameter in parameters)
    return repr(value)


def read_plan(directory: Path) -> Plan:
    """Read the plan in a sweep's directory, or raise ConfigError if it does not exist or has another form."""
    try:
        plan = read_stored(directory / PLAN, Plan)
        if problem := next(_malformed(plan), None):
            raise StoredFileError(problem)
        return replace(plan, directory=directory.absolute())
    except (OSError, StoredFileError) as error:
        hint = "name the directory of a sweep; by default, it is in multirun/"
        if not directory.is_dir():
            text = f"no such directory: {directory}"
        elif not (directory / PLAN).is_file():
            text = f"{directory} is not the directory of a sweep: it has no {PLAN}"
        else:
            text, hint = f"{directory / PLAN} is corrupt: {one_line(error, 200)}", ""
        raise ConfigError(Problem("SWEEP", text, hint)) from error


def _malformed(plan: Plan) -> Iterator[str]:
    """Yield what `make_plan` would not have written although the types are right."""
    is_name = plan.name.isprintable() and "/" not in plan.name and len(plan.name) <= _LONGEST_NAME
    if not is_name:  # it becomes a comment and the file name of an exported experiment
        yield f"the name {plan.name!r}"
    if not plan.objectives or {*plan.objectives.values()} - {"maximize", "minimize"}:
        yield f"objectives: {dict(plan.objectives)}"
    if not plan.space.parameters and plan.folds is None:
        yield "space.parameters: none"
    if (plan.folds is not None and plan.folds < 2) or plan.repeats < 1:
        yield f"folds: {plan.folds}, repeats: {plan.repeats}"
    names = {parameter.name for parameter in plan.space.parameters}
    yield from (f"the name {name!r}" for name in (*names, *plan.objectives) if not re.fullmatch(r"[\w./@+~-]+", name))
    # A flag, which the command that is printed would contain, could trust code.
    yield from (f"typed_overrides: {text!r}" for text in plan.typed_overrides if text.startswith("-"))
    for parameter in plan.space.parameters:
        if not parameter.is_valid() or (parameter.only_if and parameter.only_if[0] not in names - {parameter.name}):
            yield f"space.parameters: {parameter}"
