"""Notes of runs and experiments, which MLflow shows above their details."""

from types import SimpleNamespace

import pytest

from hydratune.tracking import notes
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.experiment_note import write_experiment_note
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


def fake_run(name, value, status="FINISHED", direction="max", digest="d1", test="f1", **tags):
    """A run of MLflow with an objective, and by default with a test split."""
    tags |= {"hydratune.objective": "eval_f1", "hydratune.direction": direction}
    metrics = {"best/f1": value, **({f"test/{test}": value} if test else {})}
    data = SimpleNamespace(metrics=metrics, tags=tags, params={"digest.test": digest})
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
    write_experiment_note(client, "1")
    first = client.tags[notes.NOTE].splitlines()[0]
    assert f"({best})" in first
    assert "2 finished, 1 failed" in client.tags[notes.NOTE]


def test_experiment_note_follows_the_runs():
    """A later call replaces our own note."""
    client = FakeClient(fake_run("a", 0.1))
    write_experiment_note(client, "1")
    client.runs = (*client.runs, fake_run("b", 0.9))
    write_experiment_note(client, "1")
    assert "(b)" in client.tags[notes.NOTE].splitlines()[0]


def test_experiment_note_says_that_the_best_runs_are_tied():
    """MLflow lists the newest run first; the oldest of the best runs counts as the best one."""
    client = FakeClient(*(fake_run(name, value) for name, value in (("new", 0.9), ("worse", 0.1), ("old", 0.9))))
    write_experiment_note(client, "1")
    first = client.tags[notes.NOTE].splitlines()[0]
    assert "(old, tied with 1 other)" in first
    assert "hydratune compare old new" in client.tags[notes.NOTE].replace("`", "")


NO_PREDICTIONS = {
    "trials": {"mlflow.parentRunId": "parent", "test": ""},
    "no test split": {"test": ""},
    "language models": {"test": "perplexity"},
}


@pytest.mark.parametrize("case", NO_PREDICTIONS)
def test_experiment_note_recommends_compare_only_where_it_can_test(case):
    """Runs without predictions of test rows are not in the command, however good they are."""
    better = [fake_run(name, value, **NO_PREDICTIONS[case]) for name, value in (("x", 0.9), ("y", 0.8))]
    for others, expected in (([], ""), ([("a", 0.2), ("b", 0.3), ("c", 0.1)], "hydratune compare b a")):
        client = FakeClient(*better, *(fake_run(*other) for other in others))
        write_experiment_note(client, "1")
        text = client.tags[notes.NOTE].replace("`", "")
        assert "(x)" in text.splitlines()[0]
        assert expected in text if expected else "compare" not in text


def test_experiment_note_compares_runs_on_the_same_test_rows():
    """The second of the compared runs is the best one that was tested on the rows of the first."""
    runs = (fake_run("a", 0.9), fake_run("b", 0.8, digest="d2"), fake_run("c", 0.7))
    client = FakeClient(*runs)
    write_experiment_note(client, "1")
    assert "hydratune compare a c" in client.tags[notes.NOTE].replace("`", "")


def test_experiment_note_of_the_user_stays():
    """Text that someone wrote is not replaced."""
    client = FakeClient(fake_run("a", 0.1))
    client.tags[notes.NOTE] = "my notes"
    write_experiment_note(client, "1")
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
