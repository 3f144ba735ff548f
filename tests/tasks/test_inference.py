"""Inference of a task and its columns: a single candidate is chosen, several are an error that lists them."""

import pytest
from datasets import Dataset

from hydratune.tasks.inference import infer
from hydratune.utils.errors import ConfigError

TEXTS = [f"the film number {i} was rather good" for i in range(20)]
OTHERS = [f"another text of row {i} that is long" for i in range(20)]
LABELS = ["pos", "neg"] * 10
STARS = [1, 2, 3, 4] * 5
SCORES = [i / 7 for i in range(20)]


def inferred(columns, task=None, **given):
    """The task and the columns of a dataset with these columns."""
    result = infer(Dataset.from_dict(columns), "a.csv", task, given)
    return result.task, dict(result.columns)


@pytest.mark.parametrize(
    ("columns", "task", "roles"),
    [
        (
            {"id": range(20), "review": TEXTS, "stars": STARS},
            "sequence_classification",
            {"text": "review", "label": "stars"},
        ),
        (
            {"text": TEXTS, "label": LABELS, "year": STARS},
            "sequence_classification",
            {"text": "text", "label": "label"},
        ),
        (
            {"premise": TEXTS, "hypothesis": OTHERS, "gold": LABELS},
            "sequence_classification",
            {"text": "premise", "text_pair": "hypothesis", "label": "gold"},
        ),
        ({"review": TEXTS, "score": SCORES}, "regression", {"text": "review", "label": "score"}),
        (
            {"review": TEXTS, "topics": [["a", "b"], ["a"]] * 10},
            "multi_label_classification",
            {"text": "review", "labels": "topics"},
        ),
        (
            {"words": [["good", "film"]] * 20, "ner": [["O", "B-X"]] * 20},
            "token_classification",
            {"tokens": "words", "labels": "ner"},
        ),
        (
            {"prompt": TEXTS, "completion": OTHERS},
            "supervised_fine_tuning",
            {"prompt": "prompt", "completion": "completion"},
        ),
        ({"source": TEXTS, "target": OTHERS}, "seq2seq", {"source": "source", "target": "target"}),
    ],
)
def test_infer_chooses_the_only_candidate(columns, task, roles):
    """By the task's own names of columns, or by the values."""
    assert inferred(columns) == (task, roles)


@pytest.mark.parametrize(
    ("columns", "key", "named"),
    [
        ({"review": TEXTS, "stars": STARS, "year": STARS[::-1]}, "dataset.columns.label", ("stars", "year")),
        ({"title": TEXTS, "body": OTHERS, "stars": STARS}, "dataset.columns.text", ("title", "body")),
        ({"tokens": [["a"]] * 20, "pos": [["X"]] * 20, "ner": [["O"]] * 20}, "dataset.columns.labels", ("pos", "ner")),
        ({"text": TEXTS}, "task", ("causal_lm", "masked_lm")),
        ({"document": TEXTS, "summary": OTHERS}, "task", ("seq2seq",)),
        ({"score": SCORES}, "dataset.columns.text", ()),
        ({"id": range(20)}, "task", ()),
    ],
)
def test_infer_lists_several_candidates(columns, key, named):
    """The hints are settings, one for each candidate."""
    with pytest.raises(ConfigError) as caught:
        inferred(columns)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert all(any(f"={name}" in hint for hint in problem.hints) for name in named)


def test_infer_takes_what_the_user_has_chosen():
    """Settings decide between candidates, and numbers on a scale may be a regression."""
    columns = {"title": TEXTS, "body": OTHERS, "stars": STARS, "year": STARS[::-1]}
    chosen = {"text": "body", "label": "stars"}
    assert inferred(columns, **chosen) == ("sequence_classification", chosen)
    assert inferred(columns, "regression", **chosen) == ("regression", chosen)
    assert inferred({"text": TEXTS}, "causal_lm") == ("causal_lm", {"text": "text"})


def test_infer_rejects_a_column_that_the_data_lacks():
    """The error names the columns that it has."""
    with pytest.raises(ConfigError) as caught:
        inferred({"review": TEXTS, "stars": STARS}, label="starz")
    assert caught.value.problems[0].key == "dataset.columns.label"


def test_infer_reports_unused_columns():
    """What the task does not read."""
    result = infer(Dataset.from_dict({"id": range(20), "review": TEXTS, "stars": STARS}), "a.csv", None, {})
    assert result.unused == ["id"]
