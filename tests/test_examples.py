"""The examples in docstrings run, and give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

from hydratune import data, tasks

SOURCE = Path(__file__).parents[1] / "src"
MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in sorted((SOURCE / "hydratune").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
EMBEDDED = {"Digits", "SavedDataset", "Task"}  # data sets without settings of their own, and a base class


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module(module):
    """Each has at least one."""
    result = doctest.testmod(importlib.import_module(module))
    assert (result.failed, result.attempted > 0) == (0, True)


@pytest.mark.parametrize("package", [data, tasks], ids=lambda package: package.__name__)
def test_public_classes_have_an_example(package):
    """All that a config may name, except for the data sets that hydratune contains."""
    names = [name for name in package.__all__ if name not in EMBEDDED and not name.startswith("Wordnet")]
    assert [name for name in names if ">>> " not in (getattr(package, name).__doc__ or "")] == []
