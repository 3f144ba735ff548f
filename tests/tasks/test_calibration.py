"""Calibration of probabilities: the fits of scikit-learn, stored as plain JSON."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from conftest import predictions, write_rows
from hydratune.evaluation.evaluate import evaluate
from hydratune.evaluation.load_run import open_run
from hydratune.evaluation.predict import PredictRequest, predict
from hydratune.tasks.calibration import FILE, activate, fit
from hydratune.tasks.calibration_file import parse, read
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import ConfigError

ROWS = 300


@pytest.fixture
def random():
    """Generator of each test's own, so that its numbers do not depend on the tests before it."""
    return np.random.default_rng(0)


class Logits(ClassifierMixin, BaseEstimator):
    """A fitted classifier of scikit-learn whose inputs are the logits."""

    def __init__(self, labels=2):
        self.labels = labels

    def fit(self, x, y):  # noqa: ARG002 (scikit-learn's interface)
        """Do nothing."""
        return self

    def predict(self, x):
        """Return the most probable label."""
        return x.argmax(-1)

    @property
    def classes_(self):
        """IDs of the labels."""
        return np.arange(self.labels)

    def __sklearn_is_fitted__(self):
        return True


class Decisions(Logits):
    """With a decision function."""

    def decision_function(self, x):
        """Return logits, or the log odds of the second of two labels; scikit-learn fits in their precision."""
        x = x.astype("float64")
        return x if self.labels > 2 else x[:, 1] - x[:, 0]


class Probabilities(Logits):
    """With probabilities alone."""

    def predict_proba(self, x):
        """Return the softmax."""
        return activate(torch.from_numpy(x), False).numpy()


def case(random, labels):
    """Overconfident logits and true labels."""
    logits = random.normal(size=(ROWS, labels)).astype("float32") * 4
    noisy = logits / 3 + random.gumbel(size=logits.shape)
    return logits, noisy.argmax(-1)


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize(("method", "estimator"), [("temperature", Decisions), ("isotonic", Probabilities)])
def test_calibration_is_that_of_scikit_learn(random, method, estimator, labels):
    """On new rows."""
    (logits, true), (new, _) = case(random, labels), case(random, labels)
    reference = CalibratedClassifierCV(FrozenEstimator(estimator(labels)), method=method).fit(logits, true)
    ours = fit(method, logits, true, is_multi_label=False).probabilities(torch.from_numpy(new))
    assert ours.numpy() == pytest.approx(reference.predict_proba(new), abs=1e-4)


def test_isotonic_of_label_sets_is_that_of_each_label(random):
    """Probabilities of a row do not add up to 1."""
    logits = random.normal(size=(ROWS, 3)).astype("float32")
    true = (random.random((ROWS, 3)) < 1 / (1 + np.exp(-2 * logits))).astype("float32")
    p = activate(torch.from_numpy(logits), True).numpy()
    ours = fit("isotonic", logits, true, is_multi_label=True).probabilities(torch.from_numpy(logits)).numpy()
    for label in range(3):
        reference = IsotonicRegression(out_of_bounds="clip").fit_transform(p[:, label], true[:, label])
        assert ours[:, label] == pytest.approx(reference, abs=1e-6)


def test_temperature_of_label_sets_is_the_one_that_was_used(random):
    """Labels that are drawn from scaled logits give the scale back."""
    logits = random.normal(size=(20_000, 2)).astype("float32") * 6
    true = (random.random(logits.shape) < 1 / (1 + np.exp(-logits / 2.5))).astype("float32")
    assert fit("temperature", logits, true, is_multi_label=True).temperature == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibration_ignores_rows_without_a_label(random, method):
    """A negative ID stands for a label that the model does not have."""
    logits, true = case(random, 3)
    more = np.concatenate([logits, -logits]), np.concatenate([true, np.full(ROWS, -100)])
    new = torch.from_numpy(case(random, 3)[0])
    first, second = (fit(method, *rows, is_multi_label=False).probabilities(new) for rows in ((logits, true), more))
    assert torch.equal(first, second)


def test_isotonic_keeps_the_probabilities_of_labels_without_rows(random):
    """There is nothing to fit, and a probability of 0 would be a guess."""
    logits, true = case(random, 3)
    curves = fit("isotonic", logits, np.where(true == 2, 0, true), is_multi_label=False).curves
    assert [bool(x) for x, _ in curves] == [True, True, False]


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibration_survives_its_file(random, method, tmp_path):
    """The JSON has all digits."""
    logits, true = case(random, 3)
    calibrator = fit(method, logits, true, is_multi_label=False)
    (tmp_path / FILE).write_text(json.dumps(calibrator.content()))
    assert torch.equal(
        read(tmp_path, 3, is_multi_label=False).probabilities(torch.from_numpy(logits)),
        calibrator.probabilities(torch.from_numpy(logits)),
    )


def temperature(value):
    """A file with a temperature, which is JSON."""
    return f'{{"method": "temperature", "is_multi_label": false, "temperature": {value}}}'


def isotonic(*curves, is_multi_label=False):
    """A file with curves, which are JSON."""
    flag = json.dumps(is_multi_label)
    return f'{{"method": "isotonic", "is_multi_label": {flag}, "curves": [{", ".join(curves)}]}}'


WRONG = {
    "no file": None,
    "not JSON": "{",
    "nested without end": '{"method": ' + "[" * 100_000,
    "not an object": "[]",
    "another method": '{"method": "os.system", "is_multi_label": false}',
    "another method of activation": temperature(1.0).replace("false", "true"),
    "no method": '{"is_multi_label": false, "temperature": 1.0}',
    "a method without its values": '{"method": "isotonic", "is_multi_label": false, "temperature": 1.0}',
    **{
        f"the temperature {value}": temperature(value)
        for value in ("0", "0.0", "-1.0", "1e-300", "1e300", "1e999", "NaN", "Infinity", "true", '"1"', "[1.0]", "null")
    },
    "too few curves": isotonic("[[], []]"),
    "too many curves": isotonic(*["[[], []]"] * 3),
    "one axis": isotonic("[[], []]", "[[0.1]]"),
    "three axes": isotonic("[[], []]", "[[0.1], [0.1], [0.1]]"),
    "axes of different lengths": isotonic("[[], []]", "[[0.1, 0.2], [0.1]]"),
    "a falling curve": isotonic("[[], []]", "[[0.1, 0.2], [1, 0]]"),
    "unsorted points": isotonic("[[], []]", "[[0.2, 0.1], [0, 1]]"),
    "a point twice": isotonic("[[], []]", "[[0.1, 0.1], [0, 1]]"),
    "values above 1": isotonic("[[], []]", "[[0.1], [1.5]]"),
    "probabilities below 0": isotonic("[[], []]", "[[-0.1], [0.5]]"),
    "probabilities that are not finite": isotonic("[[], []]", "[[NaN], [0.5]]"),
    "values that are not finite": isotonic("[[], []]", "[[0.5], [NaN]]"),
    "curves that are not numbers": isotonic("[[], []]", '[["a"], [1]]'),
    "a curve of the first of two labels": isotonic("[[0.1], [1]]", "[[], []]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_calibration_file_is_an_error(case, tmp_path):
    """Uncalibrated probabilities would look like calibrated ones."""
    if WRONG[case] is not None:
        (tmp_path / FILE).write_text(WRONG[case])
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, 2, is_multi_label=False)
    assert [problem.key for problem in caught.value.problems] == ["RUN"]
    assert caught.value.problems[0].source.endswith(FILE)


def test_calibration_needs_finite_logits():
    """A model that diverged has no temperature."""
    with pytest.raises(ValueError, match="finite"):
        fit("temperature", np.full((4, 2), np.nan, dtype="float32"), np.zeros(4, dtype=int), is_multi_label=False)


@pytest.mark.parametrize("content", [temperature(math.exp(5)), isotonic("[[], []]", "[[0.1, 0.5], [0.0, 1.0]]")])
def test_calibration_values_are_those_of_the_file(content):
    """Also of curves without points, and of the highest temperature."""
    assert parse(content, 2, is_multi_label=False).content() == json.loads(content)


def test_skipped_calibration_is_none():
    """A run whose validation rows could not be used has the file too."""
    assert parse('{"method": null}', 2, is_multi_label=False) is None


# --- runs ------------------------------------------------------------------------------------------------

TEXTS = ["the film was good", "the book was bad", "a great film", "not very good", "awful", "a bad film"]
TASKS = {
    "sequence_classification": [{"text": t, "label": "pos" if "good" in t else "neg"} for t in TEXTS],
    "multi_label_classification": [{"text": t, "labels": [w for w in ("good", "film") if w in t]} for t in TEXTS],
}


@pytest.mark.parametrize(
    ("task", "overrides"),
    [
        ("sequence_classification", ["task.calibration=temperature", "task.metrics=[accuracy,log_loss]"]),
        ("multi_label_classification", ["task.calibration=isotonic", "task.tune_threshold=true"]),
    ],
)
def test_run_predicts_and_evaluates_with_its_calibration(train, tiny, own_directory, task, overrides):
    """predictions.jsonl, predict, and evaluate have the calibrated probabilities; the metrics of both are reported."""
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", TASKS[task])
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    result = train("dataset=local", f"task={task}", *files, *tiny, *overrides)
    content = json.loads((result.directory / "model" / FILE).read_text())
    assert content["method"] == overrides[0].partition("=")[2]
    for name in ("log_loss", "brier", "ece"):
        assert result.metrics[f"test_{name}"] == pytest.approx(content["test"][name], abs=1e-6)
        assert result.metrics[f"test_{name}_uncalibrated"] == pytest.approx(content["test"][f"{name}_uncalibrated"])
    assert content["validation"]["log_loss"] <= content["validation"]["log_loss_uncalibrated"]
    predict(PredictRequest(str(result.directory), own_directory / "test.jsonl", out=own_directory / "out.jsonl"))
    rows = [json.loads(line) for line in (own_directory / "out.jsonl").read_text().splitlines()]
    for row, expected in zip(rows, predictions(result), strict=True):
        assert row["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
        assert row.get("predictions") == expected.get("predictions")
    evaluation = evaluate(open_run(str(result.directory), Mlflow.uri))
    names = [name for name in evaluation.metrics if name != "loss"]
    assert names
    assert {n: evaluation.metrics[n] for n in names} == pytest.approx(
        {n: result.metrics[f"test_{n}"] for n in names}, abs=1e-5
    )
