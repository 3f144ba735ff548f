"""Commands below the directory of a project."""

import os
import subprocess

import pytest

from hydratune.config.project import project_above
from processes import HYDRATUNE


@pytest.fixture
def project(own_directory):
    """A project in the working directory, with a directory below it."""
    (own_directory / "pyproject.toml").write_text("[tool.hydratune]\n")
    (own_directory / "notes" / "a b").mkdir(parents=True)
    return own_directory


def test_the_nearest_project_above_is_found(project, monkeypatch):
    """A directory that is a project itself, or is in none, has no other."""
    assert project_above() is None
    monkeypatch.chdir("notes/a b")
    assert project_above() == project
    (project / "notes" / "pyproject.toml").write_text("[tool.ruff]\n")
    assert project_above() == project
    (project / "pyproject.toml").write_text("[tool")
    assert project_above() is None


@pytest.mark.parametrize(
    "arguments", [["experiment=first", "-n"], ["show", "latest"], ["runs"], ["sweep", "report", "s"]]
)
def test_a_command_below_a_project_says_where_it_is(project, arguments):
    """The directory in the output leads to the project."""
    done = subprocess.run(
        [HYDRATUNE, *arguments], cwd=project / "notes" / "a b", capture_output=True, text=True, check=False
    )
    assert "cd ../.." in done.stdout + done.stderr


def test_pipe_is_no_project(own_directory, monkeypatch):
    """Reading it would wait for a writer."""
    os.mkfifo(own_directory / "pyproject.toml")
    (own_directory / "below").mkdir()
    monkeypatch.chdir(own_directory / "below")
    assert project_above() is None
