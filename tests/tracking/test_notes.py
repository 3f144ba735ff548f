"""Notes of runs and experiments, which MLflow shows above their details."""

import re
from types import SimpleNamespace

import pytest

from hydratune.tracking import notes
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.dead_runs import mark_dead_runs_killed
from hydratune.tracking.delivery import pointer
from hydratune.tracking.experiment_note import write_experiment_note
from hydratune.tracking.later import replace_note
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import PrunedError


class FakeClient:
    """A store with one experiment."""

    def __init__(self, *runs):
        self.runs, self.tags = runs, {}

    def get_experiment(self, _):
        return self

    def search_runs(self, *_, **__):
        return self.runs

    def set_experiment_tag(self, _, key, value):
        self.tags[key] = value


def nothing_to_compare(*_):
    """The comparison of runs that all have one configuration."""
    return "", (), {}


def fake_run(name, value, status="FINISHED", direction="max"):
    """A run of MLflow with an objective."""
    tags = {"hydratune.objective": "eval_f1", "hydratune.direction": direction}
    data = SimpleNamespace(metrics={"best/f1": value}, tags=tags, params={})
    return SimpleNamespace(data=data, info=SimpleNamespace(run_id=name, run_name=name, status=status))


@pytest.mark.parametrize(("direction", "best"), [("max", "good"), ("min", "bad")])
def test_experiment_note_names_the_best_run(direction, best):
    """Runs that did not finish are counted, but not ranked."""
    values = [
        ("bad", 0.1, "FINISHED"),
        ("good", 0.9, "FINISHED"),
        ("lost", 0.0 if direction == "min" else 1.0, "FAILED"),
    ]
    client = FakeClient(*(fake_run(*value, direction=direction) for value in values))
    write_experiment_note(client, "1", nothing_to_compare)
    first = client.tags[notes.NOTE].splitlines()[0]
    assert f": {best}*" in first
    assert "2 finished, 1 failed" in client.tags[notes.NOTE]


def test_experiment_note_follows_the_runs():
    """A later call replaces our own note."""
    client = FakeClient(fake_run("a", 0.1))
    write_experiment_note(client, "1", nothing_to_compare)
    client.runs = (*client.runs, fake_run("b", 0.9))
    write_experiment_note(client, "1", nothing_to_compare)
    assert ": b*" in client.tags[notes.NOTE].splitlines()[0]


def test_experiment_note_says_that_the_best_runs_are_tied():
    """MLflow lists the newest run first; the oldest of the best runs counts as the best one."""
    client = FakeClient(*(fake_run(name, value) for name, value in (("new", 0.9), ("worse", 0.1), ("old", 0.9))))
    write_experiment_note(client, "1", nothing_to_compare)
    first = client.tags[notes.NOTE].splitlines()[0]
    assert ": old, the first of 2 with this value*" in first


def test_experiment_note_compares_the_ranked_runs():
    """The comparison gets the finished runs, best first, and its sentences follow the best run."""
    client = FakeClient(fake_run("worse", 0.1), fake_run("best", 0.9), fake_run("lost", 1.0, "FAILED"))

    def compare(_, runs, metric):
        return (
            "not tested",
            [f"compared {' '.join(run.info.run_name for run in runs)} by {metric}"],
            {"next": "command"},
        )

    write_experiment_note(client, "1", compare)
    text = client.tags[notes.NOTE]
    assert text.splitlines()[1].strip() == "compared best worse by best/f1"
    assert re.search("not tested.*: best", text.splitlines()[0])  # narrow pages show the verdict
    assert "| next | command |" in text


def test_facts_are_added_to_a_note_once():
    """A later fact of the same name replaces the one before."""
    text = notes.with_facts(notes.note(["first"], {"seed": 1}), {"evaluation on b": 1})
    assert notes.with_facts(text, {"evaluation on b": 2}) == text.replace("b | 1", "b | 2")


def test_dead_run_has_a_note(store, tmp_path, monkeypatch):
    """A run whose process was killed says how to continue, above what it said before."""
    monkeypatch.setattr("hydratune.utils.process.is_gone", lambda _: True)
    (tmp_path / "config.yaml").write_text("")
    client = connect(store)
    tags = {notes.NOTE: "before", "hydratune.directory": str(tmp_path)}
    run_id = client.create_run(client.create_experiment("films"), tags=tags).info.run_id
    mark_dead_runs_killed(client)
    run = client.get_run(run_id)
    assert run.info.status == "KILLED"
    text = run.data.tags[notes.NOTE]
    assert text.startswith("**Interrupted**") and text.endswith("before") and "resume" in text


@pytest.mark.parametrize(("edited", "after"), [(False, "written and more"), (True, "mine")])
def test_replaced_note_is_not_one_of_the_user(store, tmp_path, edited, after):
    """A run's own note can be amended after its end, also twice; text that someone wrote stays."""
    (tmp_path / "run").mkdir()
    with Mlflow(uri=store).start(RunInfo("name", tmp_path / "run", {}, {})) as run_log:
        run_log.note("written")
    run_pointer, client = pointer(tmp_path / "run"), connect(store)
    if edited:
        client.set_tag(run_pointer["run_id"], notes.NOTE, "mine")
    replace_note(run_pointer, tmp_path / "run", lambda text: f"{text} and")
    replace_note(run_pointer, tmp_path / "run", lambda text: f"{text} more")
    assert client.get_run(run_pointer["run_id"]).data.tags[notes.NOTE] == after


def test_experiment_note_of_the_user_stays():
    """Text that someone wrote is not replaced."""
    client = FakeClient(fake_run("a", 0.1))
    client.tags[notes.NOTE] = "my notes"
    write_experiment_note(client, "1", nothing_to_compare)
    assert client.tags == {notes.NOTE: "my notes"}


def test_note_begins_with_the_result():
    """MLflow shows about four lines: the sentences come before the table, and empty facts are left out."""
    made = notes.note(["first", "second"], {"seed": 1, "cost": ""}, "hydratune seed=1")
    assert made.splitlines()[:2] == ["**first**  ", "second"]
    assert "| seed | 1 |" in made and "cost" not in made
    assert "hydratune seed=1" in made.replace("`", "")


@pytest.mark.parametrize(
    ("error", "begin"),
    [
        (ValueError("no luck"), "**Failed:** ValueError: no luck"),
        (KeyboardInterrupt(), "**Interrupted**"),
        (PrunedError(), "before"),
    ],
)
def test_note_of_a_run_that_did_not_finish(store, tmp_path, error, begin):
    """It says why and how to continue; what was known before stays below."""
    (tmp_path / "run").mkdir()
    info = RunInfo("name", tmp_path / "run", {}, {}, resume="hydratune resume outputs/run")

    def fail():
        with Mlflow(uri=store).start(info) as run_log:
            run_log.note("before")
            raise error

    with pytest.raises(type(error)):
        fail()
    client = connect(store)
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    text = run.data.tags[notes.NOTE]
    assert text.startswith(begin)
    assert text.endswith("before")
    assert ("hydratune resume outputs/run" in text.replace("`", "")) == (begin != "before")
