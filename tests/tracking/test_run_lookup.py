"""RUN: the texts that stand for a run, and the errors for those that stand for none or several."""

import json
import os
import re

import pytest

from hydratune.cli.main import dispatch
from hydratune.tracking import run_lookup
from hydratune.tracking.client import connect
from hydratune.tracking.journal import JOURNAL
from hydratune.tracking.run_directories import unfinished_run
from hydratune.tracking.run_lookup import RunLookup
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import PLAN


@pytest.fixture
def make_run(own_directory):
    """Writes what identifies a tracked run that began so many seconds ago."""

    def make(directory, run_id, name, age=0, uri="sqlite:///elsewhere.db"):
        folder = own_directory / directory
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".lock").touch()
        began = (folder / ".lock").stat().st_mtime - age
        os.utime(folder / ".lock", (began, began))
        entry = {"kind": "run", "key": run_id, "experiment": "x", "name": name, "tags": {}, "began": 1, "uri": uri}
        (folder / JOURNAL).write_text(json.dumps(entry) + "\n")
        (folder / "mlflow.json").write_text(json.dumps({"uri": uri, "experiment_id": "1", "run_id": run_id}))
        return directory

    return make


@pytest.fixture
def runs(make_run):
    """Two runs; two trials of a sweep, and its retrained best one; all with different IDs, two with one name."""
    make_run("outputs/films/new", "aaaa" + "1" * 28, "lr=1 films", age=10)
    make_run("outputs/films/old", "aaaa" + "2" * 28, "twin", age=20)
    make_run("multirun/grid/0", "b" * 32, "lr=2", age=30)
    make_run("multirun/grid/1", "c" * 32, "twin", age=40)
    make_run("multirun/grid/best/trial=1/seed=3", "d" * 32, "seed=3", age=50)


def make_sweep(own_directory, run_id="e" * 32):
    """Turn the runs of `multirun/grid` into trials."""
    (own_directory / "multirun" / "grid" / PLAN).write_text("{}")
    pointer = {"uri": "sqlite:///elsewhere.db", "experiment_id": "1", "run_id": run_id}
    (own_directory / "multirun" / "grid" / "mlflow.json").write_text(json.dumps(pointer))


def problem_of(text, uri=None):
    """The error for RUN."""
    with pytest.raises(ConfigError) as caught:
        RunLookup(uri).directory(text)
    (problem,) = caught.value.problems
    assert problem.key == "RUN"
    return problem


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    "text", ["outputs/films/new", "./outputs/films/new/", "latest", "lr=1 films", "aaaa1", "aaaa" + "1" * 28]
)
def test_run_lookup_takes_each_form(own_directory, text):
    """A directory, `latest`, a name, and an ID or its beginning stand for the same run."""
    assert RunLookup().directory(text).absolute() == own_directory / "outputs" / "films" / "new"


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("text", "directories"),
    [("twin", ["outputs/films/old", "multirun/grid/1"]), ("aaaa", ["outputs/films/new", "outputs/films/old"])],
)
def test_run_lookup_lists_the_directories_of_several_matches(text, directories):
    """A name or the beginning of an ID that two runs share."""
    hints = problem_of(text).hints
    assert [hint.split()[0] for hint in hints[1:]] == directories


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("text", ["multirun/grid", "grid", "eeee"])
def test_run_lookup_rejects_a_sweep(own_directory, text):
    """Its directory, name, or ID: the hints name the command that shows it, its trials, and its retrained trial."""
    make_sweep(own_directory)
    hints = problem_of(text).hints
    assert "hydratune sweep status grid" in hints[0]
    assert hints[1].endswith(": multirun/grid/0, multirun/grid/1")
    assert hints[2].endswith(": multirun/grid/best/trial=1/seed=3")
    assert str(RunLookup().directory(text, allows_several=True)) == "multirun/grid"


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("text", "is_path", "hint"),
    [
        ("outputs/films/ne", True, "outputs/films/new"),
        ("films/new", True, "outputs/films/new"),
        ("outputs/film/new", True, "outputs/films/new"),
        ("no/where", True, "hydratune runs"),
        ("multi", False, "multirun/grid/0"),
        ("lr=1 film", False, "'lr=1 films'"),
        ("zzz", False, "'lr=1 films'"),
    ],
)
def test_run_lookup_suggests_a_path_for_a_path(text, is_path, hint):
    """A path that does not exist gets paths, a name that does not exist gets names."""
    problem = problem_of(text)
    assert ("directory" in problem.text) == is_path
    assert any(hint in line for line in problem.hints)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("text", ["outputs/films", "."])
def test_run_lookup_lists_the_runs_below_a_directory(text):
    """A directory that is not a run."""
    assert "outputs/films/new" in problem_of(text).hint
    assert str(RunLookup().directory(text, allows_several=True)) == text


@pytest.mark.usefixtures("runs")
def test_run_lookup_rejects_a_file():
    """The error is about the file, not about names of runs."""
    assert "file" in problem_of("outputs/films/new/mlflow.json").text


def test_run_lookup_of_latest_without_runs(own_directory):
    """A new project, in which nothing is created."""
    assert "outputs" in problem_of("latest").text
    assert list(own_directory.iterdir()) == []


@pytest.fixture
def stored_run(store):
    """A run that only the store has."""
    client = connect(store)
    return client.create_run(client.create_experiment("x"), run_name="it's remote").info.run_id


@pytest.mark.parametrize("shorten", [lambda run_id: run_id, lambda run_id: run_id[:8], lambda _: "it's remote"])
def test_run_lookup_searches_the_store(store, stored_run, shorten):
    """By name, ID, or the beginning of an ID; its directory is not on this machine, and is an error."""
    run = RunLookup(store).find(shorten(stored_run))
    assert (run.run_id, run.directory) == (stored_run, None)
    assert stored_run in problem_of(shorten(stored_run), store).text


def test_run_lookup_in_a_typed_store(make_run, store, stored_run):
    """Only the runs of that store count, also if one of another store has the same name."""
    make_run("outputs/a", "a" * 32, "it's remote")
    assert RunLookup(store).find("it's remote").run_id == stored_run
    make_run("outputs/b", stored_run, "it's remote", uri=store)
    assert str(RunLookup(store).directory("it's remote")) == "outputs/b"


@pytest.mark.parametrize(
    "command",
    [
        "show RUN",
        "resume RUN",
        "predict RUN x.csv",
        "evaluate RUN",
        "push RUN",
        "compare RUN RUN",
        "sync RUN",
        "ui RUN",
        "clean --checkpoints RUN",
    ],
)
@pytest.mark.usefixtures("own_directory")
def test_each_command_looks_up_its_run(monkeypatch, command):
    """RUN means the same everywhere."""

    def find(_, text, *__):
        raise ConfigError(Problem("RUN", f"asked for {text}"))

    monkeypatch.setattr(run_lookup.RunLookup, "find", find)
    with pytest.raises(ConfigError, match="asked for RUN"):
        dispatch(command.split())


def test_trial_without_a_model_is_not_called_unfinished(own_directory):
    """A sweep saves models only of retrained trials; the hint names the command."""
    trial = own_directory / "multirun" / "x" / "0"
    trial.mkdir(parents=True)
    (trial.parent / PLAN).write_text("{}")
    assert "hydratune sweep finish multirun/x" in unfinished_run(trial, ["model"]).hints[0]
    for other in (unfinished_run(trial, ["metrics.json", "model"]), unfinished_run(own_directory, ["model"])):
        assert "sweep finish" not in str(other.hints)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("text", ["a", "aa", "bbb"])
def test_a_short_id_is_answered_with_the_shortest_length(text):
    """The length in the error is one with which the ID is found."""
    with pytest.raises(ConfigError) as error:
        RunLookup().directory(text)
    length = int(re.search(r"at least (\d+) characters", error.value.problems[0].hint)[1])
    assert length > len(text)
    assert RunLookup().find("c" * length).run_id == "c" * 32
