"""Folds of a dataset: those of scikit-learn, without duplicates or groups in two of them."""

import itertools
import random

import numpy as np
import pytest
from sklearn import model_selection

from conftest import write_rows
from hydratune.config.validate import check_config
from hydratune.data import CrossValidation, LocalFiles
from hydratune.tasks.causal_lm import CausalLm
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

TASK = SequenceClassification()
LABELS = [random.Random(i).choice("aaab") for i in range(60)]


def folds(count=5, repeats=1, seed=0):
    """Each repetition and fold of a cross-validation."""
    for repeat, fold in itertools.product(range(repeats), range(count)):
        yield CrossValidation(folds=count, repeats=repeats, seed=seed, fold=fold, repeat=repeat)


def rows(count, first=0, **columns):
    """Rows with a text of their own, and a label."""
    extra = {name: values[:count] for name, values in columns.items()}
    return [
        {"text": f"text {first + i}", "label": LABELS[i], **{name: values[i] for name, values in extra.items()}}
        for i in range(count)
    ]


def held_out(source, cv, task=TASK):
    """The texts of train and of the fold."""
    splits = source.load(task, cv)
    return splits["train"]["text"][:], splits["validation"]["text"][:]


def test_is_held_out_equals_repeated_stratified_k_fold():
    """Every fold of every repetition is that of scikit-learn with the same seed."""
    reference = model_selection.RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=7)
    expected = [test for _, test in reference.split(np.zeros(60), LABELS)]
    found = [np.flatnonzero(cv.is_held_out(60, LABELS, ())) for cv in folds(5, 3, seed=7)]
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_is_held_out_equals_stratified_group_k_fold():
    """With groups, the folds are those of `StratifiedGroupKFold`."""
    groups = [str(i // 3) for i in range(60)]
    reference = model_selection.StratifiedGroupKFold(4, shuffle=True, random_state=np.random.RandomState(2))
    expected = [test.tolist() for _, test in reference.split(np.zeros(60), LABELS, groups)]
    assert [np.flatnonzero(cv.is_held_out(60, LABELS, groups)).tolist() for cv in folds(4, seed=2)] == expected


def test_load_divides_train_and_validation_rows(own_directory):
    """Each row of both splits is in one fold, with its place in the files, and test is never touched."""
    for split, part in {"train": rows(20), "validation": rows(10, 20), "test": rows(5, 30)}.items():
        write_rows(own_directory / f"{split}.jsonl", part)
    source = LocalFiles(files={split: f"{split}.jsonl" for split in ("train", "validation", "test")})
    seen, first = [], {"train": 0, "validation": 20}
    for cv in folds(3):
        splits = source.load(TASK, cv)
        assert splits["test"]["text"][:] == [f"text {30 + i}" for i in range(5)]
        assert not {*splits["train"]["text"]} & {*splits["validation"]["text"]}
        assert len(splits["train"]) + len(splits["validation"]) == 30
        places = [f"text {first[split] + number}" for split, number in source.places["validation"]]
        assert places == splits["validation"]["text"][:]
        seen += splits["validation"]["text"]
    assert sorted(seen) == sorted(f"text {i}" for i in range(30))


def test_load_holds_out_the_same_test_rows_for_each_fold(own_directory):
    """Test rows that are held out from train are in no fold."""
    write_rows(own_directory / "a.jsonl", rows(40))
    source = LocalFiles(files={"train": "a.jsonl"}, test_size=0.25)
    tests = [source.load(TASK, cv)["test"]["text"][:] for cv in folds(3)]
    assert len(tests[0]) == 10
    assert tests[0] == tests[1] == tests[2] == source.load(TASK)["test"]["text"][:]
    assert not {*tests[0]} & {text for cv in folds(3) for part in held_out(source, cv) for text in part}


def test_groups_are_in_one_fold(own_directory):
    """No document is both in train and in the fold."""
    write_rows(own_directory / "a.jsonl", rows(60, document=[f"d{i % 12}" for i in range(60)]))
    source = LocalFiles(files={"train": "a.jsonl"}, group_by_column="document")
    for cv in folds(4):
        train, fold = ({int(text.split()[1]) % 12 for text in part} for part in held_out(source, cv))
        assert fold
        assert not train & fold


def test_groups_are_required_in_the_validation_rows(own_directory):
    """The validation rows are divided too, so they need the column."""
    write_rows(own_directory / "a.jsonl", rows(20, document=["d"] * 20))
    write_rows(own_directory / "b.jsonl", rows(20))
    source = LocalFiles(files={"train": "a.jsonl", "validation": "b.jsonl"}, group_by_column="document")
    with pytest.raises(ConfigError) as caught:
        source.load(TASK, next(folds()))
    assert [problem.key for problem in caught.value.problems] == ["dataset.group_by_column"]


def test_duplicates_are_in_one_fold(own_directory):
    """Rows with the same text are in the fold of the first of them."""
    write_rows(own_directory / "a.jsonl", rows(30) + rows(10) + rows(5))
    source = LocalFiles(files={"train": "a.jsonl"})
    for cv in folds(3):
        train, fold = held_out(source, cv)
        assert not {*train} & {*fold}
        assert len(train) + len(fold) == 45


def test_labels_have_equal_shares(own_directory):
    """Without an option, the folds are stratified by the label of the task."""
    write_rows(own_directory / "a.jsonl", rows(60))
    source = LocalFiles(files={"train": "a.jsonl"})
    shares = [source.load(TASK, cv)["validation"]["label"][:].count("b") for cv in folds(3)]
    assert max(shares) - min(shares) <= 1


def test_folds_of_ordered_rows_are_consecutive(own_directory):
    """A task whose rows belong together gets folds of consecutive rows."""
    (own_directory / "a.txt").write_text("\n".join(f"line {i}" for i in range(20)) + "\n")
    source = LocalFiles(files={"train": "a.txt"})
    _, fold = held_out(source, CrossValidation(folds=4, fold=1), CausalLm(document_separator="newline"))
    assert fold == [f"line {i}" for i in range(5, 10)]


def test_more_folds_than_rows_are_an_error(own_directory):
    """The error has the key of the number of folds."""
    write_rows(own_directory / "a.jsonl", rows(4))
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files={"train": "a.jsonl"}).load(TASK, CrossValidation(folds=5, fold=0))
    assert [problem.key for problem in caught.value.problems] == ["cv.folds"]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["cv.folds=5"], "cv.folds"),
        (["cv.folds=1", "cv.fold=0"], "cv.folds"),
        (["cv.folds=5", "cv.fold=5"], "cv.fold"),
        (["cv.folds=5", "cv.fold=0", "cv.repeat=1"], "cv.repeat"),
        (["cv.folds=5", "cv.fold=0", "cv.repeats=0"], "cv.repeats"),
        (["cv.fold=0"], "cv.fold"),
        (["cv.repeats=2"], "cv.repeats"),
        (["cv.fold=0", "cv.folds=5", "dataset.unseen_labels=keep"], "dataset.unseen_labels"),
    ],
)
def test_check_config_refuses_folds(overrides, key, compose):
    """Numbers out of range, and folds without the fold of the run, are errors before any data is read."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose(*overrides))
    assert key in [problem.key for problem in caught.value.problems]


def test_check_config_takes_one_fold(compose):
    """A single run may validate on one fold."""
    check_config(compose("cv.folds=5", "cv.fold=4", "cv.repeats=2", "cv.repeat=1"))
