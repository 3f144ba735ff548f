"""Modules in the directory where a command starts, e.g. that of a cloned repository, are not imported by any process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hydratune.cli import main, ui

SOURCE = Path(main.__file__).parent
NAMES = ["click", "mlflow", "multiprocessing", "hydratune", "json", "sitecustomize"]


@pytest.fixture
def canary(own_directory):
    """A file that modules of the current directory write when they are imported."""
    path = own_directory.parent / "canary"
    for name in NAMES:
        (own_directory / f"{name}.py").write_text(f"open({str(path)!r}, 'a').write({name!r})\n")
    return path


def run(*arguments, **environment):
    """Run Python in the current directory."""
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False, env={**os.environ, **environment})


def test_ui_imports_no_module_of_the_directory(canary, store, monkeypatch):
    """The server starts with the same options of Python."""
    commands = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: commands.append(arguments))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    ui.main(["--uri", store])
    (command,) = commands
    run(*command[1 : command.index("mlflow") + 1], "--version")
    assert not canary.exists()


def test_processes_of_libraries_import_no_module_of_the_directory(canary, monkeypatch):
    """Libraries start processes with `-c` and `-m`, e.g. for workers; they inherit the environment of the command."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "argv", ["hydratune", "--version"])
    monkeypatch.setattr(main.signals, "install", lambda _: None)
    monkeypatch.setattr(main, "guard_output", lambda: None)
    with pytest.raises(SystemExit):
        main.main()
    run("-c", "from multiprocessing import spawn", PYTHONSAFEPATH=os.environ["PYTHONSAFEPATH"])
    run("-m", "json", PYTHONSAFEPATH=os.environ["PYTHONSAFEPATH"])
    assert not canary.exists()


def test_canary_works(canary):
    """Positive control: without these settings, the modules are imported."""
    run("-c", "from multiprocessing import spawn", PYTHONSAFEPATH="")
    run("-m", "json", PYTHONSAFEPATH="")
    assert canary.read_text() == "multiprocessingjson"


def test_each_start_of_python_leaves_out_the_directory():
    """Every command that starts with `sys.executable` has the option -P."""
    starts = [
        (path.name, rest.lstrip(", "))
        for path in SOURCE.rglob("*.py")
        for rest in path.read_text().split("[sys.executable")[1:]
    ]
    assert starts
    assert [name for name, rest in starts if not rest.startswith('"-P"')] == []
