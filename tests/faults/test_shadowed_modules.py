"""Modules in the directory where a command starts, e.g. that of a cloned repository, are not imported by any process."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hydratune.cli import main, ui

SOURCE = Path(main.__file__).parents[1]
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


RAY_PATHS = """
import os, sys, ray
from omegaconf import OmegaConf
from hydratune.sweep import ray_cluster
{start}
print("PATHS", os.getcwd() in ray.get(ray.remote(lambda: sys.path).remote()))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("own_directory")
@pytest.mark.skipif(not find_spec("ray"), reason="ray is not installed")
@pytest.mark.parametrize(
    ("start", "is_imported"),
    [("ray_cluster.connect(OmegaConf.create({'num_cpus': 1}))", False), ("ray.init('local', num_cpus=1)", True)],
    ids=["hydratune", "positive control"],
)
def test_workers_of_ray_import_no_module_of_the_directory(start, is_imported):
    """By default, Ray puts the directory of the driver first on the path of its workers."""
    command = [sys.executable, "-P", "-c", RAY_PATHS.format(start=start)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"PATHS {is_imported}" in done.stdout


def test_each_start_of_python_leaves_out_the_directory():
    """Every command that starts with `sys.executable` has the option -P."""
    starts = [
        (path.name, rest.lstrip(", "))
        for path in SOURCE.rglob("*.py")
        for rest in path.read_text().split("[sys.executable")[1:]
    ]
    assert starts
    assert [name for name, rest in starts if not rest.startswith('"-P"')] == []
