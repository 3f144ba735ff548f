"""Lists of labels in one cell, and the message that names the key for them."""

from pathlib import Path

import pytest

from hydratune.data import LocalFiles
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.tasks.token_classification import TokenClassification
from hydratune.utils.errors import ConfigError

TASK = MultiLabelClassification()


def source(cells, header="text\tlabels", **options):
    """A file with a cell in each row."""
    Path("a.tsv").write_text(header + "\n" + "".join(f"good {i}\t{cell}\n" for i, cell in enumerate(cells)))
    return LocalFiles(files={"train": "a.tsv", "validation": "a.tsv"}, **options)


def lists(cells, **options):
    """The lists of a file."""
    return [row["labels"] for row in source(cells, **options).load(TASK)["train"]]


@pytest.mark.parametrize(
    ("separator", "cells"),
    [
        (";", ["a;b", "b", "a; c"]),
        (",", ["a,b", "b", "a,c,"]),
        ("::", ["a::b", "b", "a::c"]),
        (" ", ["a b", "b", "a  c"]),
        ("brackets", ["['a', 'b']", '["b"]', "('a', 'c')"]),
    ],
)
def test_list_separator_splits_cells(separator, cells):
    """Blanks around labels are not a part of them, and a cell may hold one label."""
    assert lists(cells, list_separator=separator) == [["a", "b"], ["b"], ["a", "c"]]


def test_list_separator_whole_numbers_are_ids():
    """Ids count from 0, and a cell of one id is a list, too."""
    data = source(["2,0", "1", "2"], list_separator=",", labels=["x", "y", "z"])
    splits = data.load(TASK)
    assert [row["labels"] for row in splits["train"]] == [[2, 0], [1], [2]]
    assert data.label_names == ["x", "y", "z"]


def test_list_separator_column_of_single_ids():
    """A column without any separator holds lists of one."""
    assert lists(["2", "1", "0"], list_separator=",") == [[2], [1], [0]]


@pytest.mark.parametrize(
    "cells", [["[0 1]", "[1 0]"], ["[0, 1]", "[1, 0]"], ["[0. 1.]", "[1. 0.]"], ["[0.0, 1.0]", "[1.0, 0]"]]
)
def test_list_separator_of_indicators(cells):
    """NumPy prints arrays without commas."""
    task = MultiLabelClassification(label_format="multi_hot")
    rows = source(cells, list_separator="brackets", labels=["x", "y"]).load(task)["train"]
    assert rows["labels"][:] == [[0, 1], [1, 0]]


def test_list_separator_in_a_stream():
    """A stream has the same lists."""
    rows = lists(["2,0", "1", "2"], list_separator=",", labels=["x", "y", "z"], streaming=True)
    assert sorted(rows) == [[1], [2], [2, 0]]


def test_list_separator_cell_that_is_no_list_is_a_bad_row():
    """Its line is named."""
    with pytest.raises(ConfigError) as caught:
        lists(["['a', 'b']", "['a'", "['b']"], list_separator="brackets")
    assert caught.value.problems[0].source == "a.tsv:3"


def test_list_separator_of_tokens_and_tags():
    """Sentences in cells have a tag for each token."""
    text = "tokens,labels\nJohn lives here,B-PER O O\nhi Ann,O B-PER\n"
    Path("a.csv").write_text(text)
    files = LocalFiles(files={"train": "a.csv", "validation": "a.csv"}, list_separator=" ")
    assert files.load(TokenClassification())["train"][1] == {"tokens": ["hi", "Ann"], "labels": ["O", "B-PER"]}


@pytest.mark.parametrize(
    ("cells", "typed"),
    [
        (["a;b", "b"], """'dataset.list_separator=";"'"""),
        (["2,3", "1"], """'dataset.list_separator=","'"""),
        (["['a']", "['b']"], "dataset.list_separator=brackets"),
        (["1", "2"], """'dataset.list_separator=","'"""),
    ],
)
def test_list_separator_is_named(cells, typed):
    """The message has what the cells seem to have."""
    with pytest.raises(ConfigError) as caught:
        lists(cells)
    assert all(typed in problem.hints[0] for problem in caught.value.problems)


def test_list_separator_of_a_task_without_lists():
    """A key without effect is an error."""
    files = source(["a", "b"], "text\tlabel", list_separator=";")
    assert [one.key for one in files.check_columns(SequenceClassification().columns)] == ["list_separator"]


def test_lists_of_codes_are_labels():
    """A number with a point in a list is no score."""
    Path("a.jsonl").write_text('{"text": "x", "labels": ["1.1", "2.3"]}\n' * 3)
    source = LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"})
    source.load(TASK)
    assert source.label_names == ["1.1", "2.3"]


def test_lists_of_spans_are_no_labels():
    """Doccano's spans are one error, not a traceback."""
    Path("a.jsonl").write_text('{"text": "x", "labels": [[0, 1, "PER"]]}\n' * 3)
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"}).load(TASK)
    assert {problem.key for problem in caught.value.problems} == {"dataset.columns.labels"}


def test_list_separator_is_not_named_for_single_words():
    """A file with a word on each line has no lists."""
    Path("a.csv").write_text("tokens,labels\nLondon,B-LOC\nis,O\n")
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files={"train": "a.csv", "validation": "a.csv"}).load(TokenClassification())
    assert "list_separator" not in caught.value.problems[0].hint
