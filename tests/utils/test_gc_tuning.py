"""Python's garbage collector looks at what may be garbage, and at it alone."""

import gc

import pytest

from hydratune.utils import gc_tuning


@pytest.fixture
def as_ever():
    """The collector is left as it was found."""
    before = gc.get_threshold()
    yield before
    gc.set_threshold(*before)


def test_spared_until_it_settles(as_ever, monkeypatch):
    """A process that begins is not held up; from `settle` on garbage is found as ever, and what was there is not."""
    at_the_end = []
    monkeypatch.setattr("atexit.register", at_the_end.append)
    frozen = gc.get_freeze_count()
    gc_tuning.defer_gc()
    assert gc.get_threshold()[0] > as_ever[0]
    assert at_the_end == [gc.freeze]
    gc_tuning.restore_gc()
    assert gc.get_threshold() == as_ever
    assert gc.get_freeze_count() > frozen


def test_settled_once(as_ever):
    """A process that was not spared, or has settled, keeps what it makes in collection."""
    frozen = gc.get_freeze_count()
    gc_tuning.restore_gc()
    assert gc.get_threshold() == as_ever
    assert 0 <= frozen - gc.get_freeze_count() < 100  # nothing was frozen or unfrozen; some frozen objects are gone
