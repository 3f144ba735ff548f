"""Addresses in the card of someone else's dataset: it names its own files only, also through other protocols."""

import json
import zipfile
from pathlib import Path

import pytest
from datasets import load_dataset

from hydratune.data.hub import HubDataset, check_addresses
from hydratune.utils.errors import ConfigError

ROWS = "text,label\nprivate,0\nprivate,1\n"
REPOSITORY = "hf://datasets/attacker/x@0123"
CHAINS = [
    "reference://a.csv::{0}/sub/ref.json",
    "zip://a.csv::reference://a.zip::{0}/sub/ref.json",
    *(f"{name}://a.csv::{{0}}/a.csv" for name in ("file", "local", "dir", "simplecache", "filecache", "blockcache")),
    *(
        f"{name}:///etc/passwd::{{0}}/a.csv"
        for name in ("file", "local", "memory", "data", "github", "https", "ftp", "x")
    ),
    "/etc/passwd::{0}/a.csv",
    "::{0}/a.csv",
    "file:{0}/a.csv",
    "zip://a.csv::/elsewhere/a.zip",
    "zip://a.csv::reference://x",
    "{0}/../../other/a.csv",
]


@pytest.fixture
def dataset(own_directory, monkeypatch):
    """Return the directory of a dataset with files for other protocols, one of which names a file elsewhere."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)  # in offline mode, it refuses all protocols
    (own_directory.parent / "private.csv").write_text(ROWS)
    folder = own_directory / "owner" / "name"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "ref.json").write_text(json.dumps({"a.csv": [str(own_directory.parent / "private.csv")]}))
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a.csv", ROWS.replace("private", "own"))
    return folder


def write_card(folder, path):
    """Name one file in the dataset's card."""
    config = {"config_name": "default", "data_files": [{"split": "train", "path": path}]}
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': [config]})}\n---\n")


def texts():
    """Return the texts that the dataset has."""
    rows = HubDataset(path="owner/name", splits={"train": "train"}).read().splits["train"]
    return {*rows["text"]}


def test_reference_file_names_a_file_elsewhere(dataset):
    """Positive control: `datasets` alone reads it."""
    write_card(dataset, "reference://a.csv::owner/name/sub/ref.json")
    assert {*load_dataset("owner/name", split="train")["text"]} == {"private"}


@pytest.mark.parametrize("chain", ["reference://a.csv::{}/sub/ref.json", "file://{}/../../../private.csv"])
def test_card_does_not_read_a_file_elsewhere(dataset, chain):
    """By the files that other files of the dataset name."""
    write_card(dataset, chain.format("owner/name"))
    with pytest.raises(ConfigError) as caught:
        texts()
    assert [problem.key for problem in caught.value.problems] == ["dataset.path"]


def test_card_reads_its_own_archive(dataset):
    """Positive control."""
    write_card(dataset, "zip://a.csv::owner/name/a.zip")
    assert texts() == {"own"}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("path", ["attacker/x", "owner/name"])
@pytest.mark.usefixtures("dataset")
def test_chain_of_protocols_is_refused(path, chain):
    """Unless all of them read archives."""
    location = REPOSITORY if path == "attacker/x" else str(Path(path).absolute())
    with pytest.raises(ConfigError):
        check_addresses(path, {"train": [chain.format(location)]})


@pytest.mark.parametrize("chain", ["{}/a.csv", "zip://a.csv::{}/a.zip", "gzip://a.csv::zip://a.csv.gz::{}/a.zip"])
@pytest.mark.parametrize("path", ["attacker/x", "owner/name"])
@pytest.mark.usefixtures("dataset")
def test_chain_of_archives_is_allowed(path, chain):
    """Positive control."""
    location = REPOSITORY if path == "attacker/x" else str(Path(path).absolute())
    check_addresses(path, {"train": [chain.format(location)]})
