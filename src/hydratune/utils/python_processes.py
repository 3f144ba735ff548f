"""Child processes that run Python: they import no modules of the working directory, which may be a cloned project."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

_SAFE_PATH, _PATH = "PYTHONSAFEPATH", "PYTHONPATH"


def protect_children() -> None:
    """Set variables so that all child processes, also those of libraries, import modules from absolute paths only.

    The first variable excludes the working directory. The second one has a module that removes the relative paths that
    editable installs add: see `startup/sitecustomize.py`.
    """
    os.environ[_SAFE_PATH] = "1"
    paths = [path for path in os.environ.get(_PATH, "").split(os.pathsep) if path]
    if _startup() not in paths:
        os.environ[_PATH] = os.pathsep.join((_startup(), *paths))


def shell_setup() -> str:
    """Return a line of a shell script that does the same as `protect_children`."""
    protect_children()
    return f"export {_SAFE_PATH}=1 {_PATH}={shlex.quote(os.environ[_PATH])}"


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module; start it after `protect_children`."""
    protect_children()
    return [sys.executable, "-P", "-m", module, *arguments]


def start_python(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that runs a module.

    Args:
        module: Dotted name of the module.
        arguments: Its arguments, which every user of the machine can see.
        options: Options of `subprocess.Popen`.
    """
    return subprocess.Popen(python_command(module, *arguments), **options)


def become_python(module: str, *arguments: str) -> NoReturn:
    """Replace this process by one that runs a module."""
    command = python_command(module, *arguments)
    os.execv(command[0], command)  # noqa: S606


def _startup() -> str:
    spec = importlib.util.find_spec("hydratune.utils.startup")
    assert spec is not None and spec.origin is not None  # a part of this distribution
    return str(Path(spec.origin).parent)
