"""Duplicates within the training rows, and rows in two splits: counts, examples, and fixes."""

import re
from pathlib import Path

import pytest
from datasets import Dataset

from conftest import write_rows
from hydratune.data import LocalFiles
from hydratune.data.duplicates import find_duplicates
from hydratune.tasks.regression import Regression
from hydratune.tasks.sequence_classification import SequenceClassification

TASK = SequenceClassification()


def duplicates(texts, labels, task=TASK):
    """Counts and examples."""
    found = find_duplicates(Dataset.from_dict({"text": texts, "label": labels}), task.columns, task.inputs)
    return found.repeats, found.conflicts, found.repeat, found.conflict


@pytest.mark.parametrize(
    ("texts", "labels", "found"),
    [
        ("abc", "xyx", (0, 0, (), ())),
        ("abaa", "xyxx", (2, 0, (0, 2), ())),
        ("abac", "xyzx", (0, 2, (), (0, 2))),
        ("abaab", "xyzxy", (2, 3, (0, 3), (0, 2))),
        ("a" * 3, "xyz", (0, 3, (), (0, 1))),
    ],
)
def test_equal_texts_are_repeats_or_conflicts(texts, labels, found):
    """A row repeats an earlier one with the same label; all rows of a text with several labels are in conflict."""
    assert duplicates([*texts], [*labels]) == found


def test_other_targets_are_not_in_conflict():
    """Two ratings of a text may differ."""
    assert duplicates([*"aab"], [0.5, 0.7, 0.1], Regression())[1] == 0


def test_a_row_without_a_target_has_no_duplicates():
    """Texts for language modeling may repeat."""
    rows = Dataset.from_dict({"text": ["a", "a"]})
    assert find_duplicates(rows, TASK.columns, TASK.inputs) is None


def warnings(caplog, *, skipped=(), **options):
    """The warnings about rows of the files."""
    source = LocalFiles(**options, **({"on_bad_rows": "skip"} if skipped else {}))
    source.load(TASK)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.usefixtures("own_directory")
def test_places_are_those_in_the_file(caplog):
    """Lines that were skipped before them count."""
    Path("a.csv").write_text("text,label\n,x\na,x\nb,y\n,y\na,y\nb,y\nc,x\n")
    Path("b.csv").write_text("text,label\nd,x\ne,y\n")
    lines = warnings(caplog, files={"train": "a.csv", "validation": "b.csv"}, skipped=(2, 5))
    examples = [re.findall(r"a\.csv:(\d+)", line) for line in lines if "e.g." in line]
    assert examples == [["3", "6"], ["4", "7"]]


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize(
    ("options", "is_named"),
    [({}, True), ({"stratify_by_column": "stars"}, False), ({"columns": {"text_pair": "more"}}, False)],
)
def test_held_out_duplicates_name_the_column_to_group_by(caplog, options, is_named):
    """If one column of the data has the inputs, and nothing else decides how rows are held out."""
    rows = [{"review": f"text {i % 20}", "more": "x", "stars": "a" if i % 20 < 10 else "b"} for i in range(60)]
    write_rows(Path("a.jsonl"), rows)
    columns = {"text": "review", "label": "stars"} | options.pop("columns", {})
    lines = [line for line in warnings(caplog, files={"train": "a.jsonl"}, columns=columns, **options) if "too" in line]
    assert [line.endswith("dataset.group_by_column=review") for line in lines] == [is_named]


@pytest.mark.usefixtures("own_directory")
def test_grouped_rows_have_no_leak(caplog):
    """The fix that the warning names."""
    write_rows(Path("a.jsonl"), [{"text": f"text {i % 20}", "label": "ab"[i % 20 // 10]} for i in range(60)])
    lines = warnings(caplog, files={"train": "a.jsonl"}, group_by_column="text")
    assert lines and not [line for line in lines if "too" in line]
