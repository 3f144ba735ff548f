"""A column that names the split of each row: `dataset.split_column`, or an error where the key is missing."""

import json
from pathlib import Path

import pytest

from any_columns import AnyColumns
from hydratune.data import LocalFiles
from hydratune.data.raw import RawDataset
from hydratune.data.source import Source
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

TASK = SequenceClassification()
# Split -> texts; "good 3" stands on line 4 of a file of lines.
ROWS = [("good 0", "train"), ("bad 1", "train"), ("good 2", "dev"), ("bad 3", "test"), ("bad 4", "train")]


def write(name, rows=ROWS, column="partition"):
    """A file of rows, each with the name of its split."""
    values = [{"text": text, "label": text.split()[0], column: split} for text, split in rows]
    if name.endswith(".csv"):
        lines = [f"text,label,{column}", *(",".join(row.values()) for row in values)]
    else:
        lines = [json.dumps(row) for row in values]
    if name.endswith(".parquet"):
        from datasets import Dataset

        Dataset.from_list(values).to_parquet(name)
    else:
        Path(name).write_text("\n".join(lines) + "\n")
    return name


def texts(name, **options):
    """Split -> its texts."""
    source = LocalFiles(files={"train": name}, **options)
    assert [*source.check(), *source.check_columns(TASK.columns)] == []
    return {split: [row["text"] for row in rows] for split, rows in source.load(TASK).items()}


def wrong(name, **options):
    """The error of a file."""
    source = LocalFiles(files={"train": name}, **options)
    assert [*source.check()] == []
    with pytest.raises(ConfigError) as caught:
        source.load(TASK)
    return caught.value.problems[0]


SPLIT = {"train": ["good 0", "bad 1", "bad 4"], "validation": ["good 2"], "test": ["bad 3"]}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_split_column_splits_the_rows(name):
    """Each row is in the split that the column names."""
    assert texts(write(name), split_column="partition") == SPLIT


def test_split_column_of_a_stream():
    """Train is read while it is used, and has the same rows."""
    splits = texts(write("a.jsonl"), split_column="partition", streaming=True, labels=["bad", "good"])
    assert {split: sorted(rows) for split, rows in splits.items()} == {s: sorted(rows) for s, rows in SPLIT.items()}


def test_split_column_inside_objects():
    """A dotted path leads to it."""
    rows = [{"text": text, "label": text.split()[0], "meta": {"split": split}} for text, split in ROWS]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert texts("a.jsonl", split_column="meta.split") == SPLIT


def test_split_column_by_position():
    """A file without a header has columns by position."""
    Path("a.csv").write_text("".join(f"{split.upper()},{text},{text.split()[0]}\n" for text, split in ROWS))
    options = {"header": False, "columns": {"text": 1, "label": 2}}
    assert texts("a.csv", split_column=0, **options) == SPLIT


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_split_column_that_is_not_set_is_an_error(name):
    """Test rows are never trained on by accident."""
    problem = wrong(write(name))
    assert problem.key == "dataset.split_column"
    assert "dataset.split_column=partition" in problem.hints[0]


def test_split_column_over_files_is_an_error():
    """Files that are read together may each name their own split."""
    files = [write("a.csv", ROWS[:2]), write("b.csv", ROWS[3:4])]
    assert wrong(files).key == "dataset.split_column"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@pytest.mark.parametrize("other", ["UNASSIGNED", ""])
def test_split_column_with_rows_of_no_split_is_an_error(name, other):
    """A few words say that a row is in no split."""
    assert wrong(write(name, [("good 5", other), *ROWS])).key == "dataset.split_column"


def test_split_column_inside_objects_is_an_error():
    """The metadata of a row is looked at, too."""
    rows = [{"text": text, "label": text.split()[0], "meta": {"split": split}} for text, split in ROWS]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "dataset.split_column=meta.split" in wrong("a.jsonl").hints[0]


def test_split_column_can_be_switched_off():
    """All rows are training rows where the config says so."""
    splits = texts(write("a.csv"), split_column=False)
    assert sum(map(len, splits.values())) == len(ROWS)
    assert "test" not in splits


@pytest.mark.parametrize("values", [["train"], ["train", "test", "other"], ["dev", "test"], ["train", ""]])
def test_split_column_of_other_values_is_none(values):
    """One split alone, other words, and missing values are columns as any other."""
    rows = [(f"{label} {i}", values[i % len(values)]) for i, label in enumerate(["good", "bad"] * 6)]
    assert set(texts(write("a.csv", rows))) == {"train", "validation"}


def test_split_column_that_the_task_reads_is_none():
    """A label may be called train or test."""
    assert set(texts(write("a.csv"), columns={"label": "partition"}, unseen_labels="keep")) == {"train", "validation"}


def test_split_values_name_the_splits():
    """Rows with other values are left out."""
    rows = [*ROWS, ("good 5", "oos"), ("good 6", "extra")]
    values = {"train": "train", "validation": "dev", "test": ["test", "oos"]}
    splits = texts(write("a.csv", rows), split_column="partition", split_values=values)
    assert splits == SPLIT | {"test": ["bad 3", "good 5"]}


def test_split_value_that_names_no_split_is_an_error():
    """The message names its first line, and nothing is dropped."""
    problem = wrong(write("a.csv", [*ROWS, ("good 5", "oos")]), split_column="partition", on_bad_rows="skip")
    assert problem.key == "dataset.split_values"
    assert (problem.source, "'oos'" in problem.text, "1 row" in problem.text) == ("a.csv:7", True, True)


def test_split_value_that_no_row_has_is_an_error():
    """A typing error does not empty a split."""
    problem = wrong(write("a.csv"), split_column="partition", split_values={"train": "train", "test": "tset"})
    assert (problem.key, "'tset'" in problem.text) == ("dataset.split_values.test", True)
    assert "'test'" in problem.hint


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"split_values": {"train": "a"}}, "split_values"),
        ({"split_column": "partition", "split_values": {"test": "a"}}, "split_values.train"),
        ({"split_column": "partition", "split_values": {"train": "a", "dev": "b"}}, "split_values.dev"),
        ({"split_column": "partition", "split_values": {"train": "a", "test": "a"}}, "split_values"),
        ({"split_column": "partition", "files": {"train": "a.csv", "test": "a.csv"}}, "split_column"),
    ],
)
def test_split_options_that_cannot_be(options, key):
    """Errors that can be reported before the file is read."""
    write("a.csv")
    assert [one.key for one in LocalFiles(**{"files": {"train": "a.csv"}} | options).check()] == [key]


def test_split_column_keeps_the_lines_of_rows():
    """A message names the line of the file."""
    rows = [*ROWS[:4], (" ", "test")]
    Path("a.csv").write_text(
        "text,label,partition\n" + "".join(f"{text},x{i % 2},{s}\n" for i, (text, s) in enumerate(rows))
    )
    problem = wrong("a.csv", split_column="partition")
    assert (problem.source, "' '" in problem.text) == ("a.csv:6", True)


class Built(Source):
    """Rows that are not from files."""

    def read(self):
        """Those of the test."""
        from datasets import Dataset, DatasetDict

        rows = [{"text": text, "label": text.split()[0], "partition": split} for text, split in ROWS]
        return RawDataset(DatasetDict(train=Dataset.from_list(rows)))


def test_split_column_of_other_data():
    """Data of the Hub and of `save_to_disk` have such columns, too."""
    with pytest.raises(ConfigError) as caught:
        Built().load(TASK)
    assert caught.value.problems[0].key == "dataset.split_column"
    assert Built(split_column="partition").load(TASK)["test"]["text"][:] == SPLIT["test"]


def test_split_column_selects_the_rows_that_are_scored():
    """`evaluate` reads the test rows of a file that has some, and all rows of others."""
    task = AnyColumns("text")
    split, raw = LocalFiles(files={"train": write("a.csv")}, split_column="partition").read_one(task.columns)
    assert (split, raw.splits[split]["text"][:], raw.number(split, 0)) == ("test", ["bad 3"], 3)
    Path("b.csv").write_text("text\nx\ny\n")
    assert (
        len(LocalFiles(files={"train": "b.csv"}, split_column="partition").read_one(task.columns)[1].splits["train"])
        == 2
    )


@pytest.mark.parametrize("names", [("train.csv", "test.csv"), ("train-00000-of-00001.csv", "dev-00000-of-00001.csv")])
def test_folder_of_several_splits_is_an_error(names):
    """Test files do not become training rows since they are in the same folder."""
    Path("data").mkdir()
    for name in names:
        write(f"data/{name}", column="n")
    for given in ("data", "glob:data/*.csv"):
        (problem,) = LocalFiles(files={"train": given}).check()
        assert problem.key == "files.train"
        (keys, _) = problem.under("dataset").hints
        assert all(f"=data/{name}" in keys for name in names)
        assert "dataset.files.train=data/train" in keys
    assert [*LocalFiles(files={"train": [f"data/{name}" for name in names]}).check()] == []


def test_pattern_over_folders_of_splits_is_an_error():
    """The names of folders count, too."""
    for split in ("train", "valid"):
        Path("data", split).mkdir(parents=True)
        write(f"data/{split}/part1.csv", column="n")
    assert [one.key for one in LocalFiles(files={"train": "glob:data/**/*.csv"}).check()] == ["files.train"]
    assert [*LocalFiles(files={"train": "data/train"}).check()] == []


@pytest.mark.parametrize(
    "names", [("part1.csv", "part2.csv"), ("train1.csv", "train2.csv"), ("latest.csv", "train.csv")]
)
def test_folder_of_one_split(names):
    """Other names have no meaning."""
    Path("data").mkdir()
    for name in names:
        write(f"data/{name}", column="n")
    assert [*LocalFiles(files={"train": "data"}).check()] == []
