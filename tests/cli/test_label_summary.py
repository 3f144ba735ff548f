"""The line about the worst labels."""

import os

import pytest

from hydratune.cli.label_summary import label_line
from hydratune.tasks.metrics.tables import one_label

NAMES = ["a", "b", "c", "unused"]


def write(tables, folder):
    """Writes tables as a run does."""
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv")


@pytest.mark.parametrize(
    ("true", "predicted", "worst", "never"),
    [
        ("aabbcc", "aabbaa", "c", ["c"]),
        ("aabbcc", "aabbcb", "c", []),
        ("aaabbc", "aaaaaa", "b", ["b", "c"]),
        ("aabbcc", "aabbcc", "", []),
    ],
)
def test_the_line_names_the_worst_label_and_those_never_predicted(tmp_path, true, predicted, worst, never):
    """Labels without rows do not count; of equal scores, the label with the most rows is named."""
    write(one_label([*true], [*predicted], NAMES), tmp_path)
    line = label_line(tmp_path)
    assert ("lowest F1" in line) == bool(worst)
    assert f"lowest F1: {worst} " in line or not worst
    assert line.partition("never predicted: ")[2].split(", ") == (never or [""])


@pytest.mark.parametrize("text", ["", "label,precision\na,x\n"])
def test_missing_or_malformed_tables_have_no_line(tmp_path, text):
    """The summary of a run never fails because of a table."""
    assert label_line(tmp_path) == ""
    (tmp_path / "per_label.csv").write_text(text)
    assert label_line(tmp_path) == ""


def test_table_of_someone_else_that_never_ends_is_not_read(tmp_path):
    """`show` prints the line for any run, and would wait for the writer of a pipe."""
    os.mkfifo(tmp_path / "per_label.csv")
    assert label_line(tmp_path) == ""
