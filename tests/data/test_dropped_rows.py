"""Values that are no numbers make their rows invalid, and what was dropped is listed in the run directory."""

import json
from pathlib import Path

import pytest

from conftest import write_rows
from hydratune.data import LocalFiles, Mixture
from hydratune.tasks.multi_label_classification import MultiLabelClassification
from hydratune.tasks.regression import Regression
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

SCORES = "text,label\ngood,0.5\nbad,1\nfine,N/A\nawful,0.25\n"


def load(task, text, name="a.csv", **options):
    """The training rows of a file."""
    Path(name).write_text(text)
    source = LocalFiles(files={"train": name, "validation": name}, **options)
    assert [*source.check(), *source.check_columns(task.columns)] == []
    return source.load(task)["train"]


@pytest.mark.parametrize("value", ["N/A", "nan", "1,5", "high", "true"])
def test_csv_value_that_is_no_number_names_its_line(value):
    """One cell does not turn a column of numbers into one of texts; it is an error with its line and value."""
    cell = f'"{value}"' if "," in value else value
    with pytest.raises(ConfigError) as caught:
        load(Regression(), SCORES.replace("N/A", cell))
    problem = caught.value.problems[0]
    assert (problem.source, repr(value) in problem.text) == ("a.csv:4", True)


def test_csv_value_that_is_no_number_is_dropped():
    """The other rows of the column are numbers."""
    rows = load(Regression(), SCORES, on_bad_rows="skip")
    assert (rows["text"][:], rows["label"][:]) == (["good", "bad", "awful"], [0.5, 1.0, 0.25])


def test_jsonl_first_value_that_is_no_number():
    """The kind of column that the task reads decides, not the first row."""
    text = '{"text": "x", "label": "N/A"}\n{"text": "y", "label": 1}\n{"text": "z", "label": 0.5}\n'
    assert load(Regression(), text, "a.jsonl", on_bad_rows="skip")["label"][:] == [1.0, 0.5]


def test_csv_column_of_texts_is_one_error():
    """Where most values are texts, the column is the wrong one."""
    with pytest.raises(ConfigError) as caught:
        load(Regression(), SCORES.replace("0.5", "a").replace("0.25", "b"))
    assert {problem.key for problem in caught.value.problems} == {"dataset.columns.label"}


def test_csv_indicator_that_is_no_number():
    """The columns of several labels are numbers too."""
    text = "text,rude,kind\ngood,0,1\nbad,1,0\nfine,?,1\n"
    task = MultiLabelClassification(label_format="multi_hot")
    rows = load(task, text, columns={"labels": ["rude", "kind"]}, labels=["rude", "kind"], on_bad_rows="skip")
    assert rows["text"][:] == ["good", "bad"]


def test_csv_number_of_another_file():
    """A file of which all values are missing does not decide for the others."""
    Path("b.csv").write_text("text,label\nx,N/A\n")
    Path("a.csv").write_text(SCORES)
    source = LocalFiles(files={"train": ["a.csv", "b.csv"], "validation": "a.csv"}, on_bad_rows="skip")
    assert source.load(Regression())["train"]["label"][:] == [0.5, 1.0, 0.25]


def test_stream_value_that_is_no_number_is_dropped():
    """A stream has the same rows and types."""
    stream = load(Regression(), SCORES, on_bad_rows="skip", streaming=True)
    assert sorted(row["label"] for row in stream) == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("values", "kept"), [(["0", "1", "N/A", "0"], [0, 1, 0]), (["0", "1", "many", "0"], ["0", "1", "many", "0"])]
)
def test_csv_label_that_is_missing_among_ids(values, kept):
    """A mark of a missing value is no label; a word is one."""
    text = "text,label\n" + "".join(f"good {i},{value}\n" for i, value in enumerate(values))
    assert load(SequenceClassification(), text, on_bad_rows="skip")["label"][:] == kept


def test_csv_label_called_none():
    """A label that `dataset.labels` names is one."""
    text = "text,label\na,0\nb,1\nc,none\nd,0\n"
    rows = load(SequenceClassification(), text, labels=["0", "1", "none"], on_bad_rows="skip")
    assert [str(label) for label in rows["label"]] == ["0", "1", "none", "0"]


def listed(result):
    """What a run's directory says of the rows that were dropped."""
    lines = (result.directory / "dropped_rows.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_run_lists_its_dropped_rows(train, toy):
    """Each row that was dropped is listed with its split, place and value."""
    with Path("train.jsonl").open("a") as file:
        file.write('{"text": "", "label": "pos"}\n{oops\n')
    result = train(*toy, "dataset.on_bad_rows=skip", "trainer.args.max_steps=1")
    assert {(row["split"], row["place"]) for row in listed(result)} == {
        ("train", "train.jsonl:33"),
        ("train", "train.jsonl:34"),
    }
    assert {row["value"] for row in listed(result)} >= {"''"}


def test_run_without_dropped_rows_lists_none(train, toy):
    """No file is written."""
    result = train(*toy, "dataset.on_bad_rows=skip", "trainer.args.max_steps=1")
    assert not (result.directory / "dropped_rows.jsonl").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_run_lists_the_dropped_rows_of_a_stream(train, tiny, own_directory, workers):
    """A row that a stream drops is listed once, with its values, however often it is read, also by a worker."""
    rows = [{"text": f"good {i}", "label": i / 10} for i in range(1100)]
    write_rows(own_directory / "a.jsonl", [*rows[:5], {"text": " ", "label": 7}, *rows])
    write_rows(own_directory / "b.jsonl", rows[:4])
    result = train(
        *tiny,
        "dataset=local",
        "task=regression",
        "dataset.files.train=a.jsonl",
        "dataset.files.validation=b.jsonl",
        "dataset.streaming=true",
        "dataset.on_bad_rows=skip",
        f"trainer.args.dataloader_num_workers={workers}",
        "trainer.args.max_steps=80",
        "trainer.args.eval_strategy=no",
        "trainer.args.save_strategy=no",
        "trainer.args.load_best_model_at_end=false",
    )
    (row,) = listed(result)
    assert (row["split"], row["value"], row["row"]["label"]) == ("train", "' '", "7.0")


def test_mixture_lists_the_dropped_rows_of_its_streams():
    """Rows that are dropped while a stream is read follow those that were dropped before."""
    sources = {}
    for name in "ab":
        write_rows(Path(f"{name}.jsonl"), [{"text": f"{name} {i}", "label": "xy"[i % 2]} for i in range(9)])
        with Path(f"{name}.jsonl").open("a") as file:
            file.write(json.dumps({"text": " ", "label": {"a": "x", "b": "y"}[name]}) + "\n{oops\n")
        write_rows(Path("v.jsonl"), [{"text": "v", "label": "x"}])
        files = {"train": f"{name}.jsonl", "validation": "v.jsonl"}
        sources[name] = LocalFiles(files=files, streaming=True, on_bad_rows="skip")
    mixture = Mixture(sources=sources, labels=["x", "y"], stopping_strategy="all_exhausted")
    splits = mixture.load(SequenceClassification())
    assert mixture.dropped.list_in(Path()) == 2
    rows = [*splits["train"]]
    assert not [row for row in rows if row["text"] == " "]
    assert mixture.dropped.merge_epochs() == 4
    values = [json.loads(line)["value"] for line in Path("dropped_rows.jsonl").read_text().splitlines()]
    assert "' '" in values[2:]


def test_row_with_several_errors_counts_once():
    """The count is the same as with `on_bad_rows=skip`."""
    with pytest.raises(ConfigError) as caught:
        load(SequenceClassification(), "text,label\ngood,pos\nbad,neg\n,\n")
    (total,) = [problem for problem in caught.value.problems if problem.key == "dataset"]
    assert total.text.endswith(": 1 of 3 in train, 1 of 3 in validation")
