"""Links among local data, which may have come with a repository: no file elsewhere is read as rows."""

from pathlib import Path

import pytest

from hydratune.data.paths import PathError, expand


@pytest.fixture
def data(own_directory):
    """Return a folder of data in a cloned repository, and create private rows elsewhere."""
    elsewhere = own_directory.parent / "home"
    folder = own_directory / "data"
    for place in (elsewhere / "rows", folder / "more", own_directory / "shared"):
        place.mkdir(parents=True)
    for path in (
        elsewhere / "b.jsonl",
        elsewhere / "rows" / "b.jsonl",
        folder / "a.jsonl",
        own_directory / "shared/b.jsonl",
    ):
        path.write_text('{"text": "x"}\n')
    return folder


def link(path, target):
    """Create a link, and return its path as text."""
    path.symlink_to(target, target_is_directory=Path(target).is_dir())
    return str(path)


PLACES = {
    "data": ("b.jsonl", "b.jsonl"),
    "glob:data/*.jsonl": ("b.jsonl", "b.jsonl"),
    "glob:data/**/*.jsonl": ("more/b.jsonl", "b.jsonl"),
    "glob:data/*/b.jsonl": ("linked", "rows"),
    "glob:**/*.jsonl": ("b.jsonl", "b.jsonl"),
}


@pytest.mark.parametrize("is_relative", [False, True])
@pytest.mark.parametrize("given", PLACES)
def test_link_out_of_a_folder_is_not_read(data, given, is_relative):
    """Nor one behind a linked folder."""
    assert expand(given) if "*/b" not in given else True  # positive control
    name, target = PLACES[given]
    up = "../" * (2 + name.count("/"))
    link(data / name, f"{up}home/{target}" if is_relative else data.parents[1] / "home" / target)
    with pytest.raises(PathError) as caught:
        expand(given)
    assert "b.jsonl" in caught.value.text


@pytest.mark.parametrize("given", ["data", "glob:data/*.jsonl", "glob:{0}/data/*.jsonl"])
def test_link_inside_the_working_directory_is_read(data, given):
    """Positive control: the user has the file in the same project."""
    link(data / "b.jsonl", "../shared/b.jsonl")
    assert [path.name for path in expand(given.format(data.parent))] == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize("given", ["{0}", "{0}/b.jsonl", "glob:{0}/*.jsonl", "glob:{0}/b.jsonl"])
def test_typed_link_is_read(data, given):
    """A folder or a file that is itself a link, e.g. to a disk for data."""
    path = link(data.parent / "disk", data.parents[1] / "home")
    assert [path.name for path in expand(given.format(path))] == ["b.jsonl"]


def test_named_file_is_read(data):
    """The hint of the error works."""
    path = link(data / "b.jsonl", data.parents[1] / "home" / "b.jsonl")
    with pytest.raises(PathError) as caught:
        expand("data")
    assert "data/b.jsonl" in caught.value.hint
    assert expand(path) == [Path(path)]


def test_links_of_a_folder_elsewhere_may_lead_into_it(data, monkeypatch):
    """E.g. in a cache whose files are links."""
    elsewhere = data.parents[1] / "home"
    link(elsewhere / "rows" / "c.jsonl", "../b.jsonl")
    with pytest.raises(PathError):
        expand(str(elsewhere / "rows"))
    assert len(expand(f"glob:{elsewhere}/**/*.jsonl")) == 3
    monkeypatch.chdir(elsewhere)
    assert len(expand("rows")) == 2
