"""Overrides, groups and options."""

import pytest
from omegaconf import OmegaConf

from hydratune.config import composition
from hydratune.config.composition import Request, check_choices, expand_multirun, force_add
from hydratune.config.options import Option, options, shipped_dir


def inside(function, *overrides):
    """What `function` makes of a request, on Hydra's search path."""
    request = Request(overrides)
    with composition.composer(request):
        return list(function(request))


def test_a_dataset_names_its_task(compose):
    """`dataset=X` alone gives a run with its task; the task may still be overridden."""
    cfg = compose("dataset=local")
    assert cfg.task._target_ == "hydratune.tasks.SequenceClassification"
    assert cfg.hydra.runtime.choices.task == "sequence_classification"


def test_an_experiment_is_a_named_diff(compose):
    """`experiment=mrpc` changes the dataset, the model and what it states, and the command line beats it."""
    cfg = compose("experiment=mrpc", "trainer.args.learning_rate=1")
    assert (cfg.dataset.path, cfg.dataset.name) == ("nyu-mll/glue", "mrpc")
    assert cfg.model.pretrained_model_name_or_path == "google-bert/bert-base-uncased"
    assert (cfg.trainer.args.learning_rate, cfg.trainer.args.per_device_train_batch_size) == (1, 8)


def test_values_are_forced_and_choices_are_not():
    """`++` goes before values only, so that unknown keys reach the check of the whole config."""
    typed = (
        "dataset=local",
        "seed=1",
        "+vars.x=1",
        "~experiment",
        "++a.b=2",
        "hydra.run.dir=x",
        "trainer/callbacks=[]",
    )
    assert inside(force_add, *typed) == [
        "dataset=local", "++seed=1", "+vars.x=1", "~experiment", "++a.b=2", "hydra.run.dir=x", "trainer/callbacks=[]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("override", "typed", "hint"),
    [
        ("dataset=locl", "locl", "dataset=local"),
        ("model=minilm,brt", "brt", "model=bert"),
        ("trainer/callbacks=[early_stoping]", "early_stoping", "'trainer/callbacks=[early_stopping]'"),
        ("task=zzz", "zzz", "`hydratune configs task`"),
    ],
)
def test_options_that_do_not_exist(override, typed, hint):
    """A mistyped option names the nearest one, in lists and sweeps too."""
    ((_, problem),) = inside(check_choices, override, "experiment=null")
    assert repr(typed) in problem.text
    assert problem.hint.endswith(hint)


def test_jobs_of_a_multirun():
    """Every combination once, the last override changing fastest, as Hydra's basic sweeper has it."""
    assert inside(expand_multirun, "seed=1,2", "model=bert", "trainer.args.weight_decay=0,0.1") == [
        ["++seed=1", "model=bert", "++trainer.args.weight_decay=0"],
        ["++seed=1", "model=bert", "++trainer.args.weight_decay=0.1"],
        ["++seed=2", "model=bert", "++trainer.args.weight_decay=0"],
        ["++seed=2", "model=bert", "++trainer.args.weight_decay=0.1"],
    ]


def test_options_have_summaries():
    """The list shows each file's first comment, without Hydra's header."""
    summaries = {(option.group, option.name): option.summary for option in options(shipped_dir())}
    assert summaries["experiment", "mrpc"].startswith("Fine-tune BERT")
    assert summaries["tracking", "none"].startswith("Record nothing")


def test_config_dir_adds_options(tmp_path, compose):
    """A user's directory adds options and whole groups' worth of choices."""
    folder = tmp_path / "mine" / "model"
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text("# Mine\ndefaults:\n  - pretrained\npretrained_model_name_or_path: me/small\n")
    assert Option("model", "small", folder / "small.yaml") in options(shipped_dir(), folder.parent)
    cfg = compose("model=small", config_dir=folder.parent)
    assert cfg.model.pretrained_model_name_or_path == "me/small"


@pytest.mark.parametrize(
    ("sources", "name", "flags"),
    [
        ([("pkg", "main", "hydratune.conf")], "train", []),
        (
            [("pkg", "main", "hydratune.conf"), ("file", "command-line", "my_conf")],
            "train",
            ["--config-dir", "my_conf"],
        ),
        ([("file", "main", "conf")], "mine", ["--config-path", "conf", "--config-name", "mine"]),
    ],
)
def test_config_flags_name_the_users_configs(own_directory, sources, name, flags):
    """The command of a run can be pasted: it has the flags without which its configs are not found."""
    found = [{"schema": schema, "provider": provider, "path": path} for schema, provider, path in sources]
    for one in found:
        one["path"] = str(own_directory / one["path"]) if one["schema"] == "file" else one["path"]
    node = OmegaConf.create({"runtime": {"config_sources": found}, "job": {"config_name": name}})
    assert composition.config_flags(node) == flags
