"""Tab completion: the commands of the docs print scripts that shells accept, and it offers options and keys."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hydratune.cli.main import VERBS, dispatch
from processes import HYDRATUNE, hydratune

PAGE = Path(__file__).parents[2] / "docs" / "configs.md"


def documented(shell):
    """The block of the docs for a shell."""
    (block,) = re.findall(rf"```{shell}\n(# {shell}.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return block


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_documented_command_prints_a_completion_script(shell):
    """It registers a function for `hydratune`."""
    (arguments,) = re.findall(r"hydratune (-sc install=\w+)", documented(shell))
    done = hydratune(*arguments.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"complete .*hydratune", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_documented_lines_run_in_the_shell(shell):
    """Where it is installed."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    start = "autoload -Uz compinit && compinit -u\n" if shell == "zsh" else ""
    environment = {"PATH": f"{Path(HYDRATUNE).parent}:/usr/bin:/bin", "HOME": str(Path.cwd())}
    done = subprocess.run(
        [shell, "-c", start + documented(shell)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_offers_options_and_keys_of_the_project():
    """Shipped ones and those of the project's own configs."""
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/mine.yaml").write_text("# @package _global_\nseed: 1\n")
    Path("pyproject.toml").write_text('[tool.hydratune]\nconfig-dir = "conf"\n')
    line = "hydratune experiment="
    done = hydratune("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert {"experiment=mine", "experiment=digits"} <= {*done.stdout.split()}


@pytest.mark.parametrize(
    ("line", "offered"),
    [("hydratune pre", {"predict"}), ("hydratune co", {"compare", "configs"}), ("hydratune seed=", set())],
)
def test_completion_offers_commands_for_the_first_word(line, offered, monkeypatch, capsys):
    """Hydra itself knows only overrides."""
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setattr("sys.argv", ["hydratune"])
    dispatch(["-sc", "query=bash"])
    assert {*capsys.readouterr().out.split()} & {*VERBS} == offered
