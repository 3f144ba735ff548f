"""Python looks for modules and for entry points of plugins in installed packages only, not in a cloned project."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from hydratune.utils.python_processes import protect_children, shell_setup


def search_path(*flags):
    """Return the entries of `sys.path` after an import of hydratune."""
    command = [sys.executable, *flags, "-c", "import hydratune, sys; print(*sys.path, sep='\\n')"]
    environment = {**os.environ, "PYTHONSAFEPATH": ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.removesuffix("\n").split("\n")


def test_search_path_has_no_relative_entry():
    """Torch and MLflow call each plugin that a package on it names, wherever the command runs."""
    assert [entry for entry in search_path("-P") if not Path(entry).is_absolute()] == []


def test_search_path_would_have_the_working_directory():
    """Positive control: without the flag that child processes inherit, it is an entry."""
    assert "" in search_path()


def test_relative_entry_leaves_the_search_path():
    """Other packages may have added it."""
    code = "import sys; from hydratune.config import import_guards as g; sys.path.append('x'); g.guard_imports(); print('x' in sys.path)"
    command = [sys.executable, "-P", "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.fixture
def environment(tmp_path_factory):
    """Return the Python of an environment with an editable install that adds a relative path."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/*/site-packages")
    (packages / "theirs.pth").write_text("import sys; sys.path.append('relative')\n")
    return folder / "bin" / "python"


@pytest.fixture
def evil(own_directory, monkeypatch):
    """Make the relative path a directory of the project, with a module and a plugin."""
    info = own_directory / "relative" / "evil-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[submitit]\nevil = evil\n")
    (own_directory / "relative" / "evil.py").write_text("")
    monkeypatch.setattr(os, "environ", {**os.environ, "PYTHONPATH": "", "PYTHONSAFEPATH": ""})


FINDS = """
import subprocess, sys
from importlib import metadata, util
if len(sys.argv) > 1:  # a child process of a child process
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
else:
    print(bool(util.find_spec("evil")), len(metadata.entry_points(group="submitit")))
"""


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize("grandchild", [[], [FINDS]], ids=["child", "grandchild"])
@pytest.mark.parametrize("is_protected", [True, False])
def test_child_processes_find_no_module_of_the_working_directory(environment, grandchild, is_protected):
    """Neither those of hydratune, nor those that libraries start; the control is the environment without protection."""
    if is_protected:
        protect_children()
    command = [environment, "-c", FINDS, *grandchild]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout == ("False 0\n" if is_protected else "True 1\n")


@pytest.mark.usefixtures("evil")
def test_child_processes_run_the_customization_of_the_environment(environment, own_directory, monkeypatch):
    """Such as the one with which coverage measures processes; what it adds to the path is removed, too."""
    (own_directory / "own").mkdir()
    (own_directory / "own" / "sitecustomize.py").write_text("import sys; print('own'); sys.path.append('relative')")
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(own_directory / "own"))
    protect_children()
    protect_children()  # e.g. by a child process, before it starts another one
    done = subprocess.run([environment, "-c", FINDS], check=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout == "own\nFalse 0\n"


def test_jobs_of_slurm_are_protected(environment, own_directory):
    """Their script sets the variables, whatever of the environment Slurm passes on."""
    script = f"{shell_setup()}; {environment} -c 'import sys; print(*sys.path, sep=chr(10))'"
    done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True, env={})
    assert own_directory == Path.cwd()
    assert [path for path in done.stdout.split() if not Path(path).is_absolute()] == []


@pytest.mark.slow
def test_plugins_of_the_working_directory_are_not_called(own_directory):
    """In a directory with the name that an editable install with half a namespace package adds to the path."""
    name = f"__editable__.hydratune-{__import__('hydratune').__version__}.finder.__path_hook__"
    folder = own_directory / name / "evil-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Name: evil\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[torch.backends]\nevil = evil:run\n")
    (own_directory / name / "evil.py").write_text("run = lambda: open('canary', 'w')")
    script = Path(sys.executable).with_name("hydratune")
    subprocess.run([script, "env"], check=True, capture_output=True)
    assert not (own_directory / "canary").exists()


@pytest.mark.parametrize(("call", "used"), [("guard_imports()", "8.0"), ("pass", "99.0")])
def test_matplotlib_ignores_settings_of_the_working_directory(own_directory, call, used):
    """They could import modules and start LaTeX. Positive control: without the guard, matplotlib reads them."""
    (own_directory / "matplotlibrc").write_text("xtick.labelsize: 99\n")
    (own_directory / "home").mkdir()
    (own_directory / "home" / "matplotlibrc").write_text("xtick.labelsize: 8\n")
    code = f"from hydratune.config.import_guards import guard_imports; {call}; import matplotlib as mpl; print(mpl.rcParams['xtick.labelsize'])"
    environment = {**os.environ, "MATPLOTLIBRC": str(own_directory / "home")}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == used
