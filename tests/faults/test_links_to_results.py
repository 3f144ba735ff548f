"""Links of a cloned project that lead to runs, stores, and files of the user elsewhere."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from hydratune.cli import trust
from hydratune.cli.main import dispatch
from hydratune.cli.train import same_command
from hydratune.config.composition import Request
from hydratune.evaluation.compare.plot import draw
from hydratune.tracking.client import connect
from hydratune.tracking.run_lookup import RunLookup
from hydratune.utils import places
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import LOCK, try_lock


@pytest.fixture
def victim(own_directory):
    """Return another project of the user, with one run."""
    run = own_directory.parent / "victim" / "outputs" / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    (run / "metrics.json").write_text("{}")
    (run / "journal.jsonl").write_text("")
    return own_directory.parent / "victim"


LINKS = {
    "outputs": ("outputs", "latest"),
    "outputs/x": ("outputs/run", "outputs/x"),
    "multirun/a/0": ("outputs/run", "multirun/a/0"),
    "best": ("outputs/run", "best"),
    "more": ("outputs", "more/run"),
}


@pytest.mark.parametrize("name", LINKS)
def test_run_behind_a_link_out_of_the_project_is_refused(own_directory, victim, name):
    """Its evaluation would be written there, and its model would be published."""
    target, text = LINKS[name]
    (own_directory / name).parent.mkdir(parents=True, exist_ok=True)
    (own_directory / name).symlink_to(victim / target)
    with pytest.raises(ConfigError) as caught:
        RunLookup().directory(text)
    assert [problem.key for problem in caught.value.problems] == ["RUN"]
    # positive control, and what the user can type instead
    assert RunLookup().directory(str(victim / "outputs" / "run")) == victim / "outputs" / "run"


def test_run_behind_a_link_inside_the_project_is_found(own_directory, victim):
    """Such as a short name for the best run."""
    victim.rename(own_directory / "mine")
    (own_directory / "best").symlink_to("mine/outputs/run")
    assert RunLookup().directory("best") == Path("best")


@pytest.mark.parametrize("cwd", [".", "clone", "clone/sub"])
def test_run_behind_a_link_is_refused_from_other_directories(own_directory, victim, monkeypatch, cwd):
    """From the folder around a clone, both projects are below the working directory; from one in it, neither is."""
    victim.rename(own_directory / "mine")
    (own_directory / "clone" / "outputs").mkdir(parents=True)
    (own_directory / "clone" / "sub").mkdir()
    (own_directory / "clone" / "outputs" / "x").symlink_to("../../mine/outputs/run")
    monkeypatch.chdir(own_directory / cwd)
    for text in (os.path.relpath(own_directory / "clone/outputs/x"), str(own_directory / "clone/outputs/x")):
        with pytest.raises(ConfigError):
            RunLookup().directory(text)
    text = os.path.relpath(own_directory / "mine" / "outputs" / "run")
    assert RunLookup().directory(text) == Path(text)  # positive control


@pytest.mark.parametrize("target", ["x", "y", "missing"])
def test_run_behind_a_loop_of_links_is_an_error(own_directory, target):
    """No command ends with a traceback."""
    (own_directory / "outputs").mkdir()
    (own_directory / "outputs" / "x").symlink_to(target)
    (own_directory / "outputs" / "y").symlink_to("x")
    for text in ("outputs/x", "outputs/x/run", "outputs/x/latest"):
        with pytest.raises(ConfigError):
            RunLookup().directory(text)
    with contextlib.suppress(ConfigError):
        places.check_place("RUN", own_directory / "outputs" / "x" / "run")


def test_store_below_proc_is_refused(own_directory):
    """Its links lead to the working directory, whatever the text of the path."""
    with pytest.raises(ConfigError):
        connect("sqlite:////proc/self/cwd/outputs/mlflow.db")
    assert not (own_directory / "outputs").exists()


def test_run_behind_a_trusted_link_is_found(own_directory, victim):
    """But not behind further links below it."""
    (own_directory / "outputs").symlink_to(victim / "outputs")
    assert trust.main([]) == 0
    assert RunLookup().directory("outputs/run") == Path("outputs/run")
    (victim / "other").mkdir()
    (victim / "outputs" / "x").symlink_to("../other")
    with pytest.raises(ConfigError):
        RunLookup().directory("outputs/x")


@pytest.mark.parametrize("name", ["mlflow.db", "mlartifacts", ""])
def test_store_behind_a_link_out_of_the_project_is_refused(own_directory, name):
    """Its addresses would be rewritten for this project."""
    theirs, ours = own_directory.parent / "victim" / "outputs", own_directory / "outputs"
    connect(f"sqlite:///{theirs}/mlflow.db")  # positive control
    (theirs / "mlartifacts").mkdir()
    before = (theirs / "mlflow.db").read_bytes()
    if name:
        ours.mkdir()
    (ours / name).symlink_to(theirs / name)
    with pytest.raises(ConfigError) as caught:
        connect(f"sqlite:///{ours}/mlflow.db")
    assert [problem.key for problem in caught.value.problems] == ["tracking.uri"]
    assert (theirs / "mlflow.db").read_bytes() == before


def test_lock_is_not_created_through_a_link(own_directory):
    """As `hydratune clean` would."""
    (own_directory / LOCK).symlink_to(own_directory.parent / "created")
    with contextlib.suppress(OSError), try_lock(own_directory):
        pass
    assert not (own_directory.parent / "created").exists()


def test_plot_replaces_a_link(own_directory):
    """The name that the user types may exist in the project."""
    victim = own_directory.parent / "precious"
    victim.write_text("precious")
    Path("plot.png").symlink_to(victim)
    draw([], SimpleNamespace(metric="accuracy", comparisons=[]), Path("plot.png"))
    assert victim.read_text() == "precious"
    assert Path("plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def linked(own_directory):
    """A folder of the project that leads to a directory of the user."""
    target = own_directory.parent / "home"
    target.mkdir()
    (own_directory / "results").symlink_to(target)
    return target


DIGITS = ["dataset=digits", "task=image_classification", "model=vit_tiny"]
COMMANDS = {
    "hydra.run.dir": [*DIGITS, "hydra.run.dir=results/run"],
    "hydra.sweep.dir": ["-m", *DIGITS, "seed=1,2", "hydra.sweep.dir=results/sweep"],
    "sweep.storage": ["-m", *DIGITS, "seed=1,2", "sweep.storage=sqlite:///results/study.db"],
    "--plot": ["compare", "a", "b", "--plot", "results/x.png"],
    "--report": ["compare", "a", "b", "--report", "results/x.html"],
    "--out": ["predict", "a", "rows.csv", "--out", "results/x.jsonl"],
    "DIR": ["configs", "copy", "dataset/local", "results/conf"],
}


@pytest.mark.parametrize("key", COMMANDS)
def test_typed_path_behind_a_link_is_refused(linked, key):
    """The user does not know that it leads elsewhere."""
    with pytest.raises(ConfigError) as caught:
        dispatch(COMMANDS[key])
    assert [problem.key for problem in caught.value.problems] == [key]
    assert [*linked.iterdir()] == []


@pytest.mark.parametrize("is_link", [True, False])
def test_resume_auto_continues_no_run_behind_a_link(own_directory, is_link):
    """Although it has the same command."""
    run = own_directory.parent / "victim" if is_link else own_directory / "outputs" / "digits" / "1"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "overrides.yaml").write_text("- dataset=digits\n")
    (own_directory / "outputs" / "digits").mkdir(parents=True, exist_ok=True)
    if is_link:
        (own_directory / "outputs" / "digits" / "1").symlink_to(run)
    found = same_command(own_directory / "outputs" / "digits" / "new", Request(("dataset=digits",)))
    assert (found is None) == is_link
