"""Suggestions for mistyped keys and options."""

import pytest

from hydratune.config import composition, suggestions
from hydratune.config.composition import Request, check_choices
from hydratune.config.options import options, shipped_dir
from hydratune.utils.errors import ConfigError


def hints(*overrides):
    """Return the hints of the errors of some overrides."""
    request = Request(overrides)
    with composition.composer(request):
        return [problem.hint for _, problem in check_choices(request)]


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("task=ner", "task=token_classification"),
        ("task=sft", "task=supervised_fine_tuning"),
        ("sweep=bayes", "sweep=tpe"),
        ("hardware=cuda", "hardware=gpu"),
        ("dataset=locl", "dataset=local"),
        ("model=minilmm", "model=minilm"),
        ("model=bret", "model=bert"),
        ("trainer/callbacks=[early_stoping]", "'trainer/callbacks=[early_stopping]'"),
    ],
)
def test_suggest_option_names_the_option(override, suggestion):
    """Another name of an option comes first, then a similar spelling."""
    (hint,) = hints(override)
    assert hint.endswith(f": {suggestion}")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hardware=zzz", ["'auto'", "'fsdp'"]),
        ("dataset=my/reviews.csv", ["dataset=local dataset.files.train=my/reviews.csv"]),
        ("dataset=./reviews", ["dataset=local dataset.files.train=./reviews"]),
        ("model=./bert", ["model=pretrained model.pretrained_model_name_or_path=./bert"]),
        ("task=zzz", ["`hydratune configs task`"]),
        ("task=null", ["configs task"]),
    ],
)
def test_suggest_option_lists_the_options(override, words):
    """A group has its options in the hint, or the command that lists more than eight."""
    (hint,) = hints(override)
    assert all(word in hint for word in words)


@pytest.mark.parametrize("name", ["gpt2", "bert_tiny", "roberta-base", "distilbert/distilbert-base-uncased"])
def test_suggest_option_takes_a_hub_model(name):
    """A name of a checkpoint is no typo of an option: the hint has the two keys that take it."""
    (hint,) = hints(f"model={name}")
    assert f"model=pretrained model.pretrained_model_name_or_path={name}" in hint


def test_suggest_option_takes_a_hub_dataset():
    """The same for a dataset, whose ID needs an owner."""
    assert "dataset=hub dataset.path=OWNER/imdb" in hints("dataset=imdb")[0]
    assert "dataset=hub dataset.path=nyu-mll/glue" in hints("dataset=nyu-mll/glue")[0]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("lr=1", "trainer.args.learning_rate"),
        ("epochs=1", "trainer.args.num_train_epochs"),
        ("batch_size=1", "trainer.args.per_device_train_batch_size"),
        ("wd=1", "trainer.args.weight_decay"),
        ("learning_rate=1", "trainer.args.learning_rate"),
        ("max_samples=1", "dataset.max_samples.train"),
        ("trainer.args.lr=1", "trainer.args.learning_rate"),
        ("trainer.epochs=1", "trainer.args.num_train_epochs"),
        ("optimizer.lr=1", "trainer.args.learning_rate"),
        ("sweep.random_seed=1", "sweep.seed"),
        ("sede=1", "seed"),
    ],
)
def test_suggest_key_names_the_whole_key(compose, override, key):
    """A short name, or a name without its path, gives the key that can be pasted."""
    from hydratune.config.validate import check_config

    with pytest.raises(ConfigError) as caught:
        check_config(compose(override))
    assert [problem.hint.rpartition(": ")[2] for problem in caught.value.problems] == [key]


def test_suggest_elsewhere_names_the_option_with_the_argument(compose):
    """`dataset.files` without `dataset=local` is the most frequent one."""
    from hydratune.config.validate import check_config

    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset.files.train=a.csv"))
    (problem,) = caught.value.problems
    assert "dataset=local" in problem.hint
    assert "hydratune." not in problem.text  # the user has not named the class of the default dataset


def test_suggest_key_names_the_rank_of_an_adapter(compose):
    """`rank` is an argument of the adapter, which only some configs have."""
    from hydratune.config.validate import check_config

    with pytest.raises(ConfigError) as caught:
        check_config(compose("adapter=lora", "rank=4"))
    assert [problem.hint.rpartition(": ")[2] for problem in caught.value.problems] == ["adapter.config.r"]


def test_suggest_key_makes_no_guess():
    """A key that several nodes have is not suggested."""
    assert suggestions.suggest_key("size", 1, {}, {"a": {"size": 1}, "b": {"size": 2}}) == ""


def test_other_names_of_options_exist():
    """Each option in the table is shipped."""
    shipped = {(option.group, option.name) for option in options(shipped_dir())}
    table = {(group, name) for group, names in suggestions.OPTIONS.items() for name in names.values()}
    assert table <= shipped


@pytest.mark.parametrize(
    ("override", "use"),
    [
        ("sweep.seed=[1,2]", "use sweep.seeds=[1,2]"),
        ("seed=[1,2]", "-m seed=1,2"),
        ("dataset=local dataset.test_size='60%'", "use dataset.test_size=0.6"),
        ("trainer.args.learning_rate='5 %'", "use trainer.args.learning_rate=0.05"),
    ],
)
def test_value_hint_names_the_override(compose, override, use):
    """A list for one value, and a percentage."""
    from hydratune.config.validate import check_config

    with pytest.raises(ConfigError) as caught:
        check_config(compose(*override.split(" ", 1) if override.startswith("dataset") else [override]))
    assert any(use in hint for problem in caught.value.problems for hint in problem.hints)


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["task.max_length", "=", "64"], "task.max_length=64"),
        (["task.max_length=", "64"], "task.max_length=64"),
        (["task.max_length", "=64"], "task.max_length=64"),
        (["seed=1,", "2,", "3", "name=x"], "seed=1,2,3"),
    ],
)
def test_overrides_split_by_spaces_are_joined_in_the_hint(words, joined):
    """The hint has all values."""
    with pytest.raises(ConfigError) as caught:
        hints(*words)
    assert [problem.hint for problem in caught.value.problems] == [f"use {joined}"]


def test_overrides_that_end_with_a_separator_are_not_joined():
    """The next word is an override of its own."""
    assert hints("dataset.delimiter=,", "seed=1", "name=", "~adapter") == []
