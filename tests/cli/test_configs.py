"""Every shipped config, found by glob, composes, validates and opens with what it is for."""

import itertools
import re
from collections import defaultdict

import pytest
from omegaconf import OmegaConf

from conftest import write_rows
from hydratune.cli.main import dispatch
from hydratune.config.options import options, shipped_dir
from hydratune.config.signatures import signature
from hydratune.config.validate import check_config
from hydratune.utils.errors import FAILED, ConfigError

SHIPPED = options(shipped_dir())
# What an option leaves for the user to say.
REQUIRED = {
    "dataset/local": ["dataset.files.train=a.jsonl"],
    "dataset/hub": ["dataset.path=stanfordnlp/imdb"],
    "dataset/mixture": ["+dataset@dataset.sources.a=wordnet_supersense"],
    "dataset/saved": ["dataset.path=saved"],
    "experiment/wordnet_cross_validation": ["cv.fold=0"],
    "model/scratch": ["model.model_type=gpt2", "model.tokenizer=bytes"],
    "model/pretrained": ["model.pretrained_model_name_or_path=roberta-base"],
}


@pytest.mark.parametrize("option", SHIPPED, ids=lambda option: f"{option.group}/{option.name}")
def test_composes_and_validates(option, compose, own_directory):
    """Chosen alone, with what it requires, an option makes a config without errors."""
    write_rows(own_directory / "a.jsonl", [{"text": "a", "label": "b"}])
    (own_directory / "saved").mkdir()
    (own_directory / "saved" / "dataset_info.json").touch()
    choice = f"[{option.name}]" if option.group == "trainer/callbacks" else option.name
    path = f"{option.group}/{option.name}"
    cfg = compose(f"{option.group}={choice}", *REQUIRED.get(path, []))
    try:
        check_config(cfg)
    except ConfigError as error:
        elsewhere = ("https://huggingface.co", "the package bitsandbytes")  # what a machine may lack
        assert [m for m in error.problems if not any(one in str(m) for one in elsewhere)] == []  # noqa: PT017


@pytest.mark.parametrize("path", sorted(shipped_dir().rglob("*.yaml")), ids=lambda path: path.stem)
def test_opens_with_a_comment_and_a_command(path):
    """The first lines say what a file is for and name a command that uses it."""
    lines = path.read_text().splitlines()
    comments = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    assert comments, path
    assert re.search(r"\bhydratune\b", " ".join(comments)), path


@pytest.mark.parametrize("option", [one for one in SHIPPED if one.group == "experiment"], ids=lambda one: one.name)
def test_experiment_opens_with_summary_and_command(option):
    """The summary comes first, since `hydratune configs` lists it, then the command: a sweep if it has folds."""
    _, summary, command = option.path.read_text(encoding="utf-8").splitlines()[:3]
    assert summary == f"# {option.summary}"
    program = "hydratune -m" if "cv" in OmegaConf.load(option.path) else "hydratune"
    assert command == f"# {program} experiment={option.name}"


def test_yaml_lists_every_parameter():
    """Each parameter of a class that a group instantiates is a key in some file of this group."""
    keys, parameters = defaultdict(set), defaultdict(set)
    for option in SHIPPED:
        node = OmegaConf.load(option.path)
        target = str(node.get("_target_", ""))
        keys[option.group] |= set(node)
        if target.startswith("hydratune."):
            known = signature(target)
            parameters[option.group] |= {name for name in known.parameters if not name.startswith("_")}
    parameters["trainer"] -= set(signature("transformers.Seq2SeqTrainer").parameters)  # objects that the run passes
    assert {group: names - keys[group] for group, names in parameters.items() if names - keys[group]} == {}


def test_configs_show_prints_the_file(capsys):
    """Unchanged, to read or redirect."""
    assert dispatch(["configs", "show", "dataset/local"]) == 0
    assert capsys.readouterr().out == (shipped_dir() / "dataset" / "local.yaml").read_text()


def test_configs_search_finds_keys_comments_and_training_arguments(capsys, tmp_path):
    """In any case, in one's own configs too."""
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.yaml").write_text("# mine\nkey: Adam_Beta\n")
    assert dispatch(["configs", "search", "adam_beta", "--config-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"dataset/mine:2: key: Adam_Beta", "trainer.args.adam_beta1", "trainer.args.adam_beta2"} <= {*lines}


def test_configs_search_without_a_result_fails(capsys):
    """For scripts, as `grep` does."""
    assert dispatch(["configs", "search", "zzzz"]) == FAILED
    assert "zzzz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["show"], "show"),
        (["search"], "search"),
        (["show", "a/b"], "option"),
        (["show", "local"], "option"),
        (["show", "dataset"], "option"),
    ],
)
def test_configs_rejects_what_it_cannot_show(arguments, key):
    """An error names the argument."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["configs", *arguments])
    assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.parametrize(("link", "is_folder"), [("conf/dataset/my_local.yaml", False), ("conf/dataset", True)])
def test_copy_writes_through_no_link(own_directory, link, is_folder):
    """A cloned repository can contain one, also to a file that does not exist."""
    elsewhere = own_directory.parent / "home"
    elsewhere.mkdir()
    path = own_directory / link
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere if is_folder else elsewhere / "created.yaml")
    with pytest.raises(ConfigError):
        dispatch(["configs", "copy", "dataset/local", "conf"])
    assert [*elsewhere.iterdir()] == []
    path.unlink()
    assert dispatch(["configs", "copy", "dataset/local", "conf"]) == 0  # positive control
    assert (own_directory / "conf/dataset/my_local.yaml").is_file()
