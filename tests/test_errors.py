"""Messages have one form and name the nearest valid name."""

import pytest

from hydratune.errors import ConfigError, Mistake, did_you_mean, nearest


def test_form_of_a_mistake():
    """`<key>: expected <what>, got <value>. <fix>`."""
    mistake = Mistake("objective", "one of ['eval_loss']", "'loss'", "Set objective=eval_loss.")
    assert str(mistake) == "objective: expected one of ['eval_loss'], got 'loss'. Set objective=eval_loss."


def test_under_prefixes_the_key():
    """A part's mistake is reported under the part's own key; one about the part itself, as the part."""
    assert Mistake("files", "a", "b", "c").under("dataset").key == "dataset.files"
    assert Mistake("", "a", "b", "c").under("dataset").key == "dataset"


def test_says_each_mistake_once():
    """The same mistake found twice is one line."""
    mistake = Mistake("a", "b", "c", "d")
    assert str(ConfigError(mistake, mistake)).count("\n") == 0


@pytest.mark.parametrize(("typed", "meant"), [("learning_rat", "learning_rate"), ("wordnt", "wordnet_supersense")])
def test_nearest(typed, meant):
    """A typo finds its word."""
    assert nearest(typed, ["learning_rate", "wordnet_supersense", "seed"]) == meant


def test_nothing_near():
    """Nothing is suggested where nothing is alike."""
    assert did_you_mean("xyz", ["learning_rate"], "Read the docs.") == "Read the docs."
