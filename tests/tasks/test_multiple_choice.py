"""Multiple choice: which rows can be used, what is cut, what is said."""

import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from transformers import AutoTokenizer

from conftest import write_rows
from hydratune.tasks.multiple_choice import MultipleChoice


def rows(choices, label, text="the film", **more):
    """A training split."""
    count = len(label)
    return DatasetDict(train=Dataset.from_dict({"text": [text] * count, "choices": choices, "label": label, **more}))


@pytest.mark.parametrize("right", [["good", "good"], [0, 1]])
def test_learns_from_columns_of_choices(own_directory, tiny_model, train, right):
    """Several columns are the choices; the label is the right one's text or number; predictions are texts."""
    said = [
        {"text": "the film", "one": "good", "other": "bad", "label": right[0]},
        {"text": "the film", "one": "bad", "other": "good", "label": right[1]},
    ]
    write_rows(own_directory / "a.jsonl", said * 8)
    result = train(
        "dataset=local",
        "task=multiple_choice",
        "dataset.columns.choices=[one,other]",
        *(f"dataset.files.{split}=a.jsonl" for split in ("train", "validation", "test")),
        "model=pretrained",
        f"model.pretrained_model_name_or_path={tiny_model}",
        "hardware=cpu",
        "trainer.args.learning_rate=0.02",
        "trainer.args.num_train_epochs=4",
        "trainer.args.per_device_train_batch_size=4",
    )
    assert result.metrics["test_accuracy"] == 1.0
    lines = (result.directory / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:2]]
    for row in rows:
        probabilities = row.pop("probabilities")
        assert sum(probabilities) == pytest.approx(1)
        assert probabilities.index(max(probabilities)) == row["index"]
    right = {"text": "the film", "label": "good", "prediction": "good"}
    assert rows == [
        {"row": 0, "choices": ["good", "bad"], "label_index": 0, "index": 0, **right},
        {"row": 1, "choices": ["bad", "good"], "label_index": 1, "index": 1, **right},
    ]


def test_held_out_rows_keep_their_choices(own_directory, tiny_model, train):
    """Where rows are drawn from train, what is said of each is about its own choices."""
    said = [{"text": "a", "choices": [f"{i} good", f"{i} bad"], "label": 0} for i in range(20)]
    write_rows(own_directory / "a.jsonl", said)
    model = ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}", "hardware=cpu"]
    files = ["dataset=local", "dataset.files.train=a.jsonl", "dataset.test_size=0.3"]
    result = train(*files, "task=multiple_choice", *model, "trainer.args.max_steps=2")
    lines = [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]
    assert len({line["label"] for line in lines}) == 6
    assert all(line["prediction"].split()[0] == line["label"].split()[0] for line in lines)


@pytest.mark.parametrize(
    ("choices", "label", "row", "column"),
    [
        ([["a", "b"], ["a", "b"]], [0, 2], 1, "label"),
        ([["a", "b"], ["a", "b"]], [0, -1], 1, "label"),
        ([["a", "b"], ["a", "b"]], ["a", "c"], 1, "label"),
        ([["a", "b"], ["a", "b"]], [0, None], 1, "label"),
        ([["a", "b"], ["a", "b"], ["a", "b", "c"]], [0, 1, 2], 2, "choices"),
        ([["a"], ["a", "b"], ["b", "a"]], [0, 1, 0], 0, "choices"),
        ([["a", "b"], []], [0, 1], 1, "choices"),
        ([["a", "b"], ["a", None]], [0, 1], 1, "choices"),
        ([["a", "b"], ["a", " "]], [0, 1], 1, "choices"),
    ],
)
def test_bad_rows(choices, label, row, column):
    """A label that is none of the choices, an empty choice, another number of choices than most: the row is bad."""
    (bad,) = MultipleChoice().bad_rows(rows(choices, label), None)
    assert (bad.row, bad.column) == (row, column)


def test_class_label_numbers_the_choices():
    """A ClassLabel, as the hub's SWAG has it, is the number of the choice."""
    features = Features(text=Value("string"), choices=List(Value("string")), label=ClassLabel(names=["0", "1"]))
    data = Dataset.from_dict({"text": ["x"], "choices": [["a", "b"]], "label": [1]}, features=features)
    assert list(MultipleChoice().bad_rows(DatasetDict(train=data), None)) == []


def prepared(tiny_model, data, max_length):
    """What the network reads of each choice of the first row, as text, and what is said to the user."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    found = MultipleChoice().prepare(data, tokenizer, max_length, None)
    return [tokenizer.decode(ids) for ids in found.splits["train"][0]["input_ids"]], found.notes


def test_the_longer_one_is_cut(tiny_model):
    """Where a text and a choice are too long together the longer one is cut, and counted once a row."""
    data = rows([["very good", "bad"]], [0], text="the film was not the book")
    assert prepared(tiny_model, data, 7) == (
        ["[CLS] the film [SEP] very good [SEP]", "[CLS] the film was [SEP] bad [SEP]"],
        ["1 texts were truncated to 7 tokens: 1 of train"],
    )


def test_a_choice_that_is_longer_than_the_network(tiny_model):
    """A choice that is too long on its own is cut too, and does not end the run."""
    data = rows([["very very very very very good", "bad"]], [0], text="the film")
    (long, short), said = prepared(tiny_model, data, 7)
    assert (long, short) == ("[CLS] the film [SEP] very very [SEP]", "[CLS] the film [SEP] bad [SEP]")
    assert said == ["1 texts were truncated to 7 tokens: 1 of train"]


def test_start_opens_each_choice(tiny_model):
    """SWAG's second sentence is read before each ending."""
    data = rows([["good", "bad"]], [1], start=["it was"])
    assert [text.partition("[SEP] ")[2] for text in prepared(tiny_model, data, None)[0]] == [
        "[UNK] was good [SEP]",
        "[UNK] was bad [SEP]",
    ]
