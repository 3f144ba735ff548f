"""The journal is written first and delivered later, whole, in order and once."""

import json
import threading
from pathlib import Path

import pytest

from hydratune.tracking import uploader
from hydratune.tracking.journal import JOURNAL, Journal
from hydratune.tracking.uploader import TrackingUnavailableError, Uploader, upload_pending


class Store:
    """Takes entries, or fails."""

    def __init__(self):
        self.down, self.calls = False, []

    def metrics(self, points):
        self._take([(name, step) for name, _, _, step in points])

    def __call__(self, entry):
        self._take((entry.kind, entry.values))

    run_id = "1"

    def position(self, journal):
        return journal.sent()

    def check_not_deleted(self):
        pass

    def _take(self, what):
        if self.down:
            raise ConnectionError("down")
        self.calls.append(what)


@pytest.fixture
def journal(tmp_path):
    """An empty one."""
    return Journal(tmp_path)


def test_points_are_joined_and_the_order_is_kept(journal):
    """Points that follow each other are one call; what comes between them stays between them."""
    store = Store()
    journal.write_metrics({"a": 1.0}, 1)
    journal.write_metrics({"a": 2.0, "b": 2.0}, 2)
    journal.write("tags", tags={"x": "y"})
    journal.write_metrics({"a": 3.0}, 3)
    upload_pending(journal, store)
    assert store.calls == [[("a", 1), ("a", 2), ("b", 2)], ("tags", {"tags": {"x": "y"}}), [("a", 3)]]


def test_a_call_has_at_most_a_thousand_points(journal):
    """MLflow takes no more."""
    store = Store()
    for step in range(2500):
        journal.write_metrics({"a": 0.0}, step)
    upload_pending(journal, store)
    assert [len(call) for call in store.calls] == [1000, 1000, 500]


def test_nothing_is_sent_twice(journal, tmp_path):
    """Another process goes on where the last one stopped, also inside a failure."""
    store = Store()
    journal.write("tags", tags={})
    upload_pending(journal, store)
    journal.write_metrics({"a": 1.0}, 1)
    store.down = True
    with pytest.raises(TrackingUnavailableError, match="down"):
        upload_pending(journal, store)
    store.down = False
    upload_pending(Journal(tmp_path), store)
    upload_pending(Journal(tmp_path), store)
    assert store.calls == [("tags", {"tags": {}}), [("a", 1)]]
    assert journal.is_delivered()


def test_one_point_a_step(journal, tmp_path):
    """A run that goes over steps again adds no second value, in this process or in a later one."""
    journal.write_metrics({"a": 1.0}, 5)
    journal.write_metrics({"a": 2.0}, 5)
    Journal(tmp_path).write_metrics({"a": 3.0, "b": 3.0}, 5)
    assert [entry.values["points"][0][:2] for entry in journal.entries(0)] == [("a", 1.0), ("b", 3.0)]


def test_a_line_that_was_cut(journal, tmp_path):
    """A kill inside a line loses that entry alone, not the next one."""
    journal.write("tags", tags={"n": "1"})
    with (tmp_path / JOURNAL).open("a") as file:
        file.write('{"kind": "tags", "ta')
    assert len(list(journal.entries(0))) == 1
    Journal(tmp_path).write("tags", tags={"n": "2"})
    assert [entry.values["tags"]["n"] for entry in journal.entries(0)] == ["1", "2"]


def test_a_full_disk(journal, monkeypatch, caplog):
    """Entries that cannot be written are lost with one warning; nothing is raised into the training."""
    monkeypatch.setattr(journal, "_path", Path("/dev/full"))
    for step in range(3):
        journal.write_metrics({"a": 1.0}, step)
    assert len([m for m in caplog.messages if "No space left" in m]) == 1


def test_what_can_never_be_taken_is_left_out(journal, caplog):
    """A file that is gone is said, and does not hold up the rest."""

    class Picky(Store):
        def __call__(self, entry):
            if entry.kind == "artifact":
                raise FileNotFoundError("gone.txt")
            super().__call__(entry)

    store = Picky()
    journal.write("artifact", path="gone.txt", folder="")
    journal.write("tags", tags={})
    upload_pending(journal, store)
    assert store.calls == [("tags", {"tags": {}})]
    assert "MLflow rejected artifact gone.txt" in caplog.text


def test_a_bad_point_does_not_take_others_with_it(journal, caplog):
    """MLflow refuses a batch as a whole; the good ones are sent one by one."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    class Picky(Store):
        def metrics(self, points):
            if any(name == "bad" for name, *_ in points):
                raise MlflowException("bad name", INVALID_PARAMETER_VALUE)
            super().metrics(points)

    store = Picky()
    journal.write_metrics({"a": 1.0, "bad": 1.0, "b": 1.0}, 1)
    upload_pending(journal, store)
    assert store.calls == [[("a", 1)], [("b", 1)]]
    assert "MLflow rejected the metric bad" in caplog.text


def test_a_dead_store_costs_one_warning(journal, monkeypatch, caplog):
    """The sender goes on trying, says so once, and the end does not wait for a store that is down."""
    tries = []

    def connect(uri):
        tries.append(uri)
        raise ConnectionError("nobody there")

    monkeypatch.setattr(uploader, "connect", connect)
    monkeypatch.setattr(uploader, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(uploader, "LONGEST_PAUSE", 0.02)
    journal.write("tags", tags={})
    background = Uploader(journal, "http://nowhere")
    while len(tries) < 3:
        pass
    assert not background.close()
    assert len([m for m in caplog.messages if "nobody there" in m]) == 1


def test_a_sender_that_is_left(journal, monkeypatch):
    """It holds its run until all is delivered, behind what the process does next; the process's end waits for it."""
    taken, ended, store = threading.Event(), threading.Event(), Store()

    class Slow(Store):
        def __call__(self, entry):
            taken.wait()
            store(entry)

    monkeypatch.setattr(uploader, "Delivery", lambda *_: Slow())
    journal.write("tags", tags={})
    Uploader(journal, "somewhere", object(), ended.set).detach()
    assert not ended.is_set()
    assert not journal.is_delivered()
    taken.set()
    uploader.wait()
    assert ended.is_set()
    assert journal.is_delivered()


def test_passwords_stay_out_of_the_journal(tmp_path, monkeypatch):
    """The store's address is written down without its password."""
    from hydratune.tracking.base import RunInfo
    from hydratune.tracking.mlflow import Mlflow

    def refuse(_):
        raise ConnectionError("no")

    monkeypatch.setattr(uploader, "connect", refuse)
    with Mlflow(uri="http://me:hunter2@127.0.0.1:9").start(RunInfo("toy", tmp_path, {}, {})):
        pass
    written = (tmp_path / JOURNAL).read_text()
    assert json.loads(written.splitlines()[0])["uri"] == "http://***@127.0.0.1:9"
    assert "hunter2" not in written
