"""The version of the user's code changes with its source files alone."""

import importlib

import pytest

from hydratune.utils.user_code import code_versions


@pytest.fixture
def package(own_directory, monkeypatch):
    """A package with a nested module, and a single module, that can be imported."""
    (own_directory / "some_package" / "deep").mkdir(parents=True)
    for name in (
        "some_package/__init__.py",
        "some_package/deep/__init__.py",
        "some_package/deep/model.py",
        "single.py",
    ):
        (own_directory / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(own_directory)
    importlib.invalidate_caches()
    return own_directory


@pytest.mark.parametrize("name", ["some_package.deep.model.Model", "some_package.Model", "single.Model"])
@pytest.mark.parametrize("changed", ["some_package/deep/model.py", "single.py", "other.py"])
def test_code_versions_change_with_files_of_the_package(package, name, changed):
    """Also for files of the package other than the one with the class."""
    before = code_versions([name])
    assert [*before] == [name.partition(".")[0]]
    (package / changed).write_text("x = 2\n")
    assert (code_versions([name]) != before) == changed.startswith(name.partition(".")[0])


def test_code_versions_of_an_installed_package():
    """Its distribution has a version."""
    assert code_versions(["transformers.Trainer"]) == {"transformers": importlib.metadata.version("transformers")}
