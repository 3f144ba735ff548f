"""`hydratune sync` uploads what MLflow lacks, whatever was lost, and says what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.tracking.base import RunInfo
from hydratune.tracking.client import connect
from hydratune.tracking.delivery import POINTER
from hydratune.tracking.journal import JOURNAL, SENT, Journal
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils import process
from hydratune.utils.errors import FAILED, ConfigError


def record_run(store, halfway=None, last=0.25):
    """Record a run with a param, two points, and a file; return its directory.

    Args:
        store: Address of the store.
        halfway: Called once the store has the first point.
        last: Value of the second point.
    """
    directory = Path("outputs/run").absolute()
    directory.mkdir()
    (directory / "notes.txt").write_text("x")
    with Mlflow(uri=store, experiment_name="films").start(RunInfo("run", directory, {"lr": 0.1}, {})) as run_log:
        run_log.metrics({"eval_loss": 0.5}, 1)
        if halfway:
            while not Journal(directory).is_delivered():
                pass
            halfway()
        run_log.metrics({"eval_loss": last}, 2)
        run_log.artifact(directory / "notes.txt")
    return directory


@pytest.fixture
def run(store):
    """The directory of a run, all of which MLflow has."""
    return record_run(store)


def recorded(store):
    """What a store has of each run: status, params, points, files."""
    client = connect(store)
    found = []
    for experiment in client.search_experiments(filter_string="name = 'films'"):
        for one in client.search_runs([experiment.experiment_id]):
            points = sorted(client.get_metric_history(one.info.run_id, "eval/loss"), key=lambda point: point.step)
            files = [file.path for file in client.list_artifacts(one.info.run_id)]
            found.append((one.info.status, one.data.params, [(p.step, p.value) for p in points], files))
    return found


WHOLE = ("FINISHED", {"lr": "0.1"}, [(1, 0.5), (2, 0.25)], ["notes.txt"])


@pytest.mark.parametrize(
    "lost", [(), (POINTER,), (SENT,), (POINTER, SENT)], ids=lambda names: "+".join(names) or "none"
)
def test_lost_files_of_a_run(run, store, lost):
    """The run in MLflow is found again by its key: there is one, and it is whole."""
    for name in lost:
        (run / name).unlink()
    assert dispatch(["sync", "outputs/run"]) == 0
    assert recorded(store) == [WHOLE]
    assert (run / POINTER).is_file()


@pytest.mark.usefixtures("run")
def test_empty_store_gets_the_run_again(store, empty_store):
    """If the database was replaced, the run is created from the journal."""
    shutil.copy(empty_store, Path("outputs/mlflow.db"))
    assert recorded(store) == []
    assert dispatch(["sync", "outputs/run"]) == 0
    assert recorded(store) == [WHOLE]


@pytest.mark.parametrize("last", [0.25, 0.5], ids=["other value", "same value"])
def test_store_that_was_restored_gets_the_rest_again(store, last):
    """A backup from the middle of the run has the run, but neither its last point nor its end."""
    record_run(store, lambda: shutil.copy("outputs/mlflow.db", "backup.db"), last)
    shutil.copy("backup.db", "outputs/mlflow.db")
    connect(store).set_terminated(recorded_id(store), "KILLED")  # as other commands do once its process is gone
    connect(store).set_tag(recorded_id(store), process.HEALED, "x")
    for _ in range(2):
        assert dispatch(["sync", "outputs/run"]) == 0
        assert recorded(store) == [(*WHOLE[:2], [(1, 0.5), (2, last)], WHOLE[3])]


def recorded_id(store):
    """The ID of the only run."""
    client = connect(store)
    (run,) = client.search_runs([client.get_experiment_by_name("films").experiment_id])
    return run.info.run_id


@pytest.mark.parametrize("lost", range(1, 5))
def test_journal_that_lost_its_end_changes_nothing(run, store, lost):
    """MLflow has what was uploaded before, and the run has ended there."""
    lines = (run / JOURNAL).read_text().splitlines(keepends=True)
    assert len(lines) > lost
    (run / JOURNAL).write_text("".join(lines[:-lost]))
    for _ in range(2):
        assert dispatch(["sync", "outputs/run"]) == 0
        assert recorded(store) == [WHOLE]


@pytest.mark.parametrize("content", ["", '{"kind": "ru'])
def test_journal_that_lost_its_start_is_an_error(run, store, content):
    """It cannot be uploaded; what MLflow has stays."""
    (run / JOURNAL).write_text(content)
    with pytest.raises(ConfigError) as caught:
        dispatch(["sync", "outputs/run"])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]
    assert recorded(store) == [WHOLE]


def test_another_store_gets_the_run(run, store):
    """`--uri` names a store that has never had the run; the first one stays as it is."""
    other = f"sqlite:///{run.parent / 'other.db'}"
    assert dispatch(["sync", "outputs/run", "--uri", other]) == 0
    assert recorded(other) == [WHOLE]
    assert recorded(store) == [WHOLE]


def test_refused_entries_are_reported_each_time(run, store, capsys):
    """What MLflow refuses is listed, and the exit code is 1, also when nothing waits any more."""
    Journal(run).write("artifact", path="gone.txt", folder="")
    for _ in range(2):
        assert dispatch(["sync", "outputs/run"]) == FAILED
        assert "gone.txt" in capsys.readouterr().out
    assert recorded(store) == [WHOLE]


def test_run_that_is_lost_during_training_is_created_again(store, empty_store):
    """A database that is replaced under a run gets all of it, once it is reached again."""
    record_run(store, lambda: shutil.copy(empty_store, "outputs/mlflow.db"))
    dispatch(["sync", "outputs/run"])
    assert recorded(store) == [WHOLE]


DAMAGED = ["3", "null", "[]", '"run"', "{}", '{"kind": 1}', '{"kind": "nope"}', '{"kind": "metrics"}',
           '{"kind": "metrics", "points": 5}', '{"kind": "metrics", "points": [[1]]}', '{"kind": "run"}',
           '{"kind": "tags", "tags": "x"}', '{"kind": "params", "params": []}', '{"kind": "status"}']  # fmt: skip


def test_lines_that_are_no_entries(run, store, capsys):
    """They are skipped and counted, and the rest is uploaded."""
    (run / SENT).unlink()
    lines = (run / JOURNAL).read_text().splitlines()
    (run / JOURNAL).write_text("".join(f"{line}\n" for line in [*lines[:2], *DAMAGED, *lines[2:]]))
    assert dispatch(["sync", "outputs/run"]) == FAILED
    assert f" {len(DAMAGED)} invalid lines" in capsys.readouterr().out
    assert recorded(store) == [WHOLE]


def test_run_of_a_later_version_is_uploaded(run, store, empty_store):
    """Without the run, no other entry could be uploaded."""
    shutil.copy(empty_store, Path("outputs/mlflow.db"))
    first, *lines = (run / JOURNAL).read_text().splitlines()
    (run / JOURNAL).write_text("".join(f"{line}\n" for line in [json.dumps({**json.loads(first), "x": 3}), *lines]))
    assert dispatch(["sync", "outputs/run"]) == 0
    assert recorded(store) == [WHOLE]


def test_entry_with_unknown_values_is_refused(run, store, capsys):
    """It does not hold up what follows it."""
    Journal(run).write("artifact", path="notes.txt", folder="", more=1)
    Journal(run).write("metrics", points=[("eval/loss", 0.125, 1, 3)])
    assert dispatch(["sync", "outputs/run"]) == FAILED
    assert "notes.txt" in capsys.readouterr().out
    assert recorded(store)[0][2] == [*WHOLE[2], (3, 0.125)]
