"""A run, a sweep, or a config file of someone else has no configs outside the project read; only the user names them."""

import json

import pytest

from fake_sweep import SPACE, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.config.composition import Request, compose_config, composer
from hydratune.utils.errors import ConfigError


@pytest.fixture
def private(tmp_path):
    """A folder outside the project, with a file that is no config of hydratune."""
    folder = tmp_path / "private"
    (folder / "vars").mkdir(parents=True)
    (folder / "sweep").mkdir()
    (folder / "sweep" / "mine.yaml").write_text("CANARY: 1\n")
    (folder / "vars" / "x.yaml").write_text("CANARY: 1\n")
    return folder


@pytest.fixture
def make_sweep(toy):
    """Return the directory of a sweep whose stored flags and overrides were changed."""

    def make(flags, overrides=()):
        directory = fake_study([*toy, *SPACE], fake(0.01, 0, 0.9)).plan.directory
        plan = json.loads((directory / "sweep.json").read_text())
        plan["flags"].update(flags)
        plan["overrides"] += overrides
        (directory / "sweep.json").write_text(json.dumps(plan))
        return str(directory)

    return make


COMMANDS = (["sweep", "status"], ["sweep", "report"], ["sweep", "finish"], ["ui", "--study"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["config_dir", "config_path"])
def test_stored_folder_of_a_sweep_is_not_read(make_sweep, private, command, flag):
    """Neither absolute, nor by `..`."""
    directory = make_sweep({flag: str(private)}, ["sweep=mine"] if flag == "config_dir" else [])
    with pytest.raises(ConfigError) as caught:
        dispatch([*command, directory])
    assert [problem.key for problem in caught.value.problems] == [f"--{flag.replace('_', '-')}"]


def test_stored_folder_counts_once_the_user_has_typed_it(make_sweep, private):
    """The control: then its file is read, and is an error, since it is not a sweep."""
    directory = make_sweep({"config_dir": str(private)}, ["sweep=mine"])
    dispatch(["configs", "--config-dir", str(private)])
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "status", directory])
    assert [problem.key for problem in caught.value.problems] == ["sweep"]


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "CANARY: 1",
        "a",
        "_target_: 3",
        "_target_: hydratune.sweep.Nope",
        "_target_: hydratune.tracking.NoTracking",
        "",
    ],
)
def test_malformed_sweep_option_of_a_stored_folder_is_an_error(make_sweep, own_directory, content):
    """Inside the project, the file is read."""
    (own_directory / "conf" / "sweep").mkdir(parents=True)
    (own_directory / "conf" / "sweep" / "mine.yaml").write_text(content)
    directory = make_sweep({"config_dir": str(own_directory / "conf")}, ["sweep=mine"])
    for command in COMMANDS:
        with pytest.raises(ConfigError):
            dispatch([*command, directory])


@pytest.mark.parametrize("provider", ["command-line", "main"])
def test_stored_folder_of_a_run_is_not_read(make_run, private, provider):
    """`resume` would compose its configs."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", make_run(private, provider)])
    assert caught.value.problems[0].key in ("--config-dir", "--config-path")


@pytest.fixture
def make_run(own_directory):
    """Return the directory of an interrupted run that names a folder of configs."""

    def make(folder, provider):
        hydra = own_directory / "outputs" / "run" / ".hydra"
        hydra.mkdir(parents=True)
        (hydra / "overrides.yaml").write_text("[dataset=digits]\n")
        source = {"path": str(folder), "provider": provider, "schema": "file"}
        runtime = {"cwd": str(own_directory), "config_sources": [source], "choices": {}}
        (hydra / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": runtime, "job": {"config_name": "train"}}}))
        return str(hydra.parent)

    return make


def composed(request):
    """Return the config of a request."""
    with composer(request):
        return compose_config(request, request.overrides)


def test_search_path_of_a_config_is_not_read_outside_the_project(own_directory, private):
    """Inside the project, the option exists."""
    for entry in (f"file://{private}", "file://../private", str(private)):
        with pytest.raises(ConfigError) as caught:
            composed(Request((f"hydra.searchpath=['{entry}']", "+vars=x")))
        assert "CANARY" not in str(caught.value)
    (own_directory / "vars").mkdir()
    (own_directory / "vars" / "x.yaml").write_text("y: 1\n")
    assert composed(Request(("hydra.searchpath=[file://.]", "+vars=x"))).vars.y == 1


@pytest.mark.parametrize("levels", range(1, 12))
def test_option_outside_of_its_folder_is_not_read(private, levels):
    """Neither from the shipped configs nor from the user's."""
    for config_dir in (None, private / "sweep"):
        name = "/".join([".."] * levels) + str(private / "vars" / "x")
        with pytest.raises(ConfigError) as caught:
            composed(Request((f"+vars='{name}'",), config_dir))
        assert "CANARY" not in str(caught.value)


BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *(
    f"{name}: &{name} [{', '.join([f'*{previous}'] * 9)}]" for previous, name in zip("abcdefghi", "bcdefghij", strict=True))])  # fmt: skip


def test_config_whose_aliases_fill_the_memory_is_an_error(own_directory):
    """Also in a folder of the search path of a primary config."""
    folder = own_directory / "conf" / "vars"
    folder.mkdir(parents=True)
    (folder / "bomb.yaml").write_text(BOMB)
    for request in (
        Request(("+vars=bomb",), folder.parent),
        Request((f"hydra.searchpath=[file://{folder.parent}]", "+vars=bomb")),
    ):
        with pytest.raises(ConfigError):
            composed(request)
