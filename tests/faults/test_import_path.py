"""Python looks for modules and for entry points of plugins in installed packages only, not in a cloned project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


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
