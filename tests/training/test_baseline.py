"""Scores of a constant prediction."""

import pytest
from datasets import Dataset

from hydratune.training.baseline import constant_baseline

HEAD = {"id2label": {0: "neg", 1: "pos"}}


def baseline(head=HEAD, **splits):
    """The baseline of rows with these labels."""
    return constant_baseline({split: Dataset.from_dict({"labels": labels}) for split, labels in splits.items()}, head)


def test_baseline_predicts_the_most_frequent_training_label():
    """Also where another one is the most frequent; a label that train lacks is never right."""
    found = baseline(train=[1, 1, 0], validation=[0, 0, 1, -100], test=[1, 1])
    assert found.description.endswith("pos")
    assert found.scores == {"validation": {"accuracy": 0.25}, "test": {"accuracy": 1.0}}


def test_baseline_predicts_the_mean_of_training_numbers():
    """Its mean squared error is the mean squared distance to it."""
    found = baseline({}, train=[1.0, 3.0], validation=[2.0, 4.0])
    assert found.scores == {"validation": {"mse": pytest.approx(2.0)}}


@pytest.mark.parametrize("labels", [[[0], [0, 1]], []])
def test_baseline_of_other_rows_is_missing(labels):
    """Several labels per row, or no rows."""
    assert baseline(train=labels, validation=labels) is None


def test_baseline_without_labels_is_missing():
    """As for language models."""
    rows = Dataset.from_dict({"input_ids": [[1, 2]]})
    assert constant_baseline({"train": rows, "validation": rows}, {}) is None
