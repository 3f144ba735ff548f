"""Errors that several files have in common."""

import pytest

from hydratune.data.shared_problems import merge_places
from hydratune.utils.errors import Problem


def missing(place, hint=""):
    """The error of a file without a column."""
    return Problem("columns.text", f"{place} has no column 'text'", hint)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100])
def test_merge_places_reports_a_missing_column_once(count):
    """However many files lack it; the first one is named."""
    places = [f"{i}.csv" for i in range(count)]
    (problem,) = merge_places({place: [missing(place)] for place in places})
    assert problem.key == "columns.text"
    assert problem.text.startswith("0.csv")
    assert problem.text.endswith(f" {'has' if count == 1 else 'have'} no column 'text'")


def test_merge_places_separates_errors_with_other_hints():
    """The columns of one file do not help with another."""
    problems = {"a.csv": [missing("a.csv", "x")], "b.csv": [missing("b.csv", "y")]}
    assert [*merge_places(problems)] == [missing("a.csv", "x"), missing("b.csv", "y")]


def test_merge_places_leaves_other_errors_alone():
    """Errors about the settings name no file."""
    problem = Problem("format", "a.csv is not JSON")
    assert [*merge_places({"a.csv": [problem], "b.csv": [problem]})] == [problem]
