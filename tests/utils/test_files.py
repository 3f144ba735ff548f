"""Files are whole or absent; directories belong to one run."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from hydratune.utils.errors import ConfigError
from hydratune.utils.files import (
    LOCK,
    atomic_write,
    check_links,
    claim_directory,
    find_files,
    numbered_directories,
    try_lock,
    write_json,
    write_lines,
)


def test_replaces_in_one_step(own_directory):
    """A file that cannot be written whole leaves the old one."""
    path = own_directory / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in own_directory.iterdir()] == ["a.json"]


def test_two_writers(own_directory):
    """Two that write one file at the same time have a part each; the last one counts."""
    path = own_directory / "a"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"
    assert [*own_directory.iterdir()] == [path]


def test_lines(tmp_path):
    """One document a line, in any script."""
    write_lines(tmp_path / "a.jsonl", [{"a": "ü"}, 2])
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == '{"a": "ü"}\n2\n'


def test_a_directory_is_claimed_once(tmp_path):
    """Runs that start in the same second get a directory each."""
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim_directory(tmp_path / "x" / "run"), range(20)))
    assert len(set(claimed)) == 20
    assert claim_directory(tmp_path / "x" / "run").name == "run-21"


def test_numbered_directories_are_those_of_one_name(tmp_path):
    """In the order in which they were claimed, without other names that begin the same."""
    for name in ("run-other", "run-2-other", "other-2"):
        (tmp_path / name).mkdir()
    claimed = [claim_directory(tmp_path / "run") for _ in range(11)]
    assert numbered_directories(tmp_path / "run") == claimed[1:]


@pytest.mark.parametrize("name", ["train.log", ".hydra/config.yaml", "model/x.txt", "checkpoints", "a/b/c"])
@pytest.mark.parametrize("target", ["secret", "folder", "nowhere", "run/../secret"])
def test_links_that_lead_out_are_refused(own_directory, name, target):
    """Writing to them would overwrite files of the user, and uploading them would publish those."""
    (own_directory / "secret").write_text("mine")
    (own_directory / "folder").mkdir()
    link = own_directory / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(own_directory / target)
    with pytest.raises(ConfigError) as caught:
        check_links(own_directory / "run")
    (problem,) = caught.value.problems
    assert problem.key == "RUN"
    assert repr(str(link)) in problem.text


def test_links_inside_a_directory_are_allowed(own_directory):
    """Also in a directory that is named by a link, and in one that does not exist."""
    (own_directory / "run" / "a").mkdir(parents=True)
    (own_directory / "run" / "b").symlink_to("a")
    (own_directory / "link").symlink_to("run")
    for name in ("run", "link", "nowhere"):
        check_links(own_directory / name)


def test_find_files_while_a_folder_is_removed(own_directory, monkeypatch):
    """Files elsewhere are found if another process removes a folder between its listing and its visit."""
    for name in ("a", "b", "b/c"):
        (own_directory / name).mkdir()
        (own_directory / name / "x").touch()
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("a"):
            (own_directory / "a" / "x").unlink()
            (own_directory / "a").rmdir()
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert sorted(path.parent.name for path in find_files(own_directory, "x")) == ["b", "c"]


def test_lock_does_not_wait_for_a_pipe(own_directory):
    """A directory from someone else may have one at the name of the lock."""
    os.mkfifo(own_directory / LOCK)
    with try_lock(own_directory) as is_ours:
        assert is_ours
