"""Labels: which name a value of the data means, and labels that training rows do not have."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from transformers import AutoTokenizer, EvalPrediction

from conftest import predictions, write_rows
from hydratune.data import LocalFiles, Mixture
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.labels import collect_labels, name_labels, named_labels
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.multiple_choice import MultipleChoice
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.tasks.token_classification import TokenClassification
from hydratune.utils.errors import ConfigError
from memory_rows import TASK, Rows, meanings

STARS = ["bad", "poor", "fair", "good", "great"]
REJECTED = None
# Values in the data, dataset.labels, and the label that each row ends with.
MEANINGS = {
    "texts": (["pos", "neg"], None, ["pos", "neg"]),
    "texts in the order of the user": (["pos", "neg"], ["pos", "neg"], ["pos", "neg"]),
    "ids from 0": ([0, 1, 2], ["a", "b", "c"], ["a", "b", "c"]),
    "ids from 0, one absent": ([0, 2], ["a", "b", "c"], ["a", "c"]),
    "ids from 1": ([1, 2, 3, 4, 5], STARS, REJECTED),
    "ids from 1, the last one absent": ([1, 2, 3, 4], STARS, REJECTED),
    "ids with gaps": ([0, 5, 9], ["a", "b", "c"], REJECTED),
    "negative ids": ([-1, 1], ["neg", "pos"], REJECTED),
    "three from -1": ([-1, 0, 1], ["neg", "none", "pos"], REJECTED),
    "ids that are mapped": ([1, 2, 5], {1: "bad", 2: "poor", 5: "great"}, ["bad", "poor", "great"]),
    "negative ids that are mapped": ([-1, 1], {-1: "neg", 1: "pos"}, ["neg", "pos"]),
    "two values of one name": ([1, 2, 5], {1: "bad", 2: "bad", 5: "great"}, ["bad", "bad", "great"]),
    "ids without names": ([1, 2, 5], None, ["1", "2", "5"]),
    "negative ids without names": ([-1, 10, 9], None, ["-1", "10", "9"]),
    "numbers that are names": ([1, 2, 3], ["1", "2", "3"], ["1", "2", "3"]),
    "numbers that are names, as yaml reads them": ([1, 2, 3], [3, 2, 1], ["1", "2", "3"]),
    "negative numbers that are names": ([-1, 1], ["-1", "1"], ["-1", "1"]),
    "texts that are numbers": (["1", "2"], ["2", "1"], ["1", "2"]),
    "truth values": ([True, False], None, ["True", "False"]),
    "truth values that are names": ([True, False], [True, False], ["true", "false"]),
    "truth values that are names, turned": ([True, False], [False, True], ["true", "false"]),
    "truth values by quoted names": ([True, False], ["true", "false"], ["true", "false"]),
    "truth values with names of their own": ([True, False], ["no", "yes"], ["yes", "no"]),
    "truth values with names that are turned": ([True, False], ["yes", "no"], REJECTED),
    "whole numbers as floats": ([5.0, 1.0], None, ["5", "1"]),
    "whole numbers as floats that are mapped": ([5.0, 1.0], {1: "bad", 5: "great"}, ["great", "bad"]),
    "whole numbers as floats, ids from 1": ([1.0, 2.0], ["bad", "great"], REJECTED),
    "truth values by numbers": ([True, False], ["1", "0"], ["1", "0"]),
    "texts of truth values": (["True", "false", "x"], [True, False, "x"], ["true", "false", "x"]),
    "ids for true and false": ([1, 0], [False, True], ["true", "false"]),
    "ids for true and false, turned": ([1, 0], [True, False], REJECTED),
}


@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
@pytest.mark.parametrize("case", MEANINGS)
def test_labels_mean_the_same_whatever_is_dropped(case, on_bad_rows):
    """A value that is a name is that label; other numbers are ids from 0; anything else is an error."""
    values, names, expected = MEANINGS[case]
    rows = [{"text": f"t{i}", "label": value} for i, value in enumerate(values)]
    if on_bad_rows == "skip":
        rows = [{"text": "", "label": values[0]}, *rows]
    source = Rows(rows=rows, labels=names, on_bad_rows=on_bad_rows)
    assert [*source.check()] == []
    if expected is REJECTED:
        with pytest.raises(ConfigError) as error:
            source.load(TASK)
        assert [problem.key for problem in error.value.problems] == ["dataset.labels"]
    else:
        assert meanings(source) == {f"t{i}": name for i, name in enumerate(expected)}


def test_dropping_a_row_does_not_renumber_the_others():
    """The only row of the first label is dropped, and the others are called as before."""
    rows = [{"text": text, "label": label} for text, label in (("", 0), ("x", 1), ("y", 2))]
    source = Rows(rows=rows, labels=["a", "b", "c"], on_bad_rows="skip")
    assert meanings(source) == {"x": "b", "y": "c"}


def test_a_mapping_that_lacks_a_value():
    """The rows of the value are bad rows under its own name."""
    rows = [{"text": "x", "label": label} for label in (1, 2, 3)]
    with pytest.raises(ConfigError) as error:
        Rows(rows=rows, labels={1: "a", 2: "b"}).load(TASK)
    assert "'3'" in error.value.problems[0].text


@pytest.mark.parametrize("labels", [["a", "a"], [["a"]], [0.5, 1.5], [], ["True", "true"], {1: None}])
def test_lists_of_labels_that_are_refused(labels):
    """Names are different texts."""
    assert [
        one.key for one in LocalFiles(files={"train": "a.csv"}, labels=labels).check() if "file" not in one.key
    ] == ["labels"]


CLASSES = ["neg", "neutral", "pos"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ["neg", "pos"]),
        (["pos", "neutral", "neg"], ["neg", "pos"]),
        (["pos", "neg"], ["neg", "pos"]),
        (["minus", "zero", "plus"], ["minus", "plus"]),
        ({"neg": "bad", "pos": "good"}, ["bad", "good"]),
        (["a", "b"], REJECTED),
        (["pos", "zero", "neg"], REJECTED),
    ],
)
def test_names_for_a_class_label(names, expected):
    """Its own names keep their ids in any order of `dataset.labels`; other names need one for each id."""
    features = Features(text=Value("string"), label=ClassLabel(names=CLASSES))
    rows = DatasetDict(train=Dataset.from_dict({"text": ["x", "y"], "label": [0, 2]}, features=features))
    if expected is REJECTED:
        with pytest.raises(ConfigError):
            name_labels(rows, names)
        return
    rows, resolved = name_labels(rows, names)
    labels = collect_labels(rows, resolved)
    assert [labels.name(value) for value in rows["train"]["label"]] == expected


@pytest.mark.parametrize("inside", [Value("int64"), ClassLabel(names=["O", "B-x", "I-x"])])
def test_labels_of_words(inside):
    """Lists of ids mean what single ids mean."""
    rows = Dataset.from_dict({"labels": [[0, 1, 2], [0]]}, features=Features(labels=List(inside)))
    names = None if isinstance(inside, ClassLabel) else ["O", "B-x", "I-x"]
    labels = collect_labels(DatasetDict(train=rows), name_labels(DatasetDict(train=rows), names, "labels")[1], "labels")
    assert [[labels.name(value) for value in row] for row in rows["labels"]] == [["O", "B-x", "I-x"], ["O"]]


@pytest.mark.parametrize("task", [TokenClassification(), MultiLabelClassification()])
def test_lists_of_ids_from_1(task):
    """They are refused with names, before any row is dropped."""
    rows = Dataset.from_dict({"text": ["x"] * 2, "tokens": [["x", "y"]] * 2, "labels": [[1, 2], [2, 3]]})
    with pytest.raises(ConfigError) as error:
        task.name_labels(DatasetDict(train=rows), ["a", "b", "c"])
    assert [problem.key for problem in error.value.problems] == ["dataset.labels"]


@pytest.mark.parametrize(
    ("values", "names", "trained", "expected"),
    [
        ([1, 2], ["bad", "poor"], ["bad", "poor"], REJECTED),
        ([1, 2], {"1": "bad", "2": "poor"}, ["bad", "poor"], ["bad", "poor"]),
        ([True, False], None, ["false", "true"], ["true", "false"]),
        ([1, 2], None, ["2", "1"], ["1", "2"]),
        ([0, 1], ["pos", "neg"], ["neg", "pos"], ["pos", "neg"]),
    ],
)
def test_labels_of_data_that_a_finished_run_is_scored_on(values, names, trained, expected):
    """They mean the same as in training."""
    rows = Dataset.from_dict({"text": ["x", "y"], "label": values})
    if expected is REJECTED:
        with pytest.raises(ConfigError):
            named_labels(rows, names, trained)
    else:
        assert named_labels(rows, names, trained)["label"] == expected


# --- choices ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([0, 1, 2], None, [0, 1, 2]),
        ([1, 2, 3], None, REJECTED),
        ([1, 2, 3], ["1", "2", "3"], [0, 1, 2]),
        (["A", "C", "B"], ["A", "B", "C"], [0, 2, 1]),
        (["x", "z", "y"], None, [0, 2, 1]),
        (["0", "2", "1"], None, [0, 2, 1]),
    ],
)
def test_numbers_of_choices(labels, names, expected, tiny_model):
    """Numbers count from 0, and `dataset.labels` names the choices of data that does not."""
    task = MultipleChoice()
    rows = [{"text": "t", "choices": ["x", "y", "z"], "label": label} for label in labels]
    splits = DatasetDict(train=Dataset.from_list(rows))
    if expected is REJECTED:
        with pytest.raises(ConfigError) as error:
            task.name_labels(splits, names)
        assert [problem.key for problem in error.value.problems] == ["dataset.labels"]
        return
    splits, resolved = task.name_labels(splits, names)
    assert [*task.bad_rows(splits, resolved)] == []
    data = task.prepare(splits, AutoTokenizer.from_pretrained(tiny_model), 16, resolved)
    assert data.splits["train"]["labels"] == expected


def named_choices(labels, choice_labels, choices=("x", "y", "z")):
    """Rows with the names of their choices."""
    pairs = zip(labels, choice_labels, strict=True)
    rows = [{"text": "t", "choices": [*choices], "choice_labels": names, "label": label} for label, names in pairs]
    return DatasetDict(train=Dataset.from_list(rows))


def test_choice_labels_name_the_choices_of_each_row(tiny_model):
    """In ARC, some rows have letters and others have digits from 1; a name in another order keeps its choice."""
    splits = named_choices(["B", "2", "A"], [["A", "B", "C"], ["1", "2", "3"], ["B", "C", "A"]])
    task = MultipleChoice()
    splits, resolved = task.name_labels(splits, None)
    assert [*task.bad_rows(splits, resolved)] == []
    data = task.prepare(splits, AutoTokenizer.from_pretrained(tiny_model), 16, resolved)
    assert data.splits["train"]["labels"] == [1, 1, 2]


def test_choice_labels_without_the_label_make_a_bad_row():
    """A label that no choice has or that two choices have, other counts of names, and a missing label."""
    names = [["A", "B", "C"], ["A", "B", "C"], ["A", "A", "B"], ["A", "B"], ["A", "B", "C"]]
    task = MultipleChoice()
    splits, resolved = task.name_labels(named_choices(["A", "0", "A", "A", ""], names), None)
    assert [(bad.row, bad.column) for bad in task.bad_rows(splits, resolved)] == [
        (4, "label"),
        *((row, "label") for row in (1, 2, 3)),
    ]


@pytest.mark.parametrize("label", ["B", "b)"])
def test_names_of_choices_have_to_be_given(label):
    """Letters of answers are neither numbers nor texts; the error is one of the labels, not of each row."""
    rows = [{"text": "t", "choices": ["x", "y", "z"], "label": label} for _ in range(3)]
    with pytest.raises(ConfigError) as error:
        MultipleChoice().name_labels(DatasetDict(train=Dataset.from_list(rows)), None)
    assert [problem.key for problem in error.value.problems] == ["dataset.labels"]


def test_choice_labels_beside_names_are_an_error():
    """Names in the config and in the data may contradict each other."""
    with pytest.raises(ConfigError) as error:
        MultipleChoice().name_labels(named_choices(["A"], [["A", "B", "C"]]), ["C", "B", "A"])
    assert [problem.key for problem in error.value.problems] == ["dataset.labels"]


def test_choices_of_another_type_are_one_error():
    """Objects with a label and a text are not texts, with names of choices too."""
    rows = [{"text": "t", "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}], "label": "A"}] * 2
    task = MultipleChoice()
    splits, resolved = task.name_labels(DatasetDict(train=Dataset.from_list(rows)), ["A", "B"])
    with pytest.raises(ConfigError) as error:
        next(task.bad_rows(splits, resolved))
    assert [problem.key for problem in error.value.problems] == ["dataset.columns.choices"]


def test_choices_that_are_numbers_of_others():
    """A label that is the text of one choice and the number of another is refused."""
    rows = [{"text": "t", "choices": ["1", "2", "0"], "label": label} for label in ("0", "1")]
    with pytest.raises(ConfigError):
        MultipleChoice().name_labels(DatasetDict(train=Dataset.from_list(rows)), None)


# --- labels that training rows do not have ---------------------------------------------------------------


def unseen_files():
    """Two classes in training, and a third in half of the test rows."""
    rows = [{"text": f"the film was {word}", "label": word} for word in ("good", "bad")] * 4
    write_rows(Path("train.jsonl"), rows)
    write_rows(Path("test.jsonl"), [*rows[:4], *({"text": "the book", "label": "other"} for _ in range(4))])
    return {"train": "train.jsonl", "validation": "train.jsonl", "test": "test.jsonl"}


@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
def test_unseen_labels_are_refused_by_default(on_bad_rows):
    """The error names the option, also where invalid rows are dropped."""
    with pytest.raises(ConfigError) as error:
        LocalFiles(files=unseen_files(), on_bad_rows=on_bad_rows).load(TASK)
    assert error.value.problems[-1].key == "dataset.unseen_labels"


@pytest.mark.parametrize(("policy", "rows"), [("keep", 8), ("drop", 4)])
def test_unseen_labels_stay_or_go(policy, rows, caplog):
    """The run says how many rows have them."""
    splits = LocalFiles(files=unseen_files(), unseen_labels=policy).load(TASK)
    assert len(splits["test"]) == rows
    assert any("4 of 8 " in message for message in caplog.messages)


def test_unseen_labels_of_training_rows_are_invalid():
    """With names, a training row of another label is a bad row, whatever becomes of test."""
    with pytest.raises(ConfigError) as error:
        LocalFiles(files=unseen_files(), labels=["good", "other"], unseen_labels="keep").load(TASK)
    assert error.value.problems[-1].key == "dataset"


def test_a_run_counts_unseen_labels_as_errors(train, tiny):
    """No test row leaves the denominator, macro F1 has a class of 0, and predictions name the true label."""
    files = [f"dataset.files.{split}={name}" for split, name in unseen_files().items()]
    metrics = "task.metrics=[accuracy,f1,macro_f1,matthews_correlation]"
    result = train("dataset=local", *files, *tiny, "dataset.unseen_labels=keep", metrics)
    rows = predictions(result)
    assert Counter(row["label"] for row in rows) == {"good": 2, "bad": 2, "other": 4}
    assert {row["prediction"] for row in rows} <= {"good", "bad"}
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert result.metrics["test_accuracy"] == right / 8
    f1 = {}
    for name in ("good", "bad", "other"):
        true, said = (sum(row[key] == name for row in rows) for key in ("label", "prediction"))
        f1[name] = 2 * sum(row["label"] == row["prediction"] == name for row in rows) / max(true + said, 1)
    assert result.metrics["test_macro_f1"] == pytest.approx(sum(f1.values()) / 3)
    assert result.metrics["test_f1"] == pytest.approx(f1["good"])  # of the second of two labels
    task = SequenceClassification(metrics=["accuracy", "macro_f1"])
    assert task.metrics_from_predictions(rows, ["bad", "good"])["macro_f1"] == pytest.approx(
        result.metrics["test_macro_f1"]
    )
    assert task.tables(rows, {"id2label": {0: "bad", 1: "good"}})["confusion_matrix"].to_numpy().sum() == 8


def test_a_test_split_of_unseen_labels_alone(train, tiny):
    """Everything is an error, and there is no loss, which would be no number."""
    files = unseen_files()
    write_rows(Path("test.jsonl"), [{"text": "the book", "label": "other"}] * 3)
    overrides = [f"dataset.files.{split}={name}" for split, name in files.items()]
    result = train("dataset=local", *overrides, *tiny, "dataset.unseen_labels=keep")
    assert result.metrics["test_accuracy"] == 0
    assert "test_loss" not in result.metrics


def test_unseen_entities_are_missed(tiny_model):
    """Entities of a type that train lacks count in recall, and keep their names."""
    task = TokenClassification(metrics=["f1", "recall", "accuracy"])
    train = Dataset.from_list([{"tokens": ["film", "good"], "labels": ["B-x", "O"]}] * 2)
    test = Dataset.from_list([{"tokens": ["film", "bad", "the"], "labels": ["B-x", "B-new", "I-new"]}])
    splits, names = task.name_labels(DatasetDict(train=train, test=test), None)
    assert [bad.unseen_label for bad in task.bad_rows(splits, names)] == [True]
    data = task.prepare(splits, AutoTokenizer.from_pretrained(tiny_model), 16, names)
    assert data.head["num_labels"] == 2
    rows = data.splits["test"]
    ids = {name: i for i, name in data.head["id2label"].items()}
    places = [len(row) for row in rows["input_ids"]]
    answer = [[ids["O"], ids["B-x"], ids["O"], ids["O"], ids["O"]][: places[0]]]
    outputs = {"predictions": np.array(answer), "confidences": np.ones((1, len(answer[0])))}
    prediction, evaluated = EvalPrediction(outputs, None), EvalSplit(rows, data.head)
    scores = task.compute_metrics(prediction, evaluated)
    assert (scores["recall"], scores["recall_new"]) == (0.5, 0.0)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert next(iter(task.predictions_with_labels(prediction, evaluated)))["labels"] == ["B-x", "B-new", "I-new"]


def test_unseen_labels_of_a_set(tiny_model):
    """A label that train lacks is a miss of micro and macro F1, and the row is not exactly right."""
    task = MultiLabelClassification(metrics=["micro_f1", "macro_f1", "subset_accuracy"])
    train = Dataset.from_list([{"text": "good", "labels": ["a", "b"]}] * 2)
    test = Dataset.from_list([{"text": "bad", "labels": ["a", "new"]}, {"text": "good", "labels": ["b"]}])
    splits, names = task.name_labels(DatasetDict(train=train, test=test), None)
    assert [bad.unseen_label for bad in task.bad_rows(splits, names)] == [True]
    data = task.prepare(splits, AutoTokenizer.from_pretrained(tiny_model), 16, names)
    rows = data.splits["test"]
    assert rows["labels"] == [[0], [1]]
    outputs = task.reduce_logits(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), None)
    prediction = EvalPrediction(
        {name: values.numpy() for name, values in outputs.items()}, np.array([[1.0, 0.0], [0.0, 1.0]])
    )
    evaluated = EvalSplit(rows, data.head)
    expected = {"micro_f1": pytest.approx(4 / 5), "macro_f1": pytest.approx(2 / 3), "subset_accuracy": 0.5}
    assert task.compute_metrics(prediction, evaluated) == expected
    decoded = list(task.predictions_with_labels(prediction, evaluated))
    assert decoded[0]["labels"] == ["a", "new"]
    assert task.metrics_from_predictions(decoded, ["a", "b"]) == expected
    assert task.tables(decoded, data.head)["per_label"].loc["new", "support"] == 1


def test_mapping_of_numbers_without_their_zeros():
    """A column of 01 and 02 has texts, so the mapping needs these."""
    Path("a.csv").write_text("text,label\nx,01\ny,02\n")
    files = dict.fromkeys(("train", "validation"), "a.csv")
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files=files, labels={1: "a", 2: "b"}).load(TASK)
    assert (caught.value.problems[0].key, "{01:a," in caught.value.problems[0].hint) == ("dataset.labels", True)
    assert LocalFiles(files=files, labels={"01": "a", "02": "b"}).load(TASK)["train"]["label"][:] == ["a", "b"]


# --- mixtures --------------------------------------------------------------------------------------------


def test_a_mixture_draws_from_the_whole_of_each_source():
    """A larger source that is sorted by label contributes all of its labels, not its first rows."""
    write_rows(Path("small.jsonl"), [{"text": f"s{i}", "label": "abc"[i % 3]} for i in range(30)])
    write_rows(Path("large.jsonl"), [{"text": f"l{i}", "label": "abc"[i // 100]} for i in range(300)])
    sources = {
        name: LocalFiles(files=dict.fromkeys(("train", "validation"), f"{name}.jsonl")) for name in ("small", "large")
    }
    train = Mixture(sources=sources).load(TASK)["train"]
    large = [row for row in train if row["text"].startswith("l")]
    counts = Counter(row["label"] for row in large)
    assert len(large) < 100
    assert min(counts[label] for label in "abc") >= len(large) / 6


def test_a_mixture_keeps_the_order_that_a_task_needs():
    """Rows that follow each other stay in their order."""
    from hydratune.tasks.causal_lm import CausalLm

    for name in "xy":
        write_rows(Path(f"{name}.jsonl"), [{"text": f"{name}{i:02}"} for i in range(20)])
    sources = {name: LocalFiles(files=dict.fromkeys(("train", "validation"), f"{name}.jsonl")) for name in "xy"}
    texts = Mixture(sources=sources).load(CausalLm(document_separator="newline"))["train"]["text"]
    for name in "xy":
        own = [text for text in texts if text.startswith(name)]
        assert own == sorted(own)


def test_a_mixture_knows_the_labels_of_all_sources():
    """Numbers are sorted by value."""
    for name, labels in (("x", (2, 10)), ("y", (10, -1))):
        write_rows(Path(f"{name}.jsonl"), [{"text": f"{name}{i}", "label": labels[i % 2]} for i in range(20)])
    sources = {name: LocalFiles(files=dict.fromkeys(("train", "validation"), f"{name}.jsonl")) for name in "xy"}
    one = Mixture(sources=sources)
    one.load(TASK)
    assert one.label_names == ["-1", "2", "10"]


def test_a_mixture_has_the_labels_of_all_training_rows():
    """A label that another source trains on is not unseen; one that no source trains on is."""
    files = {}
    for name, labels in (("x", "ab"), ("y", "bc")):
        write_rows(Path(f"{name}.jsonl"), [{"text": f"{name}{i}", "label": labels[i % 2]} for i in range(20)])
        files[name] = {"train": f"{name}.jsonl", "validation": f"{name}_validation.jsonl"}
        rows = [{"text": f"v{i}", "label": label} for i, label in enumerate("abc")]
        write_rows(Path(f"{name}_validation.jsonl"), rows)
    splits = Mixture(sources={name: LocalFiles(files=one) for name, one in files.items()}).load(TASK)
    assert splits["validation"]["label"][:] == [*"abcabc"]
    write_rows(Path("y_validation.jsonl"), [{"text": "v", "label": "d"}])
    with pytest.raises(ConfigError) as caught:
        Mixture(sources={name: LocalFiles(files=one) for name, one in files.items()}).load(TASK)
    assert "dataset.sources.y.unseen_labels" in {problem.key for problem in caught.value.problems}


# --- files in formats that people use --------------------------------------------------------------------

CASES = Path(__file__).parents[3] / "shared" / "cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the repository")
@pytest.mark.parametrize(
    ("name", "column", "labels"),
    [
        ("stars_1_to_5.csv", "stars", {1: "bad", 2: "poor", 3: "fair", 4: "good", 5: "great"}),
        ("stars_1_to_5.csv", "stars", [1, 2, 3, 4, 5]),
        ("booleans.csv", "label", [True, False]),
        ("booleans.csv", "label", [False, True]),
    ],
)
def test_cases(name, column, labels):
    """Each row has the label that its file says."""
    import csv

    with (CASES / name).open() as file:
        rows = list(csv.DictReader(file))
    text = next(iter(rows[0]))
    path = str(CASES / name)
    source = LocalFiles(
        files={"train": path, "validation": path}, columns={"text": text, "label": column}, labels=labels
    )
    mapped = {str(value): name for value, name in labels.items()} if isinstance(labels, dict) else {}
    splits = source.load(TASK)
    known = collect_labels(splits, source.label_names)
    found = [known.names[i] for i in known.encode(splits["train"]["label"])]
    assert found == [mapped.get(row[column], row[column]) for row in rows]


def test_two_names_of_a_mapping_and_of_a_list_agree():
    """A mapping in the order of ids is the same as the list."""
    rows = [{"text": f"t{i}", "label": i % 2} for i in range(4)]
    both = [meanings(Rows(rows=rows, labels=labels)) for labels in (["a", "b"], {0: "a", 1: "b"})]
    assert all(one == other for one, other in itertools.pairwise(both))
