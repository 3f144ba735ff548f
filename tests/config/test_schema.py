"""JSON Schema of config files: it accepts every shipped config, and rejects typos and wrong types."""

import json

import pytest
from omegaconf import OmegaConf

from hydratune.cli.main import dispatch
from hydratune.config.options import options, shipped_dir
from hydratune.config.schema import schema
from hydratune.utils.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema")
SHIPPED = options(shipped_dir())
GROUPS = sorted({option.group for option in SHIPPED})


def errors(group, value):
    """The errors of a value as a file of a group; None stands for experiments and `train.yaml`."""
    return [*jsonschema.Draft7Validator(schema(group)).iter_errors(value)]


@pytest.mark.parametrize("group", GROUPS)
def test_schema_accepts_every_shipped_option(group):
    """As OmegaConf reads it, e.g. 1e-4 as a number."""
    validator = jsonschema.Draft7Validator(schema(group))
    for option in (option for option in SHIPPED if option.group == group):
        content = OmegaConf.to_container(OmegaConf.load(option.path), resolve=False)
        assert [error.message for error in validator.iter_errors(content)] == [], option.path


def test_schema_accepts_the_primary_config():
    """The file with all groups."""
    content = OmegaConf.to_container(OmegaConf.load(shipped_dir() / "train.yaml"), resolve=False)
    assert errors(None, content) == []


@pytest.mark.parametrize(
    ("group", "value"),
    [
        ("dataset", {"_target_": "hydratune.data.LocalFiles", "fils": {}}),
        ("dataset", {"defaults": ["local"], "fils": {}}),
        ("dataset", {"header": "maybe"}),
        ("dataset", {"on_bad_rows": "ignore"}),
        ("trainer", {"args": {"learning_rat": 1e-3}}),
        ("trainer", {"args": {"num_train_epochs": "three"}}),
        (
            "trainer/callbacks",
            {"stop": {"_target_": "transformers.EarlyStoppingCallback", "early_stopping_patienc": 1}},
        ),
        ("adapter", {"config": {"_target_": "peft.LoraConfig", "rank": 8}}),
        (None, {"trainer": {"args": {"learning_rat": 1e-3}}}),
        (None, {"sede": 1}),
        (None, {"seed": "one"}),
    ],
)
def test_schema_rejects_typos_and_types(group, value):
    """At any depth."""
    assert errors(group, value)


@pytest.mark.parametrize(
    ("group", "value"),
    [
        ("dataset", {"defaults": ["local"], "files": {"train": "a.csv"}, "columns": {"text": "review"}}),
        ("dataset", {"_target_": "my_package.MyDataset", "anything": 1}),
        ("trainer", {"args": {"learning_rate": "${vars.rate}"}}),
        (None, {"trainer": {"args": {"learning_rate": 1e-3}}, "task": {"max_length": 64}, "vars": {"rate": 1}}),
        *((None, {"task": {"metrics": metrics}}) for metrics in (["f1"], None)),  # of some tasks only
    ],
)
def test_schema_accepts_partial_files_interpolations_and_own_targets(group, value):
    """What a user writes."""
    assert errors(group, value) == []


def test_schema_describes_keys_as_the_files_do():
    """Editors show the comment of a key."""
    text = json.dumps(schema("dataset"))
    assert "separator of cells in csv and tsv files" in text


def test_configs_schema_prints_json(capsys):
    """For a file that an editor reads."""
    assert dispatch(["configs", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert dispatch(["configs", "schema", "dataset"]) == 0
    assert json.loads(capsys.readouterr().out) == schema("dataset")


def test_configs_schema_rejects_an_unknown_group():
    """With a similar one."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["configs", "schema", "datset"])
    assert [problem.key for problem in caught.value.problems] == ["group"]
    assert "dataset" in caught.value.problems[0].hint
