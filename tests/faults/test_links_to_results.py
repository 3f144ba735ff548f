"""Links of a cloned project that lead to runs, stores, and files of the user elsewhere."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from hydratune.config import trust
from hydratune.evaluation.compare.plot import draw
from hydratune.tracking.client import connect
from hydratune.tracking.run_lookup import RunLookup
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


def test_run_behind_a_trusted_link_is_found(own_directory, victim, monkeypatch):
    """But not behind further links below it."""
    (own_directory / "outputs").symlink_to(victim / "outputs")
    monkeypatch.setattr(trust, "trusted_for_this_command", [True])
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
