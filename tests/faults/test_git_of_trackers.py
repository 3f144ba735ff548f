"""Clients of trackers run git, and write to directories, that come with someone else's project."""

import subprocess

import pytest

from hydratune.cli.main import dispatch
from hydratune.config import tracker_settings
from hydratune.config.project import project_settings
from hydratune.utils import places

PROGRAM = "touch {}/ran; false"


def git(*arguments, folder="."):
    """Run git as a tracker does."""
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)  # noqa: S607


def commit(folder):
    """Create a repository with one commit."""
    folder.mkdir(exist_ok=True)
    (folder / "data.txt").write_text("x")
    for command in (["init"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "x"]):
        assert not git(*command, folder=folder).returncode


def monitor(folder):
    """Name a monitor of files."""
    commit(folder)
    git("config", "core.fsmonitor", PROGRAM.format(folder))


def included(folder):
    """Name the monitor in a file that the config includes."""
    commit(folder)
    (folder / "more").write_text(f'[core]\n\tfsmonitor = "{PROGRAM.format(folder)}"\n')
    git("config", "include.path", "../more")


def of_worktree(folder):
    """Name the monitor in the config of a worktree."""
    commit(folder)
    git("config", "extensions.worktreeConfig", "true")
    git("config", "--worktree", "core.fsmonitor", PROGRAM.format(folder))


def text_conversion(folder):
    """Name a program that converts files."""
    commit(folder)
    (folder / ".gitattributes").write_text("*.txt diff=evil\n")
    git("config", "diff.evil.textconv", f"{PROGRAM.format(folder)} #")
    (folder / "data.txt").write_text("y")


def clean_filter(folder):
    """Name a filter."""
    commit(folder)
    (folder / ".gitattributes").write_text("*.txt filter=evil\n")
    git("config", "filter.evil.clean", PROGRAM.format(folder))
    (folder / "data.txt").write_text("y")


def hook(folder):
    """Have a hook that git runs when it refreshes the index."""
    commit(folder)
    path = folder / ".git/hooks/post-index-change"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{PROGRAM.format(folder)}\n")
    path.chmod(0o755)
    (folder / "data.txt").touch()


def bare(folder):
    """Be a repository without `.git`, which `git clone` copies."""
    for name in ("objects", "refs"):
        (folder / name).mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    text = f'[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = "{PROGRAM.format(folder)}"\n'
    (folder / "config").write_text(text)


def submodule(folder):
    """Name the monitor in the config of a submodule."""
    commit(folder)
    commit(folder / "inner")
    git("config", "core.fsmonitor", PROGRAM.format(folder), folder=folder / "inner")
    git("add", "inner")


REPOSITORIES = [monitor, included, of_worktree, text_conversion, clean_filter, hook, bare, submodule]


@pytest.fixture
def project(own_directory, monkeypatch):
    """An empty working directory whose settings nobody has trusted."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_directory.parent / "config"))
    monkeypatch.setattr(places, "trusted_for_this_command", [])
    project_settings.cache_clear()
    return own_directory


@pytest.mark.parametrize("write", REPOSITORIES)
def test_git_of_a_tracker_runs_no_program_of_the_project(project, write):
    """The check itself runs none either."""
    write(project)
    (project / "ran").unlink(missing_ok=True)
    assert [*tracker_settings.problems("wandb")]
    assert not (project / "ran").exists()
    for command in (["status"], ["diff"]):  # positive control
        git(*command)
    assert (project / "ran").exists()


@pytest.mark.parametrize("reporters", ["none", [], None, "tensorboard"])
def test_git_does_not_matter_without_a_tracker_that_runs_it(project, reporters):
    """Positive control."""
    monitor(project)
    assert not [*tracker_settings.problems(reporters)]


def test_repository_in_the_folder_of_the_program_counts(project, monkeypatch):
    """An environment in the project can be inside another repository; clearml runs git there."""
    (project / "venv/bin").mkdir(parents=True)
    bare(project / "venv")
    monkeypatch.setattr("sys.argv", [str(project / "venv/bin/hydratune")])
    assert [*tracker_settings.problems("clearml")]


def test_plain_clone_with_submodules_and_branches_is_accepted(project):
    """Positive control: what git itself writes into a clone."""
    commit(project.parent / "origin")
    git("clone", str(project.parent / "origin"), str(project))
    for command in (
        ["-c", "protocol.file.allow=always", "submodule", "add", str(project.parent / "origin"), "inner"],
        ["checkout", "-b", "other", "--track"],
        ["config", "core.fsmonitor", "false"],
        ["config", "user.email", "me@example.com"],
    ):
        assert not git(*command).returncode
    assert not [*tracker_settings.problems("wandb")]


def test_settings_of_git_count_once_they_are_trusted_until_they_change(project, capsys):
    """They may be the user's own."""
    monitor(project)
    assert dispatch(["trust"]) == 0
    assert ".git/config" in capsys.readouterr().out
    assert not [*tracker_settings.problems("wandb")]
    git("config", "core.fsmonitor", "other")
    assert [*tracker_settings.problems("wandb")]


LINKS = {"wandb": "wandb", "swanlog": "swanlab", "dvclive": "dvclive", "emissions.csv": "codecarbon"}


@pytest.mark.parametrize(("name", "tracker"), LINKS.items())
def test_trackers_write_through_no_link_of_the_project(project, name, tracker):
    """The link may lead to a directory of the user."""
    assert not [*tracker_settings.problems(tracker)]
    (project / name).symlink_to(project.parent / "elsewhere")
    assert [*tracker_settings.problems(tracker)]


def test_dvclive_writes_through_no_link_in_its_directory(project):
    """Its files have the same names in each run."""
    (project / "dvclive").mkdir()
    (project / "dvclive/metrics.json").symlink_to(project.parent / "elsewhere")
    assert [*tracker_settings.problems("dvclive")]
