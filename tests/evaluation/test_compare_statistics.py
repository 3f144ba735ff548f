"""Intervals and tests against published numbers, against scipy, and against many samples of a known truth."""

import math

import numpy as np
import pytest
from scipy import stats

from hydratune.evaluation.compare.paired_tests import (
    RowScores,
    SummaryScores,
    against_best,
    bca_interval,
    mcnemar,
    paired_test,
    score_interval,
)
from hydratune.evaluation.compare.seeds import compare_groups, seeds_test
from hydratune.evaluation.compare.wording import Comparison, Group, Unit
from hydratune.tasks.metrics.classification import macro_f1, matthews_correlation
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.regression import Regression
from hydratune.tasks.seq2seq import Seq2Seq
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.stats import Interval, Scale, interval_text, mean_interval

ROW = np.arange(1000)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Enough for these tests; each takes a pass over all rows where a metric is no mean."""
    monkeypatch.setattr("hydratune.evaluation.compare.paired_tests.RESAMPLES", 300)


def accuracy(*runs, groups=None):
    """The accuracy of runs that are right where these arrays say so."""
    rows = [[{"label": "a", "prediction": "a" if right else "b"} for right in run] for run in runs]
    return RowScores(SequenceClassification(), "accuracy", rows, ["a", "b"], groups)


def errors(*runs, groups=None, seed=0):
    """The mean absolute error of runs with these errors."""
    rows = [[{"label": 0.0, "prediction": float(error)} for error in run] for run in runs]
    return RowScores(Regression(), "mae", rows, (), groups, seed)


def test_mcnemar_is_exact():
    """Four rows that differ, all in one direction: 2 / 2**4."""
    assert mcnemar(4, 0) == pytest.approx(0.125)
    assert mcnemar(9, 1) == pytest.approx(22 / 1024)


@pytest.mark.parametrize(("counts", "expected"), [((0, 1, 44), (-0.1181, 0.0594)), ((12, 2, 50), (0.0611, 0.3447))])
def test_score_interval_has_published_limits(counts, expected):
    """Those of examples in the literature of Tango's interval."""
    assert score_interval(*counts) == pytest.approx(expected, abs=2e-4)


def test_score_interval_agrees_with_its_test():
    """It touches 0 where the difference is 1.96 standard errors, and is symmetric."""
    low, high = score_interval(40, 20, 1000)
    z = (40 - 20) / math.sqrt(60)
    touching, _ = score_interval(40, 20, 1000, level=2 * stats.norm.cdf(z) - 1)
    assert touching == pytest.approx(0, abs=1e-6)
    assert score_interval(20, 40, 1000) == pytest.approx((-high, -low))


def test_score_interval_covers_the_truth():
    """Of 500 samples about 95 of 100 intervals have the true difference, also where it is 0.008."""
    draws = np.random.default_rng(1).multinomial(1000, [0.01, 0.002, 0.988], size=500)
    limits = [score_interval(gained, lost, 1000) for gained, lost, _ in draws]
    assert 0.92 <= np.mean([low <= 0.008 <= high for low, high in limits]) <= 0.98


def test_summary_over_one_set_is_its_metric():
    """Interval and p-value are those of the rows."""
    scores = errors(ROW % 7, ROW % 5)
    assert paired_test(SummaryScores([scores], np.mean), 0, 1) == paired_test(scores, 0, 1)


def test_summary_weighs_sets_equally():
    """The mean and its interval are those of independent sets, whatever their sizes; the worst set is one of them."""
    random = np.random.default_rng(0)
    sizes = (400, 100)
    runs = [random.normal([[3.0], [3.5]], 1, (2, size)) for size in sizes]
    sets = [errors(*values, seed=seed) for seed, values in enumerate(runs)]
    _, interval = paired_test(SummaryScores(sets, np.mean), 0, 1)
    differences = [values[1] - values[0] for values in map(np.abs, runs)]
    assert interval.value == pytest.approx(np.mean([values.mean() for values in differences]))
    error = math.sqrt(sum(values.var() / len(values) for values in differences)) / 2
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    worst = SummaryScores(sets, np.max).observed()
    assert worst == pytest.approx(np.max([scores.observed() for scores in sets], axis=0))


def test_few_rows_that_differ_are_no_evidence():
    """Four of 1,000 rows, all in one direction: the p-value of the exact test."""
    method, found = paired_test(accuracy(ROW >= 4, ROW >= 0), 0, 1)
    assert method.startswith("exact McNemar")
    assert (found.value, found.p) == pytest.approx((0.004, 0.125))


def test_equal_runs_have_no_interval():
    """Two runs that never differ have no interval of 0 to 0, and no p-value."""
    for scores in (accuracy(ROW < 9, ROW < 9), errors(ROW, ROW)):
        _, found = paired_test(scores, 0, 1)
        assert found == Interval(0.0)
        assert scores.differing(0, 1) == 0


def test_pairing_is_used():
    """Two runs that are wrong on different rows are less sure to differ than two that are wrong on the same ones."""
    _, same = paired_test(accuracy(ROW < 700, ROW < 740), 0, 1)
    _, other = paired_test(accuracy(ROW < 700, ROW >= 260), 0, 1)
    assert other.value == pytest.approx(same.value)
    assert other.low < 0 < same.low


def test_bca_is_that_of_scipy():
    """The same resamples give the limits of `scipy.stats.bootstrap`."""
    values = np.random.default_rng(1).exponential(size=60)
    done = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=999, rng=np.random.default_rng(0))
    without = np.array([np.delete(values, i).mean() for i in range(60)])
    found = bca_interval(values.mean(), done.bootstrap_distribution, without)
    assert found == pytest.approx((done.confidence_interval.low, done.confidence_interval.high))


def test_permutation_test_is_that_of_scipy():
    """Exchanging rows of a mean is a test of signs."""
    random = np.random.default_rng(3)
    first, second = random.exponential(size=40), random.exponential(size=40) + 0.3
    method, found = paired_test(errors(first, second), 0, 1)
    expected = stats.permutation_test(
        (second - first,), np.mean, permutation_type="samples", n_resamples=5000, rng=np.random.default_rng(0)
    )
    assert method.startswith("permutation test")
    assert found.p == pytest.approx(expected.pvalue, abs=0.03)
    assert found.low < found.value < found.high


def test_p_of_a_permutation_test_is_never_zero():
    """The observed difference counts as one of the permutations, so 300 of them cannot show less than 1 in 301."""
    first = np.arange(1.0, 41.0)
    _, found = paired_test(errors(first, first + 5), 0, 1)
    assert found.p == pytest.approx(1 / 301)


@pytest.mark.parametrize("metric", ["macro_f1", "matthews_correlation"])
def test_metrics_that_are_no_mean(metric, monkeypatch):
    """Resamples and permutations of a metric that is no mean over rows: a clear difference, and none."""
    monkeypatch.setattr("hydratune.evaluation.compare.paired_tests.RESAMPLES", 60)
    random = np.random.default_rng(0)
    label = random.integers(3, size=150)
    runs = [np.where(random.random(150) < share, label, (label + 1) % 3) for share in (0.5, 0.8)]
    runs.append(np.where(random.random(150) < 0.8, label, (label + 1) % 3))
    rows = [[{"label": "abc"[a], "prediction": "abc"[b]} for a, b in zip(label, run, strict=True)] for run in runs]
    scores = RowScores(SequenceClassification(metrics=[metric]), metric, rows, ["a", "b", "c"])
    _, found = paired_test(scores, 0, 1)
    assert found.p < 0.02
    assert 0 < found.low < found.value < found.high
    _, found = paired_test(scores, 1, 2)
    assert found.p > 0.05
    assert found.low < 0 < found.high
    assert scores.differing(0, 1) == sum(one != other for one, other in zip(runs[0], runs[1], strict=True))


def test_scores_of_a_corpus():
    """BLEU, which is no mean over rows, has an interval too, with its value in it."""
    texts = [f"the film number {i} was a very good one" for i in range(20)]
    rows = [{"label": text, "prediction": text} for text in texts]
    worse = [{"label": text, "prediction": text.replace("very good", f"bad {i}")} for i, text in enumerate(texts)]
    task = Seq2Seq(metrics=["bleu"])
    _, found = paired_test(RowScores(task, "bleu", [worse, rows], ()), 0, 1)
    assert found.value == pytest.approx(100 - task.metrics_from_predictions(worse, ())["bleu"])
    assert found.p < 0.01


def test_rows_of_a_group_are_drawn_together():
    """Ten copies of 30 rows are no more evidence than 30 rows: the interval is that of the groups."""
    random = np.random.default_rng(2)
    first, second = random.exponential(size=30), random.exponential(size=30) + 0.2
    alone = errors(first, second)
    copied = errors(np.repeat(first, 10), np.repeat(second, 10), groups=np.repeat(np.arange(30), 10).tolist())
    assert (copied.units, copied.is_grouped, alone.is_grouped) == (30, True, False)
    found, expected = (paired_test(scores, 0, 1)[1] for scores in (copied, alone))
    assert (found.low, found.high, found.p) == pytest.approx((expected.low, expected.high, expected.p))


def test_groups_of_a_metric_that_is_no_mean(monkeypatch):
    """Groups of other sizes are drawn whole, also where each resample has another number of rows."""
    monkeypatch.setattr("hydratune.evaluation.compare.paired_tests.RESAMPLES", 20)
    labels = ["a", "b", "c"] * 20
    rows = [{"label": one, "prediction": one if i % 3 else "a"} for i, one in enumerate(labels)]
    other = [{"label": one, "prediction": one} for one in labels]
    groups = [str(i // 7) for i in range(60)]
    scores = RowScores(SequenceClassification(metrics=["macro_f1"]), "macro_f1", [rows, other], ["a", "b", "c"], groups)
    assert scores.units == 9
    assert scores.resampled().shape[0] == 2


def test_right_or_wrong_rows_of_a_group_are_not_independent():
    """No McNemar test where rows belong together."""
    right = np.arange(60) % 3 > 0
    scores = accuracy(right, ~right, groups=(np.arange(60) // 2).tolist())
    assert scores.right_or_wrong(0, 1) is None
    assert not paired_test(scores, 0, 1)[0].startswith("exact McNemar")


def test_subset_accuracy_is_right_or_wrong():
    """Sets of labels that are all right or not."""
    rows = [{"labels": ["a"], "predictions": ["a"]}, {"labels": ["a"], "predictions": ["a", "b"]}] * 6
    right = [row | {"predictions": ["a"]} for row in rows]
    scores = RowScores(MultiLabelClassification(), "subset_accuracy", [rows, right], ["a", "b"])
    assert scores.right_or_wrong(0, 1) == (6, 0, 1.0)


def test_equal_runs_are_seldom_told_apart():
    """Of ten equal runs, the best is called better than another in about 5 of 100 tests, not in 60."""
    random, claims = np.random.default_rng(0), 0
    for _ in range(60):
        hard = random.random(100)
        runs = random.random((10, 100)) < np.clip(1.15 - 0.7 * hard, 0, 1)
        best = int(runs.mean(axis=1).argmax())
        claims += any(one.excludes_zero and one.p < 0.05 for one in against_best(accuracy(*runs), best))
    assert claims <= 9


def test_a_better_run_among_many_is_found():
    """A difference of 18 points is significant among ten runs, with an interval that is wider than that of a pair."""
    random = np.random.default_rng(0)
    runs = [random.random(400) < (0.88 if i == 3 else 0.7) for i in range(10)]
    found = against_best(accuracy(*runs), 3)
    assert all(one.excludes_zero and one.p < 0.05 for i, one in enumerate(found) if i != 3)
    _, pair = paired_test(accuracy(runs[0], runs[3]), 0, 1)
    assert found[0].high - found[0].low > 1.3 * (pair.high - pair.low)
    assert found[0].p >= pair.p


def test_mean_of_seeds():
    """Student's interval of 1, 2, 3: 2 and 4.303 times the standard error."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.low, found.high) == pytest.approx((2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), abs=1e-3)


def test_two_seeds_have_no_interval():
    """Two scores are a range."""
    assert mean_interval([0.2, 0.3]) == Interval(pytest.approx(0.25))
    assert interval_text([0.3, 0.2], mean_interval([0.3, 0.2])) == "0.2000 to 0.3000 (range of 2 runs)"


def test_intervals_stay_within_the_range_of_the_metric():
    """No accuracy is below 0 or above 1."""
    found = mean_interval([0.0, 0.2, 0.99], Scale(0, 1))
    assert (found.low, found.high) == (0, 1)


def test_equal_scores_have_the_sampling_error_of_the_rows():
    """Wilson's interval of 0.9 on 100 rows; none where the number of rows is not known."""
    found = mean_interval([0.9] * 3, Scale(0, 1, rows=100))
    assert (found.low, found.high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert mean_interval([1.0] * 3, Scale(0, 1, rows=100)).low < 0.97
    assert mean_interval([90.0] * 3, Scale(0, 100, rows=100)).low == pytest.approx(82.56, abs=1e-2)
    assert mean_interval([0.9] * 3, Scale(0, 1)) == Interval(pytest.approx(0.9))


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


def group(name, *values):
    """A group of seeds."""
    return Group(name, {str(i): value for i, value in enumerate(values)}, "accuracy", "test", mean_interval(values))


def test_many_groups_are_adjusted_for():
    """Three pairs: p-values are three times as high, and intervals those of 98.3%."""
    groups = [group("a", 0.5, 0.61, 0.7), group("b", 0.54, 0.66, 0.75), group("c", 0.6, 0.65, 0.8)]
    found, _ = compare_groups(groups, Unit("accuracy", True, Scale(0, 1)))
    _, alone = seeds_test(groups[0].values, groups[1].values)
    assert found[0].interval.p == pytest.approx(3 * alone.p)
    half = stats.t.ppf(1 - 0.05 / 6, 2) / stats.t.ppf(0.975, 2) * (alone.high - alone.value)
    assert found[0].interval.high == pytest.approx(alone.value + half)
    assert {one.tests for one in found} == {3}


def test_two_seeds_are_no_evidence():
    """Groups of two seeds get no verdict, however far they are apart, and do not count as tests."""
    groups = [group("a", 0.1, 0.11), group("b", 0.8, 0.81), group("c", 0.1, 0.11, 0.12)]
    found, _ = compare_groups(groups, Unit("accuracy", True))
    assert [one.better for one in found] == [None] * 3
    assert all(one.interval.low is None and one.refusal for one in found)


def test_no_verdict_against_a_refusal():
    """Numbers that would be significant make no verdict where there are too few of them."""
    interval = Interval(0.004, 0.001, 0.008, 0.01)
    alone = Comparison("A", "B", Unit("accuracy", True), "test", "a test", "a scope", interval)
    assert alone.better == "B"
    refused = Comparison("A", "B", Unit("accuracy", True), "test", "a test", "a scope", interval, refusal="too few")
    assert refused.better is None
    assert refused.sentence().startswith("not tested: too few; ")
    assert all(number in refused.sentence() for number in ("0.4 points", "0.1 to 0.8", "p 0.01"))
    assert "better" not in refused.sentence()


def test_differences_stay_within_the_range_of_the_metric():
    """Two accuracies differ by at most 1."""
    unit = Unit("accuracy", True, Scale(0, 1))
    assert unit.clip(Interval(0.5, -0.4, 1.4)) == Interval(0.5, -0.4, 1.0)


@pytest.mark.parametrize(
    ("metric", "is_share", "interval", "sentence"),
    [
        ("accuracy", True, (0.019, 0.004, 0.033), "B is better than A by 1.9 points, 95% interval 0.4 to 3.3"),
        ("accuracy", True, (-0.019, -0.033, -0.004), "A is better than B by 1.9 points, 95% interval 0.4 to 3.3"),
        ("mse", False, (-0.2, -0.3, -0.1), "B is better than A by 0.2 mse, 95% interval 0.1 to 0.3"),
        ("mse", False, (0.2, 0.1, 0.3), "A is better than B by 0.2 mse, 95% interval 0.1 to 0.3"),
        ("f1", True, (0.0004, -0.001, 0.002), "inconclusive: either A or B may be better; B minus A is 0.04 points"),
    ],
)
def test_sentences(metric, is_share, interval, sentence):
    """Which is better depends on whether less is, and points are for shares alone."""
    unit = Unit(metric, is_share, higher_is_better=metric != "mse")
    said = Comparison("A", "B", unit, "test", "a test", "two models", Interval(*interval)).sentence()
    assert said.startswith(sentence)
    assert said.endswith(f"(test {metric}, a test; two models)")


@pytest.mark.parametrize("reference", [macro_f1, matthews_correlation])
def test_resampled_metric_equals_that_of_scikit_learn(reference):
    """For rows that repeat, labels that do not occur, and a true label that the model does not have."""
    random = np.random.default_rng(0)
    true, said = random.choice(list("abce"), 60, p=[0.6, 0.3, 0.05, 0.05]), random.choice(list("abcd"), 60)
    rows = [{"label": a, "prediction": b} for a, b in zip(true.tolist(), said.tolist(), strict=True)]
    name = reference.__name__
    score = SequenceClassification(metrics=[name]).bootstrap_metric(name, rows, list("abcd"))
    for size in (60, 6, 2):
        for _ in range(20):
            drawn = random.integers(60, size=size)
            assert score(drawn) == pytest.approx(reference(said[drawn], true[drawn]))


def test_resampled_macro_f1_of_label_sets_equals_that_of_all_rows():
    """As `metrics_from_predictions` computes it: labels of the model count always, others where they are true."""
    random = np.random.default_rng(0)
    sets = [[[label for label in "abcd" if random.random() < 0.3] for _ in range(40)] for _ in range(2)]
    rows = [{"labels": a, "predictions": [x for x in b if x != "d"]} for a, b in zip(*sets, strict=True)]
    task = MultiLabelClassification(metrics=["macro_f1"])
    score = task.bootstrap_metric("macro_f1", rows, list("abc"))
    for size in (40, 3):
        for _ in range(10):
            drawn = random.integers(40, size=size)
            expected = task.metrics_from_predictions([rows[i] for i in drawn], list("abc"))["macro_f1"]
            assert score(drawn) == pytest.approx(expected)
