"""Regression: numbers in, numbers out, and metrics that have a value on every split."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from scipy import stats
from sklearn import metrics as sklearn_metrics

from conftest import write_rows
from hydratune.tasks.metrics.regression import REGRESSION
from hydratune.tasks.regression import Regression
from hydratune.utils.errors import ConfigError


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_learns_a_number(own_directory, tiny_model, train, precision):
    """A run on whole numbers learns them, also in bf16; predictions are numbers."""
    rows = [
        {"text": f"the {thing} was {word}", "label": 2 * (word == "good")}
        for thing in ("film", "book")
        for word in ("good", "bad")
    ]
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", rows * (8 if split == "train" else 1))
    result = train(
        "dataset=local",
        "task=regression",
        *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")),
        "model=pretrained",
        f"model.pretrained_model_name_or_path={tiny_model}",
        "hardware=cpu",
        "hardware.threads=1",
        f"hardware.precision={precision}",
        "model.dropout=0",
        "trainer.args.learning_rate=0.003",
        "trainer.args.num_train_epochs=20",
        "trainer.args.per_device_train_batch_size=4",
        *(["objective=eval_mse"] if precision == "fp32" else []),
    )
    assert result.metrics["eval_pearson"] > 0.95
    if precision == "fp32":  # so small a network tells the words apart in the last bits of bf16
        assert result.metrics["test_mse"] < 0.1
    lines = [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == [2.0, 0.0, 2.0, 0.0]
    squares = [(line["label"] - line["prediction"]) ** 2 for line in lines]
    assert math.isclose(result.metrics["test_mse"], sum(squares) / len(lines), abs_tol=1e-6)


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_numbers_that_are_none(bad):
    """A label that is missing or not finite makes its row bad."""
    rows = DatasetDict(train=Dataset.from_dict({"text": ["a", "b"], "label": [0.5, bad]}))
    assert [(one.row, one.column) for one in Regression().bad_rows(rows, None)] == [(1, "label")]


def test_labels_are_numbers():
    """Numbers that are written as text are one error of the column."""
    rows = DatasetDict(train=Dataset.from_dict({"text": ["a", "b"], "label": ["0.5", "1"]}))
    with pytest.raises(ConfigError) as caught:
        list(Regression().bad_rows(rows, None))
    (problem,) = caught.value.problems
    assert (problem.key, "'0.5'" in problem.text) == ("dataset.columns.label", True)


@pytest.mark.parametrize(("metric", "expected"), [("pearson", True), ("mse", False), ("mae", False), ("loss", False)])
def test_best_is_highest_or_lowest(metric, expected):
    """Of errors the lowest is best, of correlations the highest."""
    assert Regression().arguments(f"eval_{metric}")["greater_is_better"] is expected


def test_a_batch_of_one_row_keeps_its_row():
    """(1, 1) logits are one number in a batch of one."""
    assert Regression().reduce_logits(torch.ones(1, 1), None).shape == (1,)


CASES = {
    "usual": ([0.1, 0.5, 0.2, 0.9], [0.2, 0.4, 0.3, 0.5]),
    "ties": ([1.0, 1.0, 2.0, 3.0, 3.0], [0.3, 0.3, 0.3, 0.9, 0.1]),
    "negative": ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]),
    "far from zero": ([1e6, 1e6 + 1, 1e6 + 2], [1e6 + 1, 1e6, 1e6 + 2]),
}


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_those_of_scipy_and_scikit_learn(case):
    """Every metric agrees with the reference to 1e-6."""
    true, said = CASES[case]
    reference = {
        "pearson": stats.pearsonr(true, said).statistic,
        "spearman": stats.spearmanr(true, said).statistic,
        "mse": sklearn_metrics.mean_squared_error(true, said),
        "mae": sklearn_metrics.mean_absolute_error(true, said),
    }
    values = {metric.name: metric.compute({"predictions": said, "references": true}) for metric in REGRESSION}
    assert values == pytest.approx(reference, abs=1e-6)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
@pytest.mark.parametrize(("true", "said"), [([1, 2, 3], [5, 5, 5]), ([1, 1, 1], [1, 2, 3]), ([1], [2])])
def test_nothing_correlates_with_a_constant(name, true, said):
    """A constant side, or a single row, has correlation 0 and no warning."""
    metric = Regression().metric(name)
    assert metric.compute({"predictions": said, "references": true}) == 0.0


@pytest.mark.parametrize("metric", REGRESSION, ids=lambda metric: metric.name)
def test_a_network_that_diverged(metric):
    """Predictions that are no numbers score nan and do not end the run."""
    said = np.array([0.5, math.nan], dtype="float32")
    assert math.isnan(metric.compute({"predictions": said, "references": [1.0, 2.0]}))
