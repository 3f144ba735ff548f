"""Columns, held-out rows, overlap_between_splits, mixtures and streams."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from hydratune.data import LocalFiles, Mixture
from hydratune.data.splits import overlap_between_splits, select_columns, without_groups
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

TASK = SequenceClassification()


def save(name, rows):
    """A jsonl file."""
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def source(name="a.jsonl", **options):
    """A source of one file."""
    return LocalFiles(files={"train": name}, **options)


def test_columns_that_are_not_named_have_their_own_names():
    """`columns` needs only what the data calls otherwise; an optional column is taken where it is there."""
    save("a.jsonl", [{"review": f"a{i}", "text_pair": "b", "label": i % 2, "other": 1} for i in range(4)])
    loaded = source(columns={"text": "review"}, validation_size=0.5).load(TASK)
    assert loaded["train"].column_names == ["text", "text_pair", "label"]
    assert source(columns={"text": "review", "text_pair": None}, validation_size=0.5).load(TASK)[
        "train"
    ].column_names == [
        "text",
        "label",
    ]


def test_structs_and_lists_of_columns():
    """A dotted name leads into a struct; a list of names is a column of lists."""
    rows = Dataset.from_list([{"translation": {"en": "dog", "de": "Hund"}, "a": "x", "b": "y"}])
    named = select_columns(rows, {"source": "translation.en", "target": "translation.de", "choices": ["a", "b"]})
    assert named[0] == {"source": "dog", "target": "Hund", "choices": ["x", "y"]}


def test_groups_stay_together():
    """No value of the group's column is in two splits, and no row is lost."""
    rows = [{"text": f"t{i}", "label": i % 2, "document": f"d{i // 5}"} for i in range(100)]
    save("a.jsonl", rows)
    splits = source(group_by_column="document", validation_size=0.2, test_size=0.2).load(TASK)
    documents = {row["text"]: row["document"] for row in rows}
    groups = [{documents[text] for text in splits[split]["text"]} for split in ("train", "validation", "test")]
    assert all(not one & other for one, other in itertools.combinations(groups, 2))
    assert sum(map(len, splits.values())) == 100
    assert "_document" not in splits["train"].column_names
    assert [*splits["test"]["_group"]] == [documents[text] for text in splits["test"]["text"]]
    assert [*without_groups(splits)["test"].column_names] == ["text", "label"] == splits["train"].column_names


def test_test_rows_of_a_file_have_their_groups():
    """A test file with the column keeps it in its rows, also after a limit drew them."""
    for name in ("a", "b"):
        save(f"{name}.jsonl", [{"text": f"{name}{i}", "label": i % 2, "document": i // 2} for i in range(20)])
    files = {"train": "a.jsonl", "test": "b.jsonl"}
    test = LocalFiles(files=files, group_by_column="document", max_samples={"test": 7}).load(TASK)["test"]
    assert [*test["_group"]] == [int(text[1:]) // 2 for text in test["text"]]


def test_stratified():
    """The shares of the values are those of the whole in what is held out, where chance would miss a rare one."""
    save("a.jsonl", [{"text": f"t{i}", "label": "rare" if i % 20 == 0 else "common"} for i in range(200)])
    splits = source(stratify_by_column="label", validation_size=0.2).load(TASK)
    assert Counter(splits["validation"]["label"]) == {"rare": 2, "common": 38}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by_column": "text"}, "'x'"),
        ({"stratify_by_column": "label"}, "'b'"),
        ({"stratify_by_column": "id", "validation_size": 0.1}, "2 values"),
    ],
)
def test_values_that_cannot_be_split(options, message):
    """A single group, a class of one row, or more classes than rows to hold out, is told."""
    save("a.jsonl", [{"text": "x", "label": label, "id": i // 2} for i, label in enumerate("aaba")])
    with pytest.raises(ConfigError) as caught:
        source(**options).load(TASK)
    (problem,) = caught.value.problems
    key = f"dataset.{next(iter(options))}"
    assert (problem.key, problem.hints) == (key, [f"set {key}=null"])
    assert message in problem.text


def test_one_way_to_split():
    """Groups and strata exclude each other."""
    save("a.jsonl", [{"text": "x", "label": "a"}])
    options = source(stratify_by_column="label", group_by_column="text")
    (problem,) = [p for p in options.check() if p.key == "stratify_by_column"]
    assert all(part in problem.under("dataset").message for part in ("'label'", "dataset.group_by_column ('text')"))


def test_leakage_is_counted():
    """Equal inputs in two splits are counted whatever their labels; a pair must be equal on both sides."""
    train = Dataset.from_dict({"text": ["a", "b", "c"], "text_pair": ["x", "y", "z"], "label": [0, 1, 0]})
    test = Dataset.from_dict({"text": ["a", "b", "b"], "text_pair": ["x", "y", "z"], "label": [1, 1, 0]})
    ((_, said),) = overlap_between_splits(DatasetDict(train=train, test=test), ("text", "text_pair"))
    assert said == "2 of 3 rows of test are in train too (the same text and text_pair)"
    assert list(overlap_between_splits(DatasetDict(train=train, test=test.select([2])), ("text", "text_pair"))) == []


def test_leakage_of_lists():
    """Word lists are compared as a whole."""
    rows = Dataset.from_dict({"tokens": [["a", "b"], ["c"]]})
    assert len(list(overlap_between_splits(DatasetDict(train=rows, validation=rows.select([1])), ("tokens",)))) == 1


def mixture(**options):
    """Two sources of 100 rows."""
    for name in "xy":
        save(f"{name}.jsonl", [{"text": f"{name}{i}", "label": i % 2} for i in range(100)])
    return Mixture(sources={name: source(f"{name}.jsonl") for name in "xy"}, **options)


def test_a_mixture_has_its_weights():
    """Rows come in the proportion of the weights; validation is that of both, as it is."""
    splits = mixture(weights={"x": 3}).load(TASK)
    counts = Counter(text[0] for text in splits["train"]["text"])
    assert counts["x"] == 90  # the first to be exhausted
    assert 20 <= counts["y"] <= 42
    assert Counter(text[0] for text in splits["validation"]["text"]) == {"x": 10, "y": 10}
    assert len(set(splits["train"]["text"])) == len(splits["train"])


def test_a_mixture_tells_its_errors():
    """Errors of a source have its name in their key; so have weights of nobody."""
    bad = mixture(weights={"z": 1, "y": 0})
    bad.sources["x"].validation_size = 2
    assert {problem.key for problem in bad.check()} == {
        "sources.x.validation_size",
        "weights.z",
        "weights.y",
    }
    assert [m.key for m in Mixture().check()] == ["sources"]


@pytest.mark.parametrize("sizes", [(0.5, 0.5), (0.1, -0.1), (0.1, 1), (0.9, 0.95)])
def test_shares_that_leave_no_training_rows(sizes):
    """They are one error, as is a share that is none."""
    save("a.jsonl", [{"text": "x", "label": "a"}])
    (problem,) = source(validation_size=sizes[0], test_size=sizes[1]).check()
    assert problem.key == "test_size"
    assert repr(sizes[1]) in problem.text


def test_errors_of_rows_of_a_mixture_name_the_source():
    """Keys and hints are those of the source while it is loaded, too; labels are set for all sources."""
    bad = mixture()
    Path("y.csv").write_text("text,label\nx,0\nHello, world,1\n")
    bad.sources["y"] = LocalFiles(files={"train": "y.csv"})
    with pytest.raises(ConfigError) as caught:
        bad.load(TASK)
    row, total = caught.value.problems
    assert (row.key, total.key, row.source) == ("dataset.sources.y", "dataset.sources.y", "y.csv:3")
    assert any("dataset.sources.y." in hint for hint in row.hints)
    assert "dataset.sources.y.on_bad_rows=skip" in total.hints[0]


def test_hints_of_a_mixture_name_the_keys_of_the_source():
    """Keys can be pasted: those of the source at fault, and not of a dataset that is none."""
    bad = mixture()
    bad.sources["x"].split_values = {"train": "a"}
    bad.sources["y"].files = {"train": "y.jsonl", "dev": "y.jsonl"}
    values, files = (problem.under("dataset") for problem in bad.check())
    assert "dataset.sources.x.split_column=" in values.hints[0]
    assert files.hints[0].endswith("dataset.sources.y.files.validation")


def test_a_mixture_of_streams_and_tables():
    """`datasets` mixes streams, or tables, but not both."""
    one = mixture()
    next(iter(one.sources.values())).streaming = True
    assert [problem.key for problem in one.check()] == ["sources"]


def test_a_mixture_of_different_forms():
    """Labels as numbers here and as texts there cannot be one column."""
    one = mixture()
    save("y.jsonl", [{"text": f"y{i}", "label": "ab"[i % 2]} for i in range(100)])
    with pytest.raises(ConfigError) as caught:
        one.load(TASK)
    assert [problem.key for problem in caught.value.problems] == ["dataset.sources"]


def stream(**options):
    """200 rows to stream and ten to evaluate on."""
    rows = [{"text": "good film" if i % 2 else "bad film", "label": "ab"[i % 2]} for i in range(200)]
    save("train.jsonl", rows)
    save("validation.jsonl", rows[:10])
    files = {"train": "train.jsonl", "validation": "validation.jsonl"}
    return LocalFiles(files=files, streaming=True, labels=["a", "b"], **options)


def test_a_stream_is_not_read_as_a_whole():
    """Training rows have no length and come in an order of their own; validation has both."""
    splits = stream(shuffle_buffer_size=50).load(TASK)
    assert not hasattr(splits["train"], "__len__")
    assert len(splits["validation"]) == 10
    labels = [row["label"] for row in splits["train"]]
    assert Counter(labels) == {"a": 100, "b": 100}
    assert labels[:10] != list("ab" * 5)


def test_bad_rows_of_a_stream():
    """What is wrong at its start is told before training, what is wrong behind it when it comes; or it is dropped."""
    one = stream()
    rows = [{"text": f"t{i}", "label": "a"} for i in range(1500)]
    for where in (3, 1200):
        save("train.jsonl", [{**row, "text": None if i == where else row["text"]} for i, row in enumerate(rows)])
        one.shuffle_buffer_size = 1
        with pytest.raises(ConfigError) as caught:  # noqa: PT012
            loaded = one.load(TASK)
            list(loaded["train"])
        assert [problem.key for problem in caught.value.problems] == ["dataset.columns.text", "dataset"]
    one.on_bad_rows = "skip"
    assert len(list(one.load(TASK)["train"])) == 1499


def test_a_streamed_run(train, tiny_model):
    """A run over a stream trains the steps it was given, and needs them."""
    stream()
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation")]
    tiny = ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}", "hardware=cpu"]
    overrides = ["dataset=local", *files, *tiny, "dataset.streaming=true", "dataset.labels=[a,b]"]
    with pytest.raises(ConfigError) as caught:
        train(*overrides)
    assert [problem.key for problem in caught.value.problems] == ["trainer.args.max_steps"]
    assert train(*overrides, "trainer.args.max_steps=3", directory="second").metrics["step"] == 3


def test_a_struct_beside_what_is_inside():
    """A dotted name leaves the struct itself in place, goes as deep as it says, and is null where the struct is."""
    rows = Dataset.from_list([{"m": {"q": "x", "n": {"z": 1}}}, {"m": None}])
    for given in (rows, rows.to_iterable_dataset()):
        named = select_columns(given, {"q": "m.q", "z": "m.n.z", "m": "m", "pair": ["m.q", "m.q"]})
        assert [row["q"] for row in named] == ["x", None]
        assert [row["z"] for row in named] == [1, None]
        assert [row["pair"] for row in named] == [["x", "x"], [None, None]]
        assert next(iter(named))["m"]["q"] == "x"


def test_a_name_inside_a_struct_that_is_not_there():
    """It is told with those that are."""
    save("a.jsonl", [{"m": {"q": "x"}, "label": "a"}])
    with pytest.raises(ConfigError) as caught:
        source(columns={"text": "m.zz"}).load(TASK)
    problem = caught.value.problems[0]
    assert (problem.key, "'m.zz'" in problem.text) == ("dataset.columns.text", True)
    assert all(name in problem.hint for name in ("'m'", "'label'", "'m.q'"))


def test_a_column_that_another_takes():
    """A column of the data is not read twice: an optional one gives way, a required one has to be named."""
    save("a.jsonl", [{"text_pair": f"t{i}", "label": "ab"[i % 2]} for i in range(4)])
    one = source(columns={"text": "text_pair"}, validation_size=0.5)
    assert one.load(TASK)["train"].column_names == ["text", "label"]
    (problem,) = source(columns={"text": "label"}).check_columns(TASK.columns)
    assert (problem.key, problem.hints) == ("columns.label", ["set columns.label=NAME"])


def test_held_out_shares_are_of_all_rows():
    """Test is its share of all rows, not of what validation left; two rows can always be split."""
    save("a.jsonl", [{"text": f"t{i}", "label": i % 2} for i in range(90)])
    splits = source(validation_size=0.1, test_size=0.3).load(TASK)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 54, "validation": 9, "test": 27}
    save("a.jsonl", [{"text": f"t{i}", "label": i} for i in range(2)])
    assert len(source(validation_size=0.9).load(TASK)["train"]) == 1


def test_only_training_rows_need_the_column_to_split_by():
    """A test file without the group's column is no error; a name that no file has is one."""
    save("a.jsonl", [{"text": f"t{i}", "label": i % 2, "document": i // 2} for i in range(20)])
    save("b.jsonl", [{"text": "u", "label": 1}])
    one = LocalFiles(files={"train": "a.jsonl", "test": "b.jsonl"}, group_by_column="document")
    assert list(one.check_columns(TASK.columns)) == []
    assert set(one.load(TASK)) == {"train", "validation", "test"}
    one.group_by_column = "documents"
    (problem,) = one.check_columns(TASK.columns)
    assert (problem.key, "'documents'" in problem.text) == ("group_by_column", True)
    assert problem.hints[0].endswith(" group_by_column=document")


def test_labels_of_a_mixture():
    """Names that a source gives its labels must be those of all, since ids mean the same everywhere."""
    one = mixture(labels=["no", "yes"])
    one.sources["x"].labels = ["yes", "no"]
    (problem,) = one.check()
    assert (problem.key, "['yes', 'no']" in problem.text) == ("sources.x.labels", True)


def test_leakage_between_sources(caplog):
    """A row that one source trains on and another evaluates on is counted."""
    one = mixture()
    for name in "xy":
        save(f"{name}.jsonl", [{"text": f"t{i}", "label": i % 2} for i in range(100)])
    one.sources["y"].seed = 1
    one.load(TASK)
    assert any("mixed" in said and "of validation are in train too" in said for said in caplog.messages)


def test_a_mixture_of_streams():
    """It is a stream as its sources are."""
    one = Mixture(sources={"a": stream(), "b": stream()}, labels=["a", "b"])
    assert one.streaming
    assert not hasattr(one.load(TASK)["train"], "__len__")


def test_a_limited_stream_has_the_same_rows_in_each_epoch():
    """The first rows, in another order."""
    save("validation.jsonl", rows := [{"text": f"t{i}", "label": "ab"[i % 2]} for i in range(100)])
    one = stream(max_samples={"train": 20}, shuffle_buffer_size=50)
    save("train.jsonl", rows)
    train = one.load(TASK)["train"]
    epochs = []
    for epoch in range(2):
        train.set_epoch(epoch)
        epochs.append([row["text"] for row in train])
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(row["text"] for row in rows[:20])
    assert epochs[0] != epochs[1]


def test_a_stream_of_lines_keeps_their_order():
    """The lines of one text are not shuffled."""
    from hydratune.tasks.causal_lm import CausalLm

    Path("a.txt").write_text("".join(f"line {i}\n" for i in range(100)))
    one = LocalFiles(files={"train": "a.txt", "validation": "a.txt"}, streaming=True)
    assert [row["text"] for row in one.load(CausalLm(document_separator="newline"))["train"]][:3] == [
        "line 0",
        "line 1",
        "line 2",
    ]


@pytest.mark.parametrize("content", ["x,a,more\n", "x,a\nx,a,more\n"])
def test_a_ragged_stream(content):
    """A line of too many cells at the start of a stream is told, and loses nothing silently."""
    one = stream()
    Path("a.csv").write_text(f"text,label\n{content}")
    one.files["train"] = "a.csv"
    with pytest.raises(ConfigError) as caught:
        one.load(TASK)
    problem = caught.value.problems[0]
    assert (problem.source, "'x,a,more'" in problem.text) == (f"a.csv:{len(content.splitlines()) + 1}", True)


def test_a_bad_row_of_a_stream_has_its_line():
    """It is that of the file, not a number in a shuffled order."""
    one = stream()
    save("train.jsonl", [{"text": None if i == 3 else "x", "label": "a"} for i in range(20)])
    with pytest.raises(ConfigError) as caught:
        one.load(TASK)
    assert caught.value.problems[0].source == "train.jsonl:4"
