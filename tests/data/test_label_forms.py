"""Labels as data sets publish them: whole numbers as floats, and marks of missing labels."""

import json
from pathlib import Path

import pytest

from hydratune.data import LocalFiles
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError
from memory_rows import Rows, meanings

TASK = SequenceClassification()


def test_label_floats_beside_a_missing_one():
    """The missing label is the one invalid row; pandas writes the other IDs as floats then."""
    rows = [{"text": text, "label": label} for text, label in (("x", 1.0), ("y", None), ("z", 0.0))]
    assert meanings(Rows(rows=rows, labels=["no", "yes"], on_bad_rows="skip")) == {"x": "yes", "z": "no"}


def test_label_floats_with_a_fraction_are_rejected():
    """These are scores, not labels."""
    with pytest.raises(ConfigError) as error:
        Rows(rows=[{"text": "x", "label": 1.0}, {"text": "y", "label": 1.5}]).load(TASK)
    assert "task=regression" in error.value.problems[0].hint


@pytest.mark.parametrize(
    ("names", "doubtful"),
    [
        (["a", "-"], 1),
        (["pos", "Pos "], 1),
        (["caf\u00e9", "cafe\u0301"], 1),
        (["pos", "pos\u200b"], 1),
        (["a b", "a  b"], 1),
        (["a", "b"], 0),
    ],
)
def test_label_names_that_may_be_mistaken_are_reported(names, doubtful, caplog):
    """SNLI's label `-` means that there is none."""
    Rows(rows=[{"text": f"t {name}", "label": name} for name in names]).load(TASK)
    assert sum("the labels" in record.message for record in caplog.records) == doubtful


def test_label_that_may_be_missing_is_reported_with_its_rows(caplog):
    """MNLI has rows with the label `-`; the warning has their number."""
    load(write(["a", "-", "b", "-", "-"]))
    (record,) = [record for record in caplog.records if record.levelname == "WARNING" and "'-'" in record.message]
    assert " 3 " in record.message


def test_label_that_is_missing_can_be_dropped():
    """The names of the others are the model's labels, in validation too."""
    values, names = load(write(["a", "-", "b", "-"]), labels=["a", "b"], on_bad_rows="skip", unseen_labels="drop")
    assert (values, names) == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_labels_that_differ_in_spaces_are_an_error(name):
    """The error has the first line of the odd one."""
    with pytest.raises(ConfigError) as caught:
        load(write(["pos", "neg", " pos", "pos ", " pos"], name))
    lines = [3, 4] if name == "a.jsonl" else [4, 5]
    assert [one.key for one in caught.value.problems] == 2 * ["dataset.columns.label"]
    assert [problem.source for problem in caught.value.problems] == [f"{name}:{line}" for line in lines]


def test_labels_that_differ_in_spaces_can_be_named():
    """A list of names makes them two labels; a mapping makes them one."""
    name = write(["pos", "neg", " pos"], "a.jsonl")
    assert load(name, labels=["neg", "pos", " pos"])[0] == ["pos", "neg", " pos"]
    assert load(name, labels={" pos": "pos", "pos": "pos", "neg": "neg"})[0] == ["pos", "neg", "pos"]


def write(labels, name="a.csv"):
    """A file of rows with labels."""
    lines = [f'good {i},"{label}"' for i, label in enumerate(labels)]
    if name.endswith(".jsonl"):
        lines = [json.dumps({"text": f"good {i}", "label": label}) for i, label in enumerate(labels)]
    Path(name).write_text("\n".join((["text,label"] if name == "a.csv" else []) + lines))
    return name


def load(name, **options):
    """The labels of a file, and its label names."""
    source = LocalFiles(files={"train": name, "validation": name}, **options)
    return [row["label"] for row in source.load(TASK)["train"]], source.label_names


@pytest.mark.parametrize("labels", [["3,5", "4", "2,5"], ["0.5", "1", "n/a"], ["1,2", "3,4", "5,6"]])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_label_numbers_with_a_fraction_are_rejected(labels, name):
    """Texts of scores, and of lists, do not become labels unnoticed."""
    with pytest.raises(ConfigError) as caught:
        load(write(labels, name))
    assert caught.value.problems[0].key == "dataset.columns.label"


def test_label_numbers_with_a_fraction_can_be_named():
    """Versions are labels where the config says so."""
    names = ["1.1", "1.2", "2"]
    assert load(write(names, "a.jsonl"), labels=names) == (names, names)


@pytest.mark.parametrize("labels", [["v1.5", "2", "3.1"], ["1", "2", "3"], ["5.0", "4.0", "5.0"]])
def test_label_numbers_that_are_labels(labels):
    """Words, whole numbers, and whole numbers with a point are labels."""
    assert len(load(write(labels))[0]) == 3


@pytest.mark.parametrize(
    ("labels", "doubts"),
    [
        (["a", "b", "a;b"], 1),
        (["['a']", "['b']"], 1),
        (["a", "b, c"], 0),
        ([f"x{i}" for i in range(60)], 1),
        ([f"x{i % 60}" for i in range(130)], 0),
    ],
)
def test_label_names_that_may_be_no_labels_are_reported(labels, doubts, caplog):
    """Lists of labels, and a label for each row."""
    load(write(labels))
    assert sum(record.levelname == "WARNING" and "labels" in record.message for record in caplog.records) == doubts


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("streaming", [False, True])
def test_label_floats_that_are_whole(name, streaming):
    """5.0 is the id 5 of a stream, too, also if 5 and nothing stand beside it."""
    labels = [1.0, 0, 2.0] if name == "a.jsonl" else ["1.0", "0", "2.0"]
    values, _ = load(write(labels, name), streaming=streaming, labels=["x", "y", "z"])
    assert sorted(values) == [0, 1, 2]
    assert all(isinstance(value, int) for value in values)


def test_label_floats_of_a_stream_with_a_fraction_are_rejected():
    """One rule for both ways of reading, wherever the fraction stands."""
    name = write([*([1.0, 0.0] * 1500), 0.5], "a.jsonl")
    for streaming in (False, True):
        with pytest.raises(ConfigError) as caught:
            load(name, streaming=streaming, labels=["x", "y"])
        assert "task=regression" in caught.value.problems[0].hint
