"""Rows come in whole, under the task's names, in the splits that were asked for."""

import json
from pathlib import Path

import pytest

from conftest import write_rows
from hydratune.data import LocalFiles
from hydratune.data.cache import cached_map, content_hash, tokenizer_hash
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

ROWS = [{"sentence": f"text {i}, with a comma", "y": "ab"[i % 2]} for i in range(40)]
TASK = SequenceClassification()
COLUMNS = {"text": "sentence", "text_pair": None, "label": "y"}


def files(**named):
    """Local files with the columns of ROWS."""
    return LocalFiles(files=named, columns=COLUMNS)


def save(name):
    """ROWS in the format that the file's suffix names."""
    import pandas as pd

    frame = pd.DataFrame(ROWS)
    if name.endswith(".parquet"):
        frame.to_parquet(name)
    elif name.endswith("sv"):
        frame.to_csv(name, index=False, sep="\t" if name.endswith(".tsv") else ",")
    else:
        frame.to_json(name, orient="records", lines=name.endswith(".jsonl"), indent=None)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_formats(suffix):
    """The same rows come out of every format, under the task's column names."""
    save(f"a.{suffix}")
    source = files(train=f"a.{suffix}", test=f"a.{suffix}")
    assert list(source.check()) == []
    splits = source.load(TASK)
    assert splits["test"].column_names == ["text", "label"]
    assert splits["test"][:] == {"text": [r["sentence"] for r in ROWS], "label": [r["y"] for r in ROWS]}


def test_json_over_several_lines():
    """A pretty-printed json document has its columns found as well."""
    Path("a.json").write_text(json.dumps(ROWS, indent=2))
    assert list(files(train="a.json").check()) == []


def test_several_files_a_split():
    """A list of files is one split."""
    save("a.csv")
    save("b.csv")
    assert len(files(train=["a.csv", "b.csv"], validation="a.csv").load(TASK)["train"]) == 80


def test_one_format_a_split():
    """Two formats in one split cannot be read together."""
    save("a.csv")
    save("b.jsonl")
    (problem,) = files(train=["a.csv", "b.jsonl"]).check()
    assert problem.key == "files.train"
    assert "a.csv, b.jsonl" in problem.text


def test_words_that_pandas_takes_for_nothing():
    """Cells such as NA, None and null are texts."""
    Path("a.csv").write_text("sentence,y\nNA,a\nNone,b\nnull,a\n")
    assert files(train="a.csv", validation="a.csv").load(TASK)["train"]["text"] == ["NA", "None", "null"]


def test_validation_is_held_out():
    """Without a validation split a share of train is held out, the same each time; no row is lost or doubled."""
    save("a.jsonl")
    first, second = (files(train="a.jsonl").load(TASK) for _ in range(2))
    assert len(first["validation"]) == 4
    assert first["validation"]["text"] == second["validation"]["text"]
    assert sorted([*first["train"]["text"], *first["validation"]["text"]]) == sorted(r["sentence"] for r in ROWS)


def test_limit():
    """`limit` keeps that many rows, drawn at random but always the same ones."""
    save("a.jsonl")
    source = files(train="a.jsonl", validation="a.jsonl")
    source.max_samples = {"train": 5, "validation": 1000}
    first, second = source.load(TASK), source.load(TASK)
    assert first["train"]["text"] == second["train"]["text"] != [r["sentence"] for r in ROWS[:5]]
    assert (len(first["train"]), len(first["validation"])) == (5, 40)


def test_a_split_without_rows(own_directory):
    """A file of a header alone is told."""
    (own_directory / "a.csv").write_text("sentence,y\n")
    with pytest.raises(ConfigError) as caught:
        files(train="a.csv").load(TASK)
    (problem,) = caught.value.problems
    assert (problem.key, "a.csv" in problem.text) == ("dataset.files.train", True)


def test_content_hash_sees_content_only(own_directory):
    """Equal rows have equal hashes wherever they come from; any other value, order or name is another hash."""
    from datasets import Dataset

    write_rows(own_directory / "a.jsonl", ROWS)
    loaded = files(train="a.jsonl", validation="a.jsonl").load(TASK)["train"]
    rows = {"text": [r["sentence"] for r in ROWS], "label": [r["y"] for r in ROWS]}
    built = Dataset.from_dict(rows)
    assert content_hash(loaded) == content_hash(built)
    assert content_hash(built.select(range(39, -1, -1)).select(range(39, -1, -1))) == content_hash(built)
    others = [built.select(range(39)), built.select(range(39, -1, -1)), built.rename_column("label", "labels")]
    assert len({content_hash(rows) for rows in [built, *others]}) == 4


def test_rows_are_mapped_once():
    """The second time, the function is not called; another key or other rows call it again."""
    from datasets import Dataset

    calls = []

    def double(batch):
        calls.append(len(batch["x"]))
        return {"y": [2 * x for x in batch["x"]]}

    for start, key in [(0, "a"), (0, "a"), (0, "b"), (1, "a")]:
        rows = Dataset.from_dict({"x": range(start, 5)})
        assert cached_map(rows, double, {"key": key}, "doubling")["y"] == [2 * x for x in range(start, 5)]
    assert calls == [5, 5, 4]


@pytest.mark.parametrize("given", [3, ["a.csv", 3]])
def test_paths_that_are_no_text(given):
    """A number where a path should be is told, and the rest is not looked at."""
    (problem,) = files(train=given).check()
    assert (problem.key, repr(given) in problem.text) == ("files.train", True)
    assert problem.hints == (["quote it: 'files.train=\"3\"'"] if given == 3 else [])


@pytest.mark.parametrize("encoding", ["utf-9", "rot13", "undefined", "a\0"])
def test_encodings_that_are_none(encoding):
    """Neither names that nobody knows nor codecs of other things."""
    save("a.csv")
    source = files(train="a.csv")
    source.encoding = encoding
    (problem,) = source.check()
    assert (problem.key, repr(encoding) in problem.text) == ("encoding", True)


def test_too_few_rows_to_hold_out(own_directory):
    """One row cannot be split."""
    write_rows(own_directory / "a.jsonl", ROWS[:1])
    with pytest.raises(ConfigError, match="1 training row,") as caught:
        files(train="a.jsonl").load(TASK)
    assert [problem.key for problem in caught.value.problems] == ["dataset"]


def test_a_tokenizer_that_was_used_is_the_same(tiny_model):
    """Cutting texts changes the tokenizer's state, and not what the cache knows it by; another side or vocabulary does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    before = tokenizer_hash(tokenizer)
    tokenizer(["good film"], truncation=True, padding="max_length", max_length=4)
    assert tokenizer_hash(tokenizer) == before
    tokenizer.truncation_side = "left"
    assert tokenizer_hash(tokenizer) != before
    tokenizer.truncation_side = "right"
    assert tokenizer_hash(tokenizer) == before
    tokenizer.add_tokens(["new"])
    assert tokenizer_hash(tokenizer) != before


def test_a_limit_may_leave_a_label_out(own_directory, tiny_model):
    """A label that a limit left out of training is still known on validation."""
    from transformers import AutoTokenizer

    write_rows(own_directory / "a.jsonl", [{"sentence": f"t{i}", "y": "abc"[i % 3]} for i in range(30)])
    splits = LocalFiles(
        files={"train": "a.jsonl", "validation": "a.jsonl"}, columns=COLUMNS, max_samples={"train": 2}
    ).load(TASK)
    data = TASK.prepare(splits, AutoTokenizer.from_pretrained(tiny_model), None, None)
    assert data.head["num_labels"] == 3
