"""The command that resumes a sweep, as the user can paste it."""

import re
import shlex

import pytest

from fake_sweep import SPACE, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.config.project import project_settings
from hydratune.sweep.stored_plan import read_plan, sweep_command
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PLAN


@pytest.fixture
def unfinished(toy):
    """A sweep with one finished trial of eight."""
    return fake_study([*toy, *SPACE, "sweep.name=mine"], fake(0.001, 0, 0.7)).plan


def overrides(text):
    """The overrides of the command for a sweep in a text."""
    (command,) = re.findall(r"hydratune -m (.+?)(?:  |$)", text, re.MULTILINE)
    return shlex.split(command)


def test_stored_command_is_the_typed_one(toy, unfinished):
    """It has the overrides in the order in which they were typed, also those with spaces and commas."""
    assert overrides(sweep_command(read_plan(unfinished.directory))) == [*toy, *SPACE, "sweep.name=mine"]


@pytest.mark.parametrize("name", ["mine", "multirun/mine", "latest", "multirun/mine/0"])
def test_resume_names_the_command_of_the_sweep(toy, unfinished, name):
    """For the sweep and for a trial of it."""
    trial = unfinished.directory / "0"
    trial.mkdir()
    for file in ("config.yaml", "overrides.yaml"):
        (trial / file).write_text("[]")
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", name])
    (problem,) = caught.value.problems
    assert (problem.key, overrides(problem.hint)) == ("RUN", [*toy, *SPACE, "sweep.name=mine"])


@pytest.mark.usefixtures("unfinished")
@pytest.mark.parametrize("subcommand", ["status", "report"])
def test_state_of_an_unfinished_sweep_names_its_command(subcommand, capsys, monkeypatch):
    """The command is on one line."""
    monkeypatch.setattr("hydratune.sweep.report.page.write", lambda *_: [])
    dispatch(["sweep", subcommand, "mine"])
    assert "sweep.name=mine" in overrides(capsys.readouterr().out)


def test_finished_sweep_names_no_command(toy, capsys):
    """Nothing is left to resume."""
    fake_study([*toy, *SPACE, "sweep.n_trials=1", "sweep.name=mine"], fake(0.001, 0, 0.7))
    dispatch(["sweep", "status", "mine"])
    assert "hydratune -m" not in capsys.readouterr().out


def test_folder_of_the_project_is_not_repeated(toy, own_directory):
    """Each command adds it by itself; another folder is named."""
    for name in ("conf", "more"):
        (own_directory / name).mkdir()
    (own_directory / "pyproject.toml").write_text('[tool.hydratune]\nconfig-dir = "conf"\n')
    project_settings.cache_clear()
    commands = [
        sweep_command(fake_study([*toy, *SPACE, f"sweep.name={name}"], config_dir=own_directory / name).plan)
        for name in ("conf", "more")
    ]
    assert ["--config-dir more" in command for command in commands] == [False, True]
    assert "--config-dir conf" not in commands[0]


def test_command_elsewhere_starts_in_the_directory_of_the_sweep(unfinished, monkeypatch, tmp_path):
    """Relative paths of the overrides count from there."""
    monkeypatch.chdir(tmp_path)
    assert sweep_command(unfinished).startswith(f"cd {unfinished.cwd} && ")


def test_stored_flags_are_refused(unfinished):
    """A plan of someone else puts no flag into a command that is pasted."""
    path = unfinished.directory / PLAN
    path.write_text(path.read_text().replace('"sweep.name=mine"\n', '"--trust"\n'))
    with pytest.raises(ConfigError):
        read_plan(unfinished.directory)
