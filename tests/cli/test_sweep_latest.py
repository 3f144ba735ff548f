"""Names of sweeps on the command line."""

import os

import pytest

from hydratune.cli.main import dispatch
from hydratune.cli.sweep import sweep_directory
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import PLAN


def test_latest_stands_for_the_newest_sweep(own_directory):
    """`latest` is the sweep that began last, unless a sweep has this name."""
    for number, name in enumerate(("old", "new", "older")):
        folder = own_directory / "multirun" / name
        folder.mkdir(parents=True)
        (folder / PLAN).write_text("{}")
        began = 1000 + (number if name != "older" else -1)
        os.utime(folder / PLAN, (began, began))
    assert sweep_directory("latest").name == "new"
    (own_directory / "multirun" / "latest").mkdir()
    (own_directory / "multirun" / "latest" / PLAN).write_text("{}")
    assert sweep_directory("latest").name == "latest"


@pytest.fixture
def sweeps(own_directory):
    """Makes sweeps with these names, the oldest first."""

    def make(*names):
        for number, name in enumerate(names):
            folder = own_directory / "multirun" / name
            folder.mkdir(parents=True)
            (folder / PLAN).write_text("{}")
            os.utime(folder / PLAN, (1000 + number, 1000 + number))

    return make


def test_status_without_a_name_lists_the_sweeps(sweeps, capsys):
    """The newest sweep comes first."""
    assert dispatch(["sweep", "status"]) == 0
    assert "hydratune -m" in capsys.readouterr().out
    sweeps("old", "new")
    assert dispatch(["sweep", "status"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:2]] == ["multirun/new", "multirun/old"]


@pytest.mark.parametrize("subcommand", ["report", "finish"])
def test_missing_name_is_answered_with_the_sweeps(sweeps, subcommand):
    """Up to eight of them."""
    sweeps(*map(str, range(9)))
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", subcommand])
    (problem,) = caught.value.problems
    assert problem.key == "NAME"
    assert problem.hints[0].partition(": ")[2] == "8, 7, 6, 5, 4, 3, 2, 1"


def test_typo_of_latest_is_answered(sweeps):
    """For sweeps and for runs."""
    sweeps("s1")
    for command in (["sweep", "status", "lastest"], ["resume", "lastest"]):
        with pytest.raises(ConfigError) as caught:
            dispatch(command)
        assert caught.value.problems[0].hints[0].endswith(" latest")


def test_name_of_the_config_is_answered_with_the_newest_sweep(sweeps):
    """The directory has more in its name than `name=NAME` of the command."""
    sweeps("lrs-lr-4c6158", "lrs-wd-19ab00", "lrsx-lr-4c6158")
    with pytest.raises(ConfigError) as caught:
        sweep_directory("lrs")
    assert caught.value.problems[0].hints[0].endswith(" lrs-wd-19ab00")
