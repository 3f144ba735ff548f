"""Keys that count as typed by the user, who may set more than a stored run or a config file may."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, load_from_disk
from omegaconf import OmegaConf

from hydratune.cli.main import dispatch
from hydratune.cli.train import checked
from hydratune.config import typed_settings, user_settings
from hydratune.config.composition import Request, composer
from hydratune.data.disk import SavedDataset
from hydratune.utils.errors import ConfigError

VALUES = [
    ";",
    "#",
    ",",
    " ",
    "\t",
    "",
    "null",
    "'a b'",
    '"a b"',
    r"a\,b",
    r"\ a",
    "a b",
    "[1, 2]",
    "{a: 1}",
    "${vars.x}",
]
BASE = ["experiment=digits", "tracking=none", "hardware=cpu"]
EVIL = {
    "dataset.files.test": "/elsewhere/rows.jsonl",
    "trainer.args.push_to_hub": "true",
    "tracking.uri": "sqlite:////elsewhere/x.db",
    "hardware.launch.rdzv_endpoint": "evil.example:6379",
}
LOCAL = ["dataset=local", "dataset.files={train: rows.jsonl}"]
MORE = {
    "trainer.args.push_to_hub": ["trainer.args.hub_model_id=me/x"],
    "dataset.files.test": LOCAL,
    "tracking.uri": ["tracking=mlflow"],
    "hardware.launch.rdzv_endpoint": ["hardware=ddp", "hardware.launch.nnodes=2", "hardware.launch.node_rank=1"],
}


def typed_keys(*overrides, stored=0):
    """Return the typed keys of a command."""
    with composer(Request()):
        return Request(overrides, stored=stored).typed_keys


@pytest.mark.parametrize("prefix", ["", "+", "++"])
@pytest.mark.parametrize("value", VALUES)
def test_stored_override_types_no_key(prefix, value):
    """Whatever its form: the parser changes some texts. The same override counts if the user types it."""
    text = f"{prefix}trainer.args={value}"
    assert typed_keys(text, "seed=1", stored=1) == ["seed"]
    (key,) = typed_keys(text, text, stored=1)
    assert key.startswith("trainer.args")


@pytest.mark.parametrize("text", ["trainer=default", "~trainer.args", "trainer.args={}"])
def test_override_without_values_types_no_key(text):
    """The values of an option come from a file, which may be someone else's."""
    assert typed_keys(text) == []


def test_typed_mapping_types_its_own_keys():
    """A stored mapping, which it is merged with, may have more."""
    assert typed_keys("dataset.files={train: a, test: {b: c}}") == ["dataset.files.train", "dataset.files.test.b"]


@pytest.fixture
def resume(own_directory, compose):
    """Resume a run of someone else with these overrides; return the keys of its errors."""

    def dry_run(stored, *typed):
        folder = own_directory / "run" / ".hydra"
        folder.mkdir(parents=True)
        node = {"hydra": {"runtime": {"cwd": "/nonexistent", "config_sources": compose().hydra.runtime.config_sources}}}
        OmegaConf.save(OmegaConf.create(node), folder / "hydra.yaml")
        (folder / "overrides.yaml").write_text(json.dumps(stored))
        with pytest.raises(ConfigError) as caught:
            dispatch(["resume", "run", *typed, "--dry-run"])
        return [problem.key for problem in caught.value.problems]

    return dry_run


SENT = {
    "trainer.args.hub_model_id": ["trainer.args.push_to_hub=true", "trainer.args.hub_model_id=me/{}"],
    "trainer.args.report_to": ["trainer.args={{report_to: [tensorboard], run_name: {}}}"],
    "tracking.registered_model_name": ["tracking=mlflow", "tracking.registered_model_name={}"],
    "hardware.launch.rdzv_endpoint": [*MORE["hardware.launch.rdzv_endpoint"], "hardware.launch.rdzv_endpoint={}:1"],
    "trainer.args.hub_revision": ["trainer.args.hub_revision={}-${{oc.env:ORDINARY}}"],
}


@pytest.mark.parametrize("key", SENT)
def test_run_that_names_the_current_directory_sends_nothing(own_directory, monkeypatch, key):
    """Someone else can guess the directory. What the user has typed before counts, but no other value of the key."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_directory.parent / "config"))
    monkeypatch.setenv("ORDINARY", "long-ordinary-value")

    def refused(*overrides):
        texts = tuple(f"++{text}" if "." in text.partition("=")[0] else text for text in overrides)
        request = Request(texts, stored=len(texts))
        with composer(request):
            try:
                checked(request)
            except ConfigError as error:
                return {problem.key for problem in error.problems}
        return set()

    mine, theirs = ([text.format(name) for text in SENT[key]] for name in ("a", "b"))
    assert key in refused(*mine)
    typed_settings.record_typed(mine)
    assert not refused(*mine)
    assert key in refused(*theirs)
    assert key in refused(*mine, theirs[-1])


@pytest.mark.parametrize("symbol", [";", "#", ",", " "])
@pytest.mark.parametrize("key", EVIL)
def test_stored_symbol_does_not_allow_a_key(resume, key, symbol):
    """`KEY=;` is parsed as `KEY=';'`, another text than the stored one."""
    more = [*BASE, *MORE.get(key, ())]
    assert resume([*more, f"++{key}={symbol}", f"++{key}={EVIL[key]}"]).count(key) == 1


def test_stored_part_of_a_typed_mapping_is_not_typed(resume):
    """Only the parts that the user types may be files elsewhere."""
    stored = [*BASE, *LOCAL, "++dataset.files.test=/elsewhere/rows.jsonl"]
    assert resume(stored, "dataset.files={train: rows.jsonl}").count("dataset.files.test") == 1


@pytest.mark.parametrize("path", ["~", "/", "x", "file:/etc", "local:/etc", "file:///etc", "../x"])
@pytest.mark.parametrize("place", ["files.test.{}", "splits.{}", "sources.{}.files.test", "sources.a.files.test.{}"])
@pytest.mark.usefixtures("own_directory")
def test_names_of_sets_hide_no_path(path, place):
    """A set or a source can have the name of an option whose value is no path."""
    Path("x").symlink_to("/etc")
    for name in ("comment", "decimal", "delimiter", "escapechar", "list_separator", "labels", "columns"):
        cfg = OmegaConf.create({"dataset": {}})
        key = f"dataset.{place.format(name)}"
        OmegaConf.update(cfg, key, path)
        assert [problem.key for problem in user_settings.data_files(cfg, [], ["dataset"])] == [key]


@pytest.mark.parametrize("name", ["a.columns", "a.columns.b", "a.files.test", "a.comment", "a\\.columns"])
def test_name_with_dots_hides_no_path(name):
    """Neither as the key of a value that is no path, nor as one that the user typed."""
    cfg = OmegaConf.create({"dataset": {"sources": {name: {"files": {"test": "/etc/passwd"}}}}})
    assert len([*user_settings.data_files(cfg, ["dataset.sources.a.files.test"], ["dataset"])]) == 1


@pytest.mark.parametrize("place", ["", "sources.a."])
def test_symbols_and_labels_are_no_paths(place):
    """Positive control."""
    options = {"comment": "/", "decimal": ".", "delimiter": "/", "escapechar": "~", "list_separator": "/"}
    cfg = OmegaConf.create({"dataset": {}})
    for name, value in {**options, "labels": ["/a", "../b"], "columns": {"text": "/"}}.items():
        OmegaConf.update(cfg, f"dataset.{place}{name}", value)
    assert [*user_settings.data_files(cfg, [], ["dataset"])] == []


@pytest.mark.parametrize("protocol", ["file:", "local:", "file://"])
def test_saved_dataset_is_read_from_the_checked_directory(own_directory, protocol):
    """`datasets` would remove the protocol, and read the directory elsewhere."""
    elsewhere = own_directory.parent / "private"
    Dataset.from_dict({"text": ["private"]}).save_to_disk(elsewhere)
    decoy = own_directory / f"{protocol}{elsewhere}"
    Dataset.from_dict({"text": ["decoy"]}).save_to_disk(decoy)
    assert load_from_disk(f"{protocol}{elsewhere}")["text"][:] == ["private"]  # positive control
    dataset = SavedDataset(path=f"{protocol}{elsewhere}")
    assert [*dataset.check()] == []
    assert dataset.read().splits["train"]["text"][:] == ["decoy"]
