"""Options of training, and those of other tools in their place."""

import pytest

from hydratune.cli.main import dispatch
from hydratune.cli.train_options import parse_overrides
from hydratune.utils.errors import ConfigError


@pytest.mark.parametrize("flag", ["-n", "--dry-run"])
def test_parse_overrides_reads_a_dry_run(flag):
    """Overrides may precede and follow the flag."""
    flags = parse_overrides(["seed=1", flag, "name=x"])
    assert (flags.dry_run, flags.overrides) == (True, ["seed=1", "name=x"])


@pytest.mark.parametrize(
    ("typed", "override"),
    [
        (["--epochs", "3"], "trainer.args.num_train_epochs=3"),
        (["--lr=3e-5"], "trainer.args.learning_rate=3e-5"),
        (["--num-epochs=3"], "trainer.args.num_train_epochs=3"),
        (["--batch-size", "8", "seed=1"], "trainer.args.per_device_train_batch_size=8"),
        (["--model", "bert"], "model=bert"),
        (["--data", "x.csv"], "dataset=local dataset.files.train=x.csv"),
        (["adapter=dora", "--rank", "4"], "use adapter.config.r=4"),
        (["--seed", "3"], " seed=3"),
        (["--output-dir", "x"], "hydra.run.dir=x"),
        (["--fp16", "--max-length=5"], "task.max_length=5"),
    ],
)
def test_option_of_another_tool_is_answered_by_its_override(typed, override):
    """The hint has the value too, so that it can be pasted."""
    with pytest.raises(ConfigError) as error:
        parse_overrides(typed)
    assert any(hint.endswith(override) for hint in error.value.problems[-1].hints)


def test_parse_overrides_takes_no_abbreviation():
    """`--dry` could be another option than the user means; the hint names it."""
    with pytest.raises(ConfigError) as error:
        parse_overrides(["--dry"])
    assert [problem.hint for problem in error.value.problems] == ["a similar option exists: --dry-run"]


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("predict RUN x.csv --output y.jsonl", "--out"),
        ("predict RUN x.csv --limit 3", "--max-samples"),
        ("predict RUN x.csv -o y.jsonl", "--out"),
        ("predict RUN x.csv -b 3", "--batch-size"),
        ("sweep finish NAME --seed 3,4", "--seeds"),
        ("runs --la 3", "--last"),
    ],
)
def test_unknown_option_of_a_command_names_a_similar_one(command, option, capsys):
    """Names of other tools and abbreviations."""
    with pytest.raises(SystemExit) as error:
        dispatch(command.split())
    assert error.value.code == 2
    assert capsys.readouterr().err.split()[-1] == option


@pytest.mark.parametrize("name", ["b.csv", "b.jsonl.gz"])
def test_evaluate_answers_a_file_with_its_override(name):
    """`predict` takes a file as an argument, `evaluate` takes overrides, which also name other data than files."""
    with pytest.raises(ConfigError) as error:
        dispatch(["evaluate", "RUN", f"../{name}"])
    assert [problem.hint.split()[-1] for problem in error.value.problems] == [f"dataset.files.test=../{name}"]


@pytest.mark.parametrize(("typed", "is_demo"), [([], True), (["seed=1"], False), (["-n"], False), (["-q"], False)])
def test_training_without_overrides_is_announced(typed, is_demo, monkeypatch, capsys):
    """Someone who expects a list of commands learns that a training starts, and what lists them."""
    monkeypatch.setattr("hydratune.cli.train.train", lambda _: 0)
    assert dispatch(typed) == 0
    assert ("hydratune --help" in capsys.readouterr().err) == is_demo


@pytest.mark.parametrize("words", [["experiment", "=", "first"], ["experiment", "=first"], ["sweep", "=", "first"]])
def test_spaces_around_the_equals_sign_are_named(words):
    """The first word is a key, also if a command has its name."""
    with pytest.raises(ConfigError) as error:
        dispatch([*words, "-n"])
    assert f"use {words[0]}=first" in [hint for problem in error.value.problems for hint in problem.hints]


def test_help_of_a_plan_lists_options_that_apply(capsys):
    """A plan does not choose between a run and a sweep, and does not print configs."""
    dispatch(["sweep", "plan", "--help"])
    out = capsys.readouterr().out
    assert "--config-dir" in out
    assert not [option for option in ("--multirun", "--run", "--cfg", "--info", "--dry-run") if option in out]
