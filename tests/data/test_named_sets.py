"""Named validation and test sets: their splits, and errors of their names."""

import pytest

from conftest import write_rows
from hydratune.config.validate import check_config
from hydratune.data import LocalFiles, Mixture
from hydratune.data.eval_sets import sets_of
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

TASK = SequenceClassification()
SETS = ["dataset.files.train=train.jsonl", "dataset.files.validation={one: v1.jsonl, two: v2.jsonl}"]


def rows(word, count):
    """Rows of two labels with a word of their own."""
    return [{"text": f"{word} {i}", "label": "ab"[i % 2]} for i in range(count)]


@pytest.fixture
def files(own_directory):
    """Files of train, two validation sets, and two test sets."""
    sizes = {"train": 8, "v1": 4, "v2": 6, "t1": 3, "t2": 5}
    for name, count in sizes.items():
        write_rows(own_directory / f"{name}.jsonl", rows(name, count))
    return {
        "train": "train.jsonl",
        "validation": {"one": "v1.jsonl", "two": "v2.jsonl"},
        "test": {"one": "t1.jsonl", "two": "t2.jsonl"},
    }


def test_load_returns_one_split_per_set(files):
    """The rows of each set are a split of their own."""
    splits = LocalFiles(files=files).load(TASK)
    names = {"validation.one": 4, "validation.two": 6, "test.one": 3, "test.two": 5}
    assert {split: len(splits[split]) for split in splits} == {"train": 8, **names}
    assert set(splits["validation.two"]["text"]) == {row["text"] for row in rows("v2", 6)}


def test_max_samples_limits_each_set(files):
    """The limit of validation applies to each validation set."""
    splits = LocalFiles(files=files, max_samples={"validation": 5}).load(TASK)
    assert (len(splits["validation.one"]), len(splits["validation.two"])) == (4, 5)


def test_positions_of_test_rows_count_within_each_set(files):
    """The positions follow each other in the order of the sets."""
    source = LocalFiles(files=files, max_samples={"test": 4})
    splits = source.load(TASK)
    texts = [*splits["test.one"]["text"], *splits["test.two"]["text"]]
    assert [int(text.split()[1]) for text in texts] == [position for _, position in source.places["test"]]


def test_load_names_the_set_of_an_invalid_row(files, own_directory):
    """An unseen label in one set is reported with file and line."""
    write_rows(own_directory / "v2.jsonl", [{"text": "x", "label": "unseen"}])
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files=files).load(TASK)
    assert caught.value.problems[0].source == "v2.jsonl:1"


def test_load_requires_the_columns_in_each_set(files, own_directory):
    """A file of one set without the text column is an error."""
    write_rows(own_directory / "v2.jsonl", [{"words": "x", "label": "a"}])
    problems = [*LocalFiles(files=files).check_columns(TASK.columns)]
    assert ["v2.jsonl" in problem.text for problem in problems] == [True]


def test_validation_sets_leave_out_sets_without_files():
    """A set that an override removed with null does not count."""
    source = LocalFiles(files={"train": "t", "validation": {"a": "x", "b": None}})
    assert source.validation_sets() == ["a"]
    assert LocalFiles(files={"train": "t", "validation": "x"}).validation_sets() == []


def test_sets_of_finds_a_single_set_without_a_name():
    """One validation split is a set with an empty name."""
    assert sets_of(["train", "validation", "test.a"], "validation") == {"": "validation"}


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("dataset.files.train={a: train.jsonl}", "dataset.files.train"),
        ("dataset.files.validation={mean: v1.jsonl}", "dataset.files.validation"),
        ("dataset.files.validation={a-b: v1.jsonl}", "dataset.files.validation"),
        ("dataset.files.validation={a: nowhere.jsonl}", "dataset.files.validation.a"),
        ("dataset.files.validation={f1: v1.jsonl}", "dataset.files.validation"),
        ("dataset.files.validation={a: v1.jsonl, a_macro: v2.jsonl}", "dataset.files.validation"),
    ],
)
@pytest.mark.usefixtures("files")
def test_check_config_refuses_sets(override, key, compose):
    """Invalid or ambiguous names, missing files, and sets of train are errors of their keys."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=local", "dataset.files.train=train.jsonl", "objective=eval_mean_loss", override))
    assert key in [problem.key for problem in caught.value.problems]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("objective", ["eval_mean_accuracy", "eval_min_accuracy", "eval_max_loss", "eval_one_f1"])
def test_check_config_takes_objectives_over_sets(objective, compose):
    """The objective may be a mean, the worst set, or one set."""
    check_config(compose("dataset=local", *SETS, f"objective={objective}"))


@pytest.mark.usefixtures("files")
def test_check_config_refuses_an_ambiguous_objective(compose):
    """The default objective does not say how the sets count, and the hint names the two ways."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=local", *SETS))
    (problem,) = caught.value.problems
    assert problem.key == "task.objective"
    assert all(name in problem.hint for name in ("eval_mean_accuracy", "eval_min_accuracy", "eval_one_accuracy"))


@pytest.mark.usefixtures("files")
def test_check_config_refuses_sets_of_a_tuned_threshold(compose):
    """One threshold cannot be tuned on several sets."""
    task = ["task=multi_label_classification", "task.tune_threshold=true", "dataset.columns.labels=label"]
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=local", *SETS, *task, "objective=eval_mean_micro_f1"))
    assert "dataset.files.validation" in [problem.key for problem in caught.value.problems]


def test_mixture_refuses_sets(files):
    """A source of a mixture cannot name several sets."""
    problems = [*Mixture(sources={"a": LocalFiles(files=files)}).check()]
    assert [problem.key for problem in problems] == ["sources.a.files"]
