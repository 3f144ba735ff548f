"""One error for several files that lack the same column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hydratune.utils.errors import Problem

_NAMED = 3  # places that a message names


def merge_places(problems: Mapping[str, Sequence[Problem]]) -> Iterator[Problem]:
    """Yield the errors of several places; one that several places have, with the same hint, is one error.

    >>> problem = Problem("columns.text", "a.csv has no column 'text'")
    >>> [*map(str, merge_places({"a.csv": [problem], "b.csv": [replace(problem, text="b.csv has no column 'text'")]}))]
    ["a.csv and b.csv have no column 'text'"]

    Args:
        problems: Place, e.g. the path of a file -> its errors, whose texts may begin with `PLACE has`.
    """
    places_by_problem: dict[Problem, list[str]] = {}
    for place, place_problems in problems.items():
        for problem in place_problems:
            start = f"{place} has "
            is_shared = problem.text.startswith(start)
            rest = replace(problem, text=problem.text.removeprefix(start)) if is_shared else problem
            places_by_problem.setdefault(rest, []).extend([place] if is_shared else [])
    for problem, places in places_by_problem.items():
        verb = "has" if len(places) == 1 else "have"
        yield replace(problem, text=f"{_listed(places)} {verb} {problem.text}") if places else problem


def _listed(places: Sequence[str]) -> str:
    if len(places) > _NAMED:
        return f"{places[0]} and {len(places) - 1} other files"
    return " and ".join(places) if len(places) < _NAMED else f"{', '.join(places[:-1])}, and {places[-1]}"
