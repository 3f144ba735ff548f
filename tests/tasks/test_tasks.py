"""Labels, metrics and truncation of sequence classification."""

import math

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from sklearn import metrics as sklearn_metrics

from hydratune.data.columns import bad_values, wrong_type
from hydratune.tasks.labels import collect_labels, unknown_labels
from hydratune.tasks.metrics.classification import CLASSIFICATION, as_evaluate
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError


def splits(train, test=None, **features):
    """A dataset with only labels."""
    kwargs = {"features": Features(label=features["label"])} if features else {}
    parts = {"train": train, "test": test if test is not None else train}
    return DatasetDict({name: Dataset.from_dict({"label": labels}, **kwargs) for name, labels in parts.items()})


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (["pos", "neg"], None, (["neg", "pos"], [1, 0])),
        ([3, 1, 3], None, (["1", "3"], [1, 0, 1])),
        ([True, False], None, (["False", "True"], [1, 0])),
        ([1, 0], ["no", "yes"], (["no", "yes"], [1, 0])),
        ([1, 3, 2], ["1", "2", "3"], (["1", "2", "3"], [0, 2, 1])),
        (["yes", "no"], ["yes", "no"], (["yes", "no"], [0, 1])),
    ],
)
def test_labels(values, names, expected):
    """Strings, ids and truth values become ids 0..n-1; names are the data's or the user's."""
    labels = collect_labels(splits(values), names)
    assert (labels.names, labels.encode(values)) == expected


def test_class_label_brings_its_names():
    """A ClassLabel column keeps its ids and names, also where a class does not occur."""
    labels = collect_labels(splits([2, 0], label=ClassLabel(names=["a", "b", "c"])), None)
    assert (labels.names, labels.encode([2, 0])) == (["a", "b", "c"], [2, 0])


@pytest.mark.parametrize(
    ("train", "test", "names", "parts"),
    [
        (["a", "b"], ["a", "c", "c"], None, ("'c'", "row 2 of test", ": a, b")),
        (["good", "bad"], ["god"], None, ("'god'", "row 1 of test", ": good")),
        ([0, 1], [-1, -1], ["no", "yes"], ("-1", "row 1 of test", ": no, yes")),
        ([0, 1, 2], None, ["no", "yes"], ("2", "row 3 of train", ": no, yes")),
        ([["a"], ["b", "a"]], [["b"], [], ["a", "x"]], None, ("'x'", "row 3 of test", ": a, b")),
    ],
)
def test_unknown_labels(train, test, names, parts):
    """A row whose label is none of the known ones is bad, also inside a list."""
    first = next(unknown_labels(splits(train, test), names))
    problem, (value, place, hint) = first.problem(), parts
    assert (problem.key, problem.source) == ("dataset.columns.label", place)
    assert (value in problem.text, problem.hint.endswith(hint)) == (True, True)


def test_labels_of_two_types():
    """Labels as numbers here and as texts there are told once, not row by row."""
    with pytest.raises(ConfigError, match="numbers in train, strings in test") as caught:
        list(unknown_labels(splits([0, 1], ["0", "1"]), None))
    assert [problem.key for problem in caught.value.problems] == ["dataset.columns.label"]


@pytest.mark.parametrize(
    ("train", "values"),
    [(["a", "a"], "in the training split, not ['a']"), ([0.5, 1.0], "integers, or booleans, not [0.5, 1.0]")],
)
def test_columns_that_hold_no_labels(train, values):
    """One label alone, or values that are none, cannot be learned."""
    with pytest.raises(ConfigError) as caught:
        collect_labels(splits(train), None)
    (problem,) = caught.value.problems
    assert problem.key == "dataset.columns.label"
    assert problem.text.endswith(values)


CASES = {
    "usual": (2, [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]),
    "never predicted": (2, [0, 1, 0, 1], [0, 0, 0, 0]),
    "never true": (2, [0, 0, 0, 0], [0, 1, 0, 1]),
    "all of label 1": (2, [1, 1], [1, 1]),
    "three classes": (3, [0, 1, 2, 2], [0, 2, 2, 1]),
    "a class missing": (3, [0, 2, 0, 2], [0, 2, 1, 2]),
    "two of three classes": (3, [0, 1, 0, 1], [0, 1, 1, 1]),
}


@pytest.mark.parametrize("case", CASES)
def test_metrics_are_those_of_scikit_learn(case):
    """On awkward cases too, every metric agrees with the reference to 1e-6."""
    num_labels, true, predicted = CASES[case]
    one_label = len({*true, *predicted}) == 1  # where scikit-learn warns and says 0
    reference = {
        "accuracy": sklearn_metrics.accuracy_score(true, predicted),
        "macro_f1": sklearn_metrics.f1_score(true, predicted, average="macro", zero_division=0),
        "matthews_correlation": 0.0 if one_label else sklearn_metrics.matthews_corrcoef(true, predicted),
    }
    if num_labels == 2:
        reference["f1"] = sklearn_metrics.f1_score(true, predicted, average="binary", zero_division=0)
    for name, expected in reference.items():
        (metric,) = (one for one in CLASSIFICATION if one.name == name)
        value = metric.compute({"references": true, "predictions": predicted})
        assert math.isclose(value, expected, abs_tol=1e-6), name
        module = as_evaluate(metric)
        assert module.compute(references=true, predictions=predicted) == {name: pytest.approx(expected, abs=1e-6)}


def texts(**columns):
    """One split of texts."""
    return DatasetDict(train=Dataset.from_dict({**columns, "label": ["a", "b"]}))


@pytest.mark.parametrize(
    ("columns", "row"),
    [({"text": ["x", None]}, 1), ({"text": [" ", "x"]}, 0), ({"text": ["x", "y"], "text_pair": ["", "x"]}, 0)],
)
def test_rows_without_texts(columns, row):
    """A row without a text, or with a blank one, is bad."""
    (bad,) = SequenceClassification().bad_rows(texts(**columns), None)
    assert (bad.split, bad.row) == ("train", row)


@pytest.mark.parametrize("name", ["text", "text_pair"])
def test_columns_of_other_values(name):
    """A column of numbers where texts should be is one error, not one a row."""
    columns = {"text": ["x", "y"], name: [1, 2]}
    with pytest.raises(ConfigError) as caught:
        list(SequenceClassification().bad_rows(texts(**columns), None))
    (problem,) = caught.value.problems
    assert (problem.key, "int64" in problem.text) == (f"dataset.columns.{name}", True)


def test_padding_is_dynamic(tiny_model):
    """A batch is as wide as its own longest row."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    data = SequenceClassification().prepare(texts(text=["good", "the film is good"]), tokenizer, 32, None)
    rows = [{k: v for k, v in row.items() if k != "token_type_ids"} for row in data.splits["train"]]
    batch = SequenceClassification().collator(tokenizer)(rows)
    assert batch["input_ids"].shape == (2, 6)
    assert data.head["num_labels"] == 2


def test_string_columns_are_not_required_to_be_small():
    """Arrow's large strings are texts too."""
    rows = Dataset.from_dict({"text": ["x", "y"]}, features=Features(text=Value("large_string")))
    assert wrong_type("text", "train", "text", rows) is None
    assert list(bad_values("text", "train", "text", rows)) == []
