"""`clean`: what it removes, and what it never removes."""

import os
import shutil
import sys
from types import SimpleNamespace

import pytest

from hydratune.cli.main import dispatch
from hydratune.utils.errors import FAILED, ConfigError
from hydratune.utils.files import PLAN, try_lock

DAY = 86_400


@pytest.fixture
def make_run(own_directory):
    """Makes the directory of a run with checkpoints that began so many days ago."""

    def make(path, is_finished, days=0):
        directory = own_directory / path
        for folder in (".hydra", "checkpoints/checkpoint-1", "model"):
            (directory / folder).mkdir(parents=True)
        (directory / "checkpoints/checkpoint-1/weights").write_bytes(b"x" * 1000)
        for folder in (directory, directory / ".hydra"):  # Hydra's own files look like those of a trial
            (folder / "config.yaml").write_text("objective: eval_loss\n")
            (folder / "overrides.yaml").write_text("[]\n")
        (directory / ".lock").touch()
        began = (directory / ".lock").stat().st_mtime - days * DAY
        os.utime(directory / ".lock", (began, began))
        if is_finished:
            (directory / "metrics.json").write_text('{"eval_loss": 1.0}')
        return directory

    return make


def test_clean_removes_the_checkpoints_of_finished_runs_only(make_run):
    """The model of a finished run stays, and so does everything that `resume` needs."""
    finished, interrupted = make_run("outputs/a/1", True), make_run("outputs/a/2", False)
    assert dispatch(["clean", "--checkpoints", "--yes"]) == 0
    assert sorted(path.name for path in finished.iterdir()) == [
        *(".hydra", ".lock", "config.yaml", "metrics.json", "model", "overrides.yaml")
    ]
    assert (interrupted / "checkpoints/checkpoint-1/weights").is_file()


def test_clean_removes_unfinished_runs_but_no_trials(make_run):
    """A sweep resumes its trials itself."""
    finished, interrupted = make_run("outputs/a/1", True), make_run("outputs/a/2", False)
    trial, seed = make_run("multirun/s/0", False), make_run("multirun/s/1/seed=1", False)
    (trial.parent / PLAN).write_text("{}")
    assert dispatch(["clean", "--unfinished", "--yes"]) == 0
    assert [path.is_dir() for path in (finished, interrupted, trial, seed)] == [True, False, True, True]


def test_clean_leaves_all_files_of_finished_runs(make_run, own_directory):
    """`.hydra/` and copies of a run's files in MLflow's artifacts are not runs."""
    make_run("outputs/a/1", True)
    artifacts = own_directory / "outputs" / "mlartifacts" / "a" / "artifacts"
    artifacts.mkdir(parents=True)
    for name in ("config.yaml", "overrides.yaml"):
        (artifacts / name).write_text("[]\n")
    before = sorted(own_directory.rglob("*"))
    assert dispatch(["clean", "--unfinished", "--yes"]) == 0
    assert sorted(own_directory.rglob("*")) == before


def test_clean_leaves_newer_runs(make_run):
    """`--older-than 2d` counts from the start of a run."""
    old, new = make_run("outputs/a/1", False, days=3), make_run("outputs/a/2", False, days=1)
    assert dispatch(["clean", "--unfinished", "--older-than", "2d", "--yes"]) == 0
    assert [path.is_dir() for path in (old, new)] == [False, True]


def test_clean_leaves_a_run_that_works(make_run):
    """A process holds its lock."""
    running = make_run("outputs/a/1", False)
    with try_lock(running):
        assert dispatch(["clean", "--unfinished", "--yes"]) == 0
    assert running.is_dir()


@pytest.mark.parametrize(("answer", "is_left"), [("y", False), ("", True), ("n", True)])
def test_clean_asks_first(make_run, monkeypatch, answer, is_left):
    """Without a yes, nothing is removed."""
    run = make_run("outputs/a/1", False)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert dispatch(["clean", "--unfinished"]) == (FAILED if is_left else 0)
    assert run.is_dir() == is_left


def test_clean_removes_nothing_without_a_terminal(make_run, monkeypatch):
    """Nobody can answer there."""
    run = make_run("outputs/a/1", False)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert dispatch(["clean", "--unfinished"]) == FAILED
    assert run.is_dir()


def answer_after(monkeypatch, change):
    """Answer yes after something has changed on the disk."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _: change() or "y")


def test_clean_leaves_a_run_that_has_finished_meanwhile(make_run, monkeypatch):
    """It was resumed while the question was open."""
    run, other = make_run("outputs/a/1", False), make_run("outputs/a/2", False)
    answer_after(monkeypatch, lambda: (run / "metrics.json").write_text('{"eval_loss": 1.0}') and None)
    assert dispatch(["clean", "--unfinished"]) == FAILED
    assert [run.is_dir(), other.is_dir()] == [True, False]


def test_clean_continues_after_a_run_that_is_gone(make_run, monkeypatch):
    """Another process has removed it, or has put a link in its place."""
    gone, linked, other = (make_run(f"outputs/a/{number}", False) for number in (3, 2, 1))
    elsewhere = make_run("elsewhere", False)

    def change():
        shutil.rmtree(gone)
        shutil.rmtree(linked)
        linked.symlink_to(elsewhere)

    answer_after(monkeypatch, change)
    assert dispatch(["clean", "--unfinished"]) == FAILED
    assert [other.exists(), elsewhere.is_dir()] == [False, True]


def test_clean_leaves_runs_inside_an_unfinished_run(make_run):
    """`hydra.run.dir` can place a run below another one."""
    outer, inner = make_run("outputs/a", False), make_run("outputs/a/b", True)
    assert dispatch(["clean", "--unfinished", "--yes"]) == 0
    assert [outer.is_dir(), inner.is_dir()] == [True, True]


def test_clean_leaves_a_run_with_corrupt_metrics(make_run):
    """A full disk may have truncated them; the run has finished, and its model is there."""
    run = make_run("outputs/a", False)
    (run / "metrics.json").write_text("{")
    assert dispatch(["clean", "--unfinished", "--yes"]) == 0
    assert run.is_dir()


def test_clean_follows_no_link_that_came_with_a_repository(own_directory, make_run):
    """Runs of another project are behind it."""
    run = make_run("../victim/outputs/a", False)
    (own_directory / "outputs").symlink_to("../victim/outputs")
    with pytest.raises(ConfigError) as caught:
        dispatch(["clean", "--unfinished", "--yes"])
    assert [problem.key for problem in caught.value.problems] == ["outputs"]
    assert run.is_dir()


@pytest.mark.parametrize("typed", [[], ["."], ["outputs"], ["outputs/x"]])
@pytest.mark.parametrize("place", [".", "outputs", "multirun", "outputs/x"])
def test_clean_leaves_what_a_repository_makes_look_like_a_run(own_directory, make_run, typed, place):
    """A cloned repository can have `.lock` and `.hydra/` next to the user's store."""
    (own_directory / "outputs" / "x").mkdir(parents=True)
    folder = make_run(own_directory / place, False) if place == "multirun" else own_directory / place
    (folder / ".hydra").mkdir(exist_ok=True)
    (folder / ".hydra" / "overrides.yaml").write_text("[]")
    (folder / ".lock").touch()
    (folder / "mlflow.db").write_text("precious")
    assert dispatch(["clean", "--unfinished", "--yes", *typed]) == 0
    assert (folder / "mlflow.db").read_text() == "precious"


def test_clean_removes_a_typed_run(make_run):
    """Positive control."""
    run = make_run("outputs/a", False)
    assert dispatch(["clean", "--unfinished", "--yes", "outputs/a"]) == 0
    assert not run.exists()


def test_clean_leaves_other_files_in_the_directory_of_the_cache(own_directory, monkeypatch):
    """HYDRATUNE_CACHE can name a directory that has more than the cache."""
    monkeypatch.setenv("HYDRATUNE_CACHE", str(own_directory))
    for name in ("tokenized", "rows", "mine"):
        (own_directory / name).mkdir()
    assert dispatch(["clean", "--cache", "--yes"]) == 0
    assert [path.name for path in own_directory.iterdir()] == ["mine"]


def test_clean_removes_the_cache_of_tokenized_rows(own_directory, monkeypatch):
    """The directory that HYDRATUNE_CACHE names."""
    monkeypatch.setenv("HYDRATUNE_CACHE", str(own_directory / "cache"))
    (own_directory / "cache" / "tokenized").mkdir(parents=True)
    (own_directory / "cache" / "tokenized" / "a.arrow").write_text("x")
    assert dispatch(["clean", "--cache", "--yes"]) == 0
    assert not (own_directory / "cache" / "tokenized").exists()


@pytest.mark.parametrize("age", ["2", "d", "-1d", "1.5d", "2y"])
@pytest.mark.usefixtures("own_directory")
def test_clean_rejects_an_age_without_a_unit(age):
    """It could mean hours or days."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["clean", "--unfinished", f"--older-than={age}"])
    assert [problem.key for problem in caught.value.problems] == ["--older-than"]
