"""Intervals and tests against answers that are known."""

import math

import numpy as np
import pytest

from hydratune.compare.statistics import adjusted, over_rows, paired_bootstrap, seeds_test
from hydratune.compare.words import Comparison, Unit
from hydratune.intervals import mean_interval
from hydratune.tasks.seq2seq import Seq2Seq
from hydratune.tasks.sequence_classification import SequenceClassification


def scores(right):
    """The accuracy of a run that is right where `right` says so."""
    rows = [{"label": "a", "prediction": "a" if one else "b"} for one in right]
    return over_rows(SequenceClassification(), "accuracy", rows, ["a", "b"])


def test_right_on_forty_more_of_a_thousand():
    """B is right wherever A is and on 40 more: the interval is the analytic one of a mean of 40 ones in 1000."""
    first = np.arange(1000) < 700
    second = np.arange(1000) < 740
    found = paired_bootstrap(scores(first), scores(second), 1000)
    half = 1.96 * math.sqrt(0.04 * 0.96 / 1000)
    assert found.value == pytest.approx(0.04)
    assert (found.low, found.high) == pytest.approx((0.04 - half, 0.04 + half), abs=0.002)


def test_pairing_is_used():
    """Two runs that are wrong on different rows are less sure to differ than two that are wrong on the same ones."""
    first, shifted = np.arange(1000) < 700, np.arange(1000) >= 260
    same = paired_bootstrap(scores(first), scores(np.arange(1000) < 740), 1000)
    other = paired_bootstrap(scores(first), scores(shifted), 1000)
    assert other.value == pytest.approx(same.value)
    assert other.low < 0 < same.low


def test_identical_runs_differ_by_nothing():
    """No evidence, by an interval without width, and no warning of it."""
    found = paired_bootstrap(scores(np.arange(50) % 2), scores(np.arange(50) % 2), 50)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    said = Comparison("A", "B", Unit("accuracy", True), "test", "a test", found).sentence()
    assert said.startswith("no evidence of a difference between A and B: B minus A is 0.0 points, 95 % interval 0.0 to")


def test_the_same_seed_gives_the_same_interval():
    """Asking twice changes nothing."""
    first, second = np.arange(30) % 2, np.arange(30) % 3 > 0
    assert paired_bootstrap(scores(first), scores(second), 30) == paired_bootstrap(scores(first), scores(second), 30)


def test_intervals_hold_the_truth():
    """Of many samples about 95 of 100 intervals hold the true difference of 0.1."""
    drawn = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        first = drawn.random(200) < 0.6
        second = first | (drawn.random(200) < 0.25)  # right on a quarter of the 0.4 that the first misses
        found = paired_bootstrap(scores(first), scores(second), 200)
        held += found.low <= 0.1 <= found.high
    assert held >= 90


def test_scores_of_a_corpus():
    """BLEU, which is no mean over rows, has an interval too, with its value in it."""
    texts = [f"the film number {i} was a very good one" for i in range(20)]
    rows = [{"label": text, "prediction": text} for text in texts]
    worse = [{"label": text, "prediction": text.replace("very good", "bad")} for text in texts]
    task = Seq2Seq(metrics=["bleu"])
    found = paired_bootstrap(over_rows(task, "bleu", worse, ()), over_rows(task, "bleu", rows, ()), 20)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(100 - task.rescore(worse, ())["bleu"])


def test_mean_of_seeds():
    """Student's interval of 1, 2, 3: 2 and 4.303 times the standard error; of equal values it has no width."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-3)
    assert mean_interval([0.5, 0.5]).low == 0.5


def test_which_test_of_seeds():
    """The same seeds are paired and others are not; where nothing varies there is no test."""
    first = {"1": 0.5, "2": 0.6, "3": 0.7}
    name, found = seeds_test(first, {"3": 0.75, "2": 0.66, "1": 0.54})
    assert name.startswith("paired t-test")
    assert found.value == pytest.approx(0.05)
    assert found.p < 0.02
    name, found = seeds_test(first, {"4": 0.75, "5": 0.66, "6": 0.54})
    assert name == "Welch's t-test"
    assert found.p > 0.5
    assert seeds_test({"1": 1.0, "2": 1.0}, {"3": 2.0, "4": 2.0}) is None
    assert seeds_test(first, {seed: value + 1 for seed, value in first.items()} | {"1": 1.5}) is None


def test_many_tests_at_once():
    """p-values become those of Benjamini and Hochberg."""
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


@pytest.mark.parametrize(
    ("metric", "is_share", "interval", "sentence"),
    [
        ("accuracy", True, (0.019, 0.004, 0.033), "B is better than A by 1.9 points, 95 % interval 0.4 to 3.3"),
        ("accuracy", True, (-0.019, -0.033, -0.004), "A is better than B by 1.9 points, 95 % interval 0.4 to 3.3"),
        ("mse", False, (-0.2, -0.3, -0.1), "B is better than A by 0.2 mse, 95 % interval 0.1 to 0.3"),
        ("mse", False, (0.2, 0.1, 0.3), "A is better than B by 0.2 mse, 95 % interval 0.1 to 0.3"),
        ("f1", True, (0.0004, -0.001, 0.002), "no evidence of a difference between A and B: B minus A is 0.04 points"),
    ],
)
def test_sentences(metric, is_share, interval, sentence):
    """Which is better depends on whether less is, and points are for shares alone."""
    from hydratune.intervals import Interval

    said = Comparison("A", "B", Unit(metric, is_share), "test", "a test", Interval(*interval)).sentence()
    assert said.startswith(sentence)
    assert said.endswith(f"(test {metric}, a test)")
