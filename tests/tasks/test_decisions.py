"""Decisions by costs and by tuned thresholds, and abstention."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from transformers import EvalPrediction

from conftest import predictions, write_rows
from hydratune.cli import predict as cli
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.decisions import abstain, best_threshold, cost_matrix
from hydratune.tasks.metrics.tables import reliability
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.regression import Regression
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.training import tables
from hydratune.utils.errors import ConfigError

RANDOM = np.random.default_rng(0)
NAMES = ["ham", "spam", "news"]
HEAD = {"num_labels": 2, "id2label": {0: "ham", 1: "spam"}}


def outputs_of(task, probabilities, labels=None):
    """Outputs of `reduce_logits` for probabilities."""
    logits = torch.log(torch.as_tensor(probabilities, dtype=torch.float32))
    return {name: values.numpy() for name, values in task.reduce_logits(logits, labels).items()}


# --- costs -----------------------------------------------------------------------------------------------


def test_prediction_has_the_lowest_expected_cost():
    """As the sum over the true labels says, for random costs and probabilities."""
    costs = {true: {said: float(RANDOM.random()) for said in NAMES} for true in NAMES}
    task = SequenceClassification(costs=costs)
    task.use_labels(NAMES)
    p = RANDOM.dirichlet(np.ones(3), 50)
    expected = [
        min(range(3), key=lambda said: sum(row[i] * costs[true][NAMES[said]] for i, true in enumerate(NAMES)))
        for row in p
    ]
    outputs = outputs_of(task, p)
    assert outputs["predictions"].tolist() == expected
    assert outputs["confidences"] == pytest.approx(p[np.arange(50), expected], abs=1e-6)


def test_costs_that_are_not_named():
    """Right predictions cost 0 and wrong ones 1."""
    assert cost_matrix({"ham": {"spam": 10}, "news": {"news": 0.5}}, NAMES).tolist() == [
        [0, 10, 1],
        [1, 0, 1],
        [1, 1, 0.5],
    ]


def test_mean_cost_is_that_of_the_predictions():
    """Of evaluation, and of decoded rows; a label that the model does not have costs 1."""
    task = SequenceClassification(metrics=["mean_cost"], costs={"ham": {"spam": 10}})
    rows = [{"label": true, "prediction": said} for true, said in [("ham", "spam"), ("spam", "ham"), ("new", "ham")]]
    assert task.metrics_from_predictions(rows, NAMES) == {"mean_cost": 4.0}
    assert not task.metric("mean_cost").higher_is_better
    assert "mean_cost" not in SequenceClassification().row_metrics(NAMES)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"costs": {"ham": {"spam": -1}}}, ["costs"]),
        ({"costs": {"ham": 3}}, ["costs"]),
        ({"metrics": ["mean_cost"]}, ["costs"]),
        ({"costs": {"ham": {"spam": 2}}, "tune_threshold": "f1"}, ["costs"]),
        ({"costs": {"ham": {"spam": 2}}, "metrics": ["mean_cost"]}, []),
    ],
)
def test_settings_of_decisions_are_checked(options, keys):
    """Before anything is loaded."""
    assert [problem.key for problem in SequenceClassification(**options).check()] == keys


def test_costs_of_unknown_labels_are_refused():
    """All of them together."""
    with pytest.raises(ConfigError) as caught:
        SequenceClassification(costs={"ham": {"spm": 2}, "eggs": {"ham": 1}}).use_labels(NAMES)
    assert [problem.key for problem in caught.value.problems] == ["task.costs"] * 2
    assert ["'spm'" in problem.text or "'eggs'" in problem.text for problem in caught.value.problems] == [True, True]


# --- thresholds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "matthews_correlation"])
def test_threshold_of_two_labels_is_the_best_on_validation(metric):
    """No other threshold has a higher value; test uses it, and so do predictions."""
    task = SequenceClassification(metrics=[metric], tune_threshold=metric)
    true = RANDOM.integers(0, 2, 80)
    positive = np.clip(0.25 * true + RANDOM.random(80) * 0.5, 0.01, 0.99)
    p = np.stack([1 - positive, positive], axis=1)
    outputs = outputs_of(task, p, torch.from_numpy(true))
    found = task.compute_metrics(EvalPrediction(outputs, true), EvalSplit(None, HEAD))
    reference = {
        "f1": sklearn_metrics.f1_score,
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score,
        "matthews_correlation": sklearn_metrics.matthews_corrcoef,
    }[metric]
    values = outputs["positive_probabilities"]
    assert found[metric] == pytest.approx(max(reference(true, values >= t) for t in values[values > values.min()]))
    test = EvalSplit(None, HEAD, {"threshold": found["threshold"]})
    assert task.compute_metrics(EvalPrediction(outputs, true), test) == found
    said = [row["prediction"] == "spam" for row in task.format_predictions(outputs, test)]
    assert said == (values >= found["threshold"]).tolist()


def test_probability_of_a_prediction_by_threshold_is_its_own():
    """Also below one half."""
    task = SequenceClassification(tune_threshold="f1")
    outputs = outputs_of(task, [[0.7, 0.3], [0.9, 0.1]])
    rows = task.format_predictions(outputs, EvalSplit(None, HEAD, {"threshold": 0.2}))
    assert [(row["prediction"], row["probability"]) for row in rows] == [
        ("spam", pytest.approx(0.3)),
        ("ham", pytest.approx(0.9)),
    ]


def test_threshold_needs_two_labels():
    """Of three labels, none is the positive one."""
    with pytest.raises(ConfigError) as caught:
        SequenceClassification(tune_threshold="macro_f1").check_head({"num_labels": 3})
    assert [problem.key for problem in caught.value.problems] == ["task.tune_threshold"]


@pytest.mark.parametrize("metric", ["macro_f1", "subset_accuracy"])
def test_multi_label_threshold_maximizes_the_chosen_metric(metric):
    """Not always micro F1."""
    task = MultiLabelClassification(metrics=[metric], tune_threshold=metric)
    true = (RANDOM.random((40, 3)) < 0.3).astype("float32")
    p = np.round(np.clip(0.3 * true + RANDOM.random((40, 3)) * 0.6, 0.05, 0.95), 1).astype("float32")
    reference = {
        "macro_f1": lambda said: sklearn_metrics.f1_score(true, said, average="macro", zero_division=0),
        "subset_accuracy": lambda said: sklearn_metrics.accuracy_score(true, said),
    }[metric]
    found = task.compute_metrics(EvalPrediction({"scores": p}, true), EvalSplit(None, HEAD | {"num_labels": 3}))
    assert found[metric] == pytest.approx(max(reference(p >= t) for t in np.unique(p)))


def test_best_threshold_of_many_values_tries_some():
    """Of a million rows, a few hundred thresholds."""
    calls = []
    best = best_threshold(lambda said: calls.append(0) or -abs(said.mean() - 0.3), np.linspace(0, 1, 10_000))
    assert best == pytest.approx(0.7, abs=0.01)
    assert len(calls) <= 200


# --- abstention ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prediction": "a", "probability": 0.6}, {"prediction": "a", "probability": 0.6}),
        ({"prediction": "a", "probability": 0.4}, {"prediction": None, "probability": 0.4}),
        (
            {"prediction": "x", "index": 1, "probabilities": [0.6, 0.4]},
            {"prediction": None, "index": 1, "probabilities": [0.6, 0.4]},
        ),
        (
            {"predictions": ["B-a", "O", "O"], "probabilities": [0.4, 0.9, None]},
            {"predictions": [None, "O", None], "probabilities": [0.4, 0.9, None]},
        ),
    ],
)
def test_abstain_removes_uncertain_predictions(row, expected):
    """Their probabilities stay."""
    assert abstain(row, 0.5) == expected


def test_predict_abstains(train, toy, capsys):
    """Every prediction is null at a probability that none has; other tasks have no such option."""
    result = train(*toy, "trainer.args.max_steps=1")
    for minimum, is_null in (("1", True), ("0", False)):
        cli.main([str(result.directory), "test.jsonl", "--min-confidence", minimum])
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["prediction"] is None for row in rows] == [is_null] * len(rows)
    with pytest.raises(ConfigError) as caught:
        cli.main([str(result.directory), "test.jsonl", "--min-confidence", "2"])
    assert [problem.key for problem in caught.value.problems] == ["--min-confidence"]
    assert not Regression.has_confidence


# --- runs and tables -------------------------------------------------------------------------------------


def test_run_decides_by_its_threshold_and_plots_reliability(train, tiny, own_directory):
    """predictions.jsonl follows eval_threshold; the plot and its table are artifacts."""
    rows = [{"text": f"{a} {b}", "label": "pn"[i % 3 == 0]} for i, (a, b) in enumerate(product(("good", "bad"), "ab"))]
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", rows * 2)
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    result = train("dataset=local", *files, *tiny, "task.tune_threshold=f1", "task.calibration=temperature")
    threshold = result.metrics["eval_threshold"]
    assert result.metrics["test_threshold"] == threshold
    for row in predictions(result):
        assert (row["prediction"] == "p") == (row["probabilities"]["p"] >= threshold)
    assert {"reliability.csv", "reliability.png"} <= {path.name for path in (result.directory / "tables").iterdir()}


def test_reliability_has_the_bins_of_the_calibration_error(tmp_path):
    """Empty bins are left out."""
    table = reliability([True, False, True], [0.5, 0.52, 1.0])["reliability"]
    assert table["rows"].tolist() == [2, 1]
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.51, 1.0])
    assert [path.name for path in tables.write({"reliability": table}, tmp_path)] == [
        "reliability.csv",
        "reliability.png",
    ]
