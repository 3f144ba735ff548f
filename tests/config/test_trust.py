"""A project's own list of allowed code counts only after the user has trusted it."""

import re
import shlex
import stat
from pathlib import Path

import pytest

from hydratune.cli import trust
from hydratune.cli.main import dispatch
from hydratune.cli.train import checked
from hydratune.config import allowlist, servers
from hydratune.config.composition import Request, composer
from hydratune.config.project import config_dir, project_settings, typed_flags
from hydratune.utils import places
from hydratune.utils.errors import ConfigError
from hydratune.utils.user_records import record_path


@pytest.fixture
def project(own_directory, monkeypatch):
    """Write the list of the `pyproject.toml` of the current directory, which this process has not read yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_directory / "config"))
    monkeypatch.setattr(places, "trusted_for_this_command", [])

    def write(*names):
        (own_directory / "pyproject.toml").write_text(f"[tool.hydratune]\nallow = {list(names)}\n")
        project_settings.cache_clear()

    return write


def test_list_is_not_trusted_by_itself(project):
    """A cloned repository must not allow its own code."""
    project("os", "evil")
    assert allowlist.user_allowlist() == ()


def test_trusted_list_counts(project, capsys):
    """`hydratune trust` prints every name, and the list counts from then on."""
    project("json", "my_package")
    assert dispatch(["trust"]) == 0
    assert allowlist.user_allowlist() == ("json", "my_package")
    assert {"json", "my_package"} <= set(capsys.readouterr().out.split())


def test_changed_list_must_be_trusted_again(project):
    """What was trusted is that list, not the file whatever it says later."""
    project("json")
    dispatch(["trust"])
    project("json", "os")
    assert allowlist.user_allowlist() == ()


def test_list_of_another_path_is_not_trusted(project, own_directory, monkeypatch):
    """The same list in another directory allows that directory's code, which the user has not seen."""
    project("json")
    dispatch(["trust"])
    (own_directory / "clone").mkdir()
    (own_directory / "clone" / "pyproject.toml").write_bytes((own_directory / "pyproject.toml").read_bytes())
    monkeypatch.chdir("clone")
    project_settings.cache_clear()
    assert allowlist.user_allowlist() == ()


def test_flag_trusts_one_command(project, monkeypatch):
    """In CI, `--trust-project` allows the list for one command and leaves no record."""
    project("json")
    dispatch(["--trust-project", "--version"])
    assert allowlist.user_allowlist() == ("json",)
    assert not record_path(places.RECORD).exists()
    monkeypatch.setattr(places, "trusted_for_this_command", [])
    monkeypatch.setenv(allowlist.VARIABLE, "")
    assert allowlist.user_allowlist() == ()


def test_record_is_private_to_the_user(project):
    """Nobody else may write into the directory of the record."""
    project("json")
    dispatch(["trust"])
    assert stat.S_IMODE(record_path(places.RECORD).parent.stat().st_mode) & 0o077 == 0


def test_damaged_record_trusts_nothing(project):
    """A record that cannot be read is as none."""
    project("json")
    dispatch(["trust"])
    record_path(places.RECORD).write_text("[")
    assert allowlist.user_allowlist() == ()


def test_refused_code_names_the_command(project):
    """The hint of an error about code of an untrusted list leads to `hydratune trust`; other code must be listed first."""
    project("my_package")
    listed, other = allowlist.how_to_allow("my_package.tasks.Mine"), allowlist.how_to_allow("other.Mine")
    assert ("hydratune trust" in listed, "export" in listed) == (True, False)
    assert ("hydratune trust" in other, "export HYDRATUNE_ALLOW=other.Mine" in other) == (True, True)


@pytest.mark.parametrize(
    "text",
    [
        "tool = 3",
        "[tool]\nhydratune = 3",
        "[tool.hydratune]\nallow = 3",
        "[tool.hydratune]\nallow = [3]",
        "a = [",
        "a = " + "[" * 10_000,
    ],
)
def test_malformed_project_allows_nothing(own_directory, text):
    """A cloned repository may have any file of this name: no list, or one error."""
    (own_directory / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        trust.main([])
    assert [problem.key.partition(" ")[0] for problem in caught.value.problems] == ["pyproject.toml"]


def test_nothing_to_trust(own_directory):
    """Without a list there is nothing to record."""
    assert own_directory == Path.cwd()
    project_settings.cache_clear()
    with pytest.raises(ConfigError) as caught:
        dispatch(["trust"])
    assert [problem.key for problem in caught.value.problems] == ["pyproject.toml"]


LINKS = ["outputs", "multirun"]


@pytest.fixture
def linked(project, own_directory):
    """Makes a directory for results a link; returns the keys that a check refuses."""
    project()
    (own_directory.parent / "home" / "inner").mkdir(parents=True)
    (own_directory / "inside").mkdir()

    def link(folder, target):
        Path(folder).unlink(missing_ok=True)
        Path(folder).symlink_to(target)
        with composer(request := Request(("dataset=digits", "task=image_classification", "model=vit_tiny"))):
            try:
                checked(request)
            except ConfigError as error:
                return [problem.key for problem in error.problems]
        return []

    return link


@pytest.mark.parametrize("folder", LINKS)
@pytest.mark.parametrize(
    "target", ["../home", "../home/inner", "inside/../../home", "{}", "/tmp", "..", "/proc/self/cwd/../home"]
)
def test_links_for_results_are_not_trusted(linked, own_directory, folder, target):
    """A cloned repository must not place results in a directory of the user."""
    refused = linked(folder, target.format(own_directory.parent / "home"))
    assert refused == [folder]
    assert not [*(own_directory.parent / "home").rglob("*.db")]


@pytest.mark.parametrize("folder", LINKS)
def test_links_for_results_inside_the_project_are_accepted(linked, folder):
    """They lead to no directory that the repository could not fill itself."""
    assert linked(folder, "inside") == []


def test_trusted_link_counts_until_it_changes(linked):
    """What was trusted is that target."""
    linked("outputs", "../home")
    dispatch(["trust"])
    assert linked("outputs", "../home") == []
    assert linked("outputs", "../home/inner") == ["outputs"]


@pytest.mark.parametrize("folder", LINKS)
@pytest.mark.parametrize("directory", ["outputs", "run"])
def test_store_behind_an_untrusted_link_is_not_of_the_project(linked, own_directory, folder, directory):
    """Neither if a config names it, nor a stored run; once the user trusts the link, it is."""
    linked(folder, "../home")
    uri = f"sqlite:///{own_directory}/{folder}/mlflow.db"
    assert servers.stored_problem(uri, Path(directory), "tracking.uri") is not None
    dispatch(["trust"])
    assert servers.stored_problem(uri, Path(directory), "tracking.uri") is None


@pytest.mark.parametrize("place", [".", "clone"])
def test_hint_names_the_directory_in_which_to_trust(linked, own_directory, monkeypatch, place):
    """A link is trusted where its project is, also if the command runs in another directory."""
    linked("outputs", "../home")
    (own_directory / "clone").mkdir()
    monkeypatch.chdir(place)
    with pytest.raises(ConfigError) as caught:
        places.check_place("RUN", own_directory / "outputs" / "run")
    for command in re.search("`(.+)`", caught.value.problems[0].hint)[1].split(" && "):
        name, *rest = shlex.split(command)
        monkeypatch.chdir(*rest) if name == "cd" else dispatch(rest)
    monkeypatch.chdir(own_directory / place)
    places.check_place("RUN", own_directory / "outputs" / "run")


def test_sweep_writes_through_no_link(linked):
    """A sweep is checked in another place."""
    linked("multirun", "../home")
    with pytest.raises(ConfigError) as caught:
        dispatch(["-m", "dataset=digits", "task=image_classification", "model=vit_tiny", "seed=1,2"])
    assert [problem.key for problem in caught.value.problems] == ["multirun"]


@pytest.mark.parametrize("value", ['"../other"', '"missing"', '"/tmp"', "1", '"link"'])
def test_config_dir_must_be_inside_the_project(own_directory, value):
    """Otherwise a cloned repository could name the configs of another one."""
    (own_directory.parent / "other").mkdir()
    (own_directory / "link").symlink_to(own_directory.parent / "other")
    (own_directory / "pyproject.toml").write_text(f"[tool.hydratune]\nconfig-dir = {value}\n")
    project_settings.cache_clear()
    with pytest.raises(ConfigError) as caught:
        config_dir()
    assert "config-dir" in caught.value.problems[0].key


def test_config_dir_adds_options_but_replaces_none(own_directory):
    """A shipped option is found before one of the project with the same name."""
    for name, seed in (("digits", 1), ("mine", 2)):
        path = own_directory / "conf" / "experiment" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\nseed: {seed}\n")
    (own_directory / "pyproject.toml").write_text('[tool.hydratune]\nconfig-dir = "conf"\n')
    project_settings.cache_clear()
    request = Request(("experiment=digits",), config_dir=config_dir().absolute())
    with composer(request):
        assert checked(request).seed == 42
        own = Request(("experiment=mine",), config_dir=request.config_dir)
        assert checked(own).seed == 2


def test_typed_flags_omit_the_directory_of_the_project(own_directory):
    """A recorded command has the flags that were typed; the project's own directory is found without one."""
    (own_directory / "conf").mkdir()
    (own_directory / "pyproject.toml").write_text('[tool.hydratune]\nconfig-dir = "conf"\n')
    project_settings.cache_clear()
    typed = ["--config-dir", "other", "--config-name", "mine"]
    assert typed_flags(["--config-dir", "conf", *typed[2:]]) == typed[2:]
    assert typed_flags(typed) == typed
