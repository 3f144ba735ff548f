"""`hydratune trust`: allow the code that the `pyproject.toml` of this directory lists, and its links for results.

A cloned repository can contain a list and links, so they take effect only after the user has trusted them, as with
`direnv allow`. Trust covers one list, or one target of a link, at one path. After a change, it must be given again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

from hydratune.config.servers import RESULTS
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.files import PRIVATE_FOLDER, user_file, write_json

FLAG = "--trust-project"  # trusts the list for one command, e.g. in CI
_PROJECT = "pyproject.toml"
_for_this_command: list[bool] = []


def main(arguments: Sequence[str]) -> int:
    """Print this directory's list and its links for results, record that the user trusts them; return the exit code."""
    parser = ArgumentParser(prog="hydratune trust", description=__doc__)
    parser.parse_args(arguments)
    path, names = _project()
    links = {folder: target for folder in RESULTS if (target := _target_outside(folder))}
    if not names and not links:
        text = f"nothing to trust: {path} lists no code, and results are written to this directory"
        hint = f'to allow a package, add allow = ["my_package"] under [tool.hydratune] in {_PROJECT}'
        raise ConfigError(Problem(_PROJECT, text, hint))
    _store().parent.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    trusted = {str(path): _digest(names)} if names else {}
    trusted |= {str(Path.cwd() / folder): _digest([str(target)]) for folder, target in links.items()}
    write_json(_store(), {**_recorded(), **trusted})
    print(f"trusted from now on, as listed in {path}:" if names else "trusted from now on:")
    for name in names:
        print(f"  {name}")
    for folder, target in links.items():
        print(f"  {folder}, a link to {target!r}")
    return 0


def trust_for_this_command() -> None:
    """Trust the list in this process and in its child processes."""
    _for_this_command[:] = [True]


def trusted_names() -> list[str]:
    """Return the names that the project's list allows; empty if the user has not trusted the list."""
    return [] if untrusted_names() else _project()[1]


def untrusted_names() -> list[str]:
    """Return the names that the project's list would allow if the user trusted it; empty if the user does."""
    path, names = _project()
    is_trusted = bool(_for_this_command) or _recorded().get(str(path)) == _digest(names)
    return [] if is_trusted else names


def untrusted_link(folder: str) -> str | None:
    """Return the target of a directory for results if it is a link out of this project that the user has not trusted.

    Such a link can come with a cloned repository, and results would be written into a directory of the user.
    """
    target = _target_outside(folder)
    is_trusted = bool(_for_this_command) or _recorded().get(str(Path.cwd() / folder)) == _digest([str(target)])
    return None if is_trusted else target


def _target_outside(folder: str) -> str | None:
    path = Path(folder).resolve()
    return None if path.is_relative_to(Path.cwd().resolve()) else str(path)


@functools.cache
def _project() -> tuple[Path, list[str]]:
    """Return the `pyproject.toml` of the directory in which this process started, and its list.

    The file is read once: a config or a stored run that changes the directory must not add another list.

    Raises:
        ConfigError: The file or the list cannot be read.
    """
    path = Path.cwd() / _PROJECT
    if not path.is_file():
        return path, []
    try:
        tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool")
    except OSError as error:
        raise ConfigError(Problem(_PROJECT, f"cannot read {path}: {error.strerror}")) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(Problem(_PROJECT, f"{path} is not valid TOML: {one_line(error, 200)}")) from error
    table = tools.get("hydratune", {}) if isinstance(tools, dict) else {}
    names = table.get("allow", []) if isinstance(table, dict) else table
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isprintable() for name in names):
        text = f"allow under [tool.hydratune] must be a list of packages, not {names!r}"
        hint = 'write allow = ["my_package"]'
        raise ConfigError(Problem(f"{_PROJECT} [tool.hydratune] allow", text, hint, _PROJECT))
    return path, names


def _store() -> Path:
    """Return the user's file that records trusted lists: path -> digest of the list."""
    return user_file("trusted.json")


def _recorded() -> dict[str, str]:
    try:
        return dict(json.loads(_store().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
