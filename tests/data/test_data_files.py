"""The bytes of the files that a path names are the rows of the training, in whatever way they are read."""

import bz2
import errno
import gzip
import json
import lzma
import math
import os
from pathlib import Path

import pytest
from datasets import Dataset

from any_columns import AnyColumns
from hydratune.data import LocalFiles
from hydratune.data.cache import cache_dir, cached_map
from hydratune.data.paths import PathError, expand
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.tasks.token_classification import TokenClassification
from hydratune.utils.errors import ConfigError


def source(train, **options):
    """Files whose training rows are their validation rows too."""
    return LocalFiles(files={"train": train, "validation": train}, **options)


def load(train, *names, **options):
    """The training rows of files, after their checks; or the errors."""
    one, task = source(train, **options), AnyColumns(*names)
    if wrong := [*one.check()] or [*one.check_columns(task.columns)]:
        raise ConfigError(*wrong)
    return [dict(row) for row in one.load(task)["train"]]


def texts(train, **options):
    """The values of the column `text`."""
    return [row["text"] for row in load(train, "text", **options)]


def errors(train, *names, **options):
    """The keys of the errors of files."""
    with pytest.raises(ConfigError) as caught:
        load(train, *(names or ("text",)), **options)
    return [one.key for one in caught.value.problems]


# --- content ---------------------------------------------------------------------------------------------

FORMATS = ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a.parquet", "a.arrow"]


def write(name, values):
    """A file with one column `text`."""
    rows = Dataset.from_dict({"text": values})
    path = Path(name)
    if path.suffix == ".arrow":
        rows.save_to_disk("saved")
        (written,) = Path("saved").glob("*.arrow")
        path.write_bytes(written.read_bytes())
    elif path.suffix == ".parquet":
        rows.to_parquet(name)
    elif path.suffix in (".jsonl", ".json"):
        lines = [json.dumps({"text": value}) for value in values]
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{', '.join(lines)}]")
    else:
        path.write_text("".join(f"{line}\n" for line in (values if path.suffix == ".txt" else ["text", *values])))


@pytest.mark.parametrize("name", FORMATS)
def test_local_files_replaced_with_the_same_time_are_read_again(name):
    """`cp -p` and `tar` set the old modification time; of one size or another, the new rows are trained on."""
    write(name, ["old 1", "old 2"])
    stat = Path(name).stat()
    assert texts(name) == ["old 1", "old 2"]
    for values in (["new 1", "new 2"], ["new 1", "new 2", "new 3"]):
        write(name, values)
        os.utime(name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert texts(name) == values


def test_streams_of_other_content_have_other_hashes():
    """So that a sweep or a resumed run notices that a streamed file was replaced."""
    from hydratune.data.cache import source_hash

    hashes = []
    for values in (["x", "y"], ["x", "z"], ["x", "y"]):
        write("a.csv", values)
        stream = source("a.csv", streaming=True).load(AnyColumns("text"))["train"]
        hashes.append(source_hash(stream.map(lambda row: row)))
    assert hashes[0] == hashes[2] != hashes[1]


def test_local_files_of_the_same_content_are_converted_once(tmp_path):
    """Another name and time is not another cache entry."""
    for name in ("a.csv", "b.csv"):
        write(name, ["x", "y"])
        assert texts(name) == ["x", "y"]
    assert len([*(tmp_path / "cache" / "rows").iterdir()]) == 1


def test_local_files_that_change_while_they_are_read_are_an_error(monkeypatch):
    """Rows that were checked are the rows that are trained on."""
    from hydratune.data import reading

    write("a.csv", ["old"])
    scan = reading.scan

    def scan_then_replace(*arguments):
        seen = scan(*arguments)
        write("a.csv", ["new"])
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(reading, "scan", scan_then_replace)
        assert errors("a.csv") == ["dataset.files.train"]
    assert texts("a.csv") == ["new"]


# --- types -----------------------------------------------------------------------------------------------

COLUMNS = {
    "a code with zeros": ["0000099", "12"],
    "a code with zeros at the end": [*["12"] * 1500, "0000099"],
    "dates": ["2020-01-01", "2021-12-31"],
    "times": ["2020-01-01 10:00", "2021-12-31T23:59:59Z"],
    "numbers, then a text": [*["1"] * 1500, "one"],
    "whole numbers, then others": [*["1"] * 1500, "2.5"],
    "nothing, then numbers": [*[""] * 1500, "3"],
    "truth values": ["true", "False"],
}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("case", COLUMNS)
def test_streaming_yields_the_values_of_the_whole_file(case, suffix):
    """The types of columns come from all rows in both modes."""
    values = COLUMNS[case]
    if suffix == "csv":
        Path("a.csv").write_text("text,n\n" + "".join(f"{value},x\n" for value in values))
    else:
        Path("a.jsonl").write_text("".join(json.dumps({"text": value or None, "n": "x"}) + "\n" for value in values))
    whole, streamed = (texts(f"a.{suffix}", streaming=streaming) for streaming in (False, True))
    assert [*map(repr, streamed)] == [*map(repr, whole)]
    if case.startswith(("a code", "dates", "times")):
        assert whole == values


def test_streaming_yields_nested_values_as_they_are_written():
    """Objects that differ in their names keep them, and texts that look like JSON stay texts."""
    rows = [{"text": [{"a": "5"}, {"b": 1}]}, {"text": [{"a": None, "c": [2**53 + 1]}]}, {"text": []}]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for streaming in (False, True):
        assert load("a.jsonl", "text", streaming=streaming) == rows


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_streaming_of_typed_files_keeps_their_features(name):
    """Names of labels are in the file, and stay."""
    from datasets import ClassLabel

    rows = Dataset.from_dict({"text": [0, 1]}).cast_column("text", ClassLabel(names=["no", "yes"]))
    rows.to_parquet("a.parquet")
    rows.save_to_disk("saved")
    (written,) = Path("saved").glob("*.arrow")
    Path("a.arrow").write_bytes(written.read_bytes())
    for streaming in (False, True):
        loaded = source(name, streaming=streaming).load(AnyColumns("text"))["train"]
        assert loaded.features["text"].names == ["no", "yes"]
        assert [row["text"] for row in loaded] == [0, 1]


# --- valid data ------------------------------------------------------------------------------------------


def test_jsonl_column_whose_type_is_clear_after_ten_megabytes():
    """A column may be null for longer than any reader looks ahead."""
    filler = "x" * 100_000
    with Path("a.jsonl").open("w") as file:
        for _ in range(110):
            file.write(json.dumps({"text": None, "filler": filler}) + "\n")
        file.write(json.dumps({"text": "late", "filler": filler}) + "\n")
    assert texts("a.jsonl") == [*[None] * 110, "late"]


@pytest.mark.parametrize("rows", [["x,1", "y,2"], ["x,a", "y,b"]])
def test_csv_column_that_is_empty_in_one_file(rows):
    """Its type is that of the other files, in one split and in another."""
    Path("a.csv").write_text("\n".join(["text,votes", *rows]))
    Path("b.csv").write_text("text,votes\nz,\n")
    votes = [row.split(",")[1] for row in rows]
    empty = None if rows[0].endswith("1") else ""
    expected = [*(map(int, votes) if empty is None else votes), empty]
    assert [row["votes"] for row in load(["a.csv", "b.csv"], "text", "votes")] == expected
    splits = LocalFiles(files={"train": "a.csv", "validation": "b.csv"}).load(AnyColumns("text", "votes"))
    assert splits["train"].features == splits["validation"].features


@pytest.mark.parametrize("values", [(1, "one"), ({"a": 1}, [1]), (2**70, 1), ({"a": 1}, {"b": "x"})])
@pytest.mark.parametrize("several", [False, True])
def test_unused_column_may_differ_between_rows_and_files(values, several):
    """Only the columns that the task reads have to agree."""
    lines = [json.dumps({"text": f"t{i}", "unused": value}) + "\n" for i, value in enumerate(values)]
    for name, own in zip(("a.jsonl", "b.jsonl"), lines if several else ["".join(lines)], strict=False):
        Path(name).write_text(own)
    assert texts(["a.jsonl", "b.jsonl"] if several else "a.jsonl") == ["t0", "t1"]


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_unused_column_may_hold_constants(name, constant):
    """Python and pandas write NaN for a missing value."""
    Path(name).write_text(f'{{"text": "x", "unused": {constant}}}\n{{"text": "y", "unused": "z"}}\n')
    assert texts(name) == ["x", "y"]


@pytest.mark.parametrize("column", ["text", "label"])
def test_used_column_with_a_constant_names_its_line(column):
    """NaN is not a text, and not a label."""
    row = {"text": "x", "label": 1.0}
    Path("a.jsonl").write_text(
        "\n".join(json.dumps(one) for one in (row, row | {"label": 0.0}, row | {column: math.nan}))
    )
    with pytest.raises(ConfigError) as caught:
        source("a.jsonl").load(SequenceClassification())
    problems = [one for one in caught.value.problems if one.key == f"dataset.columns.{column}"]
    assert problems[0].source == "a.jsonl:3"


def test_used_column_may_not_differ_between_files():
    """Text here and a number there would be a guess."""
    Path("a.jsonl").write_text('{"text": "x"}\n')
    Path("b.jsonl").write_text('{"text": 1}\n')
    assert errors(["a.jsonl", "b.jsonl"]) == ["dataset.files.train"]


def test_unused_columns_of_parquet_may_differ():
    """As those of other formats."""
    Dataset.from_dict({"text": ["x"], "unused": [1]}).to_parquet("a.parquet")
    Dataset.from_dict({"text": ["y"], "unused": ["one"]}).to_parquet("b.parquet")
    assert texts(["a.parquet", "b.parquet"]) == ["x", "y"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize("kind", ["dictionary", "string_view"])
def test_categories_and_views_are_texts(name, kind):
    """As pandas and Polars write them."""
    import pyarrow as pa
    import pyarrow.parquet

    of = pa.string_view() if kind == "string_view" else pa.dictionary(pa.int8(), pa.string())
    table = pa.table({"text": pa.array(["x", "y", "x", None], of)})
    if name == "a.parquet":
        pyarrow.parquet.write_table(table, name)
    else:
        with pa.ipc.new_file(name, table.schema) as writer:
            writer.write_table(table)
    for streaming in (False, True):
        loaded = source(name, streaming=streaming).load(AnyColumns("text"))["train"]
        assert loaded.features["text"].dtype == "string"
        assert [row["text"] for row in loaded] == ["x", "y", "x", None]


def test_column_of_the_split_is_read_too():
    """The column to stratify by is no column of the task."""
    Path("a.csv").write_text("text,kind\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(20)))
    one = LocalFiles(files={"train": "a.csv"}, stratify_by_column="kind", validation_size=0.5)
    held = one.load(AnyColumns("text"))["validation"]
    assert held.column_names == ["text"]
    assert sum(int(row["text"][1:]) % 2 for row in held) == 5


# --- paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "data[1].csv",
        "a*.csv",
        "a?.csv",
        "a::b.csv",
        "glob/{x,y}.csv",
        "hf::x/[!a].csv",
        "~a.csv",
        "./~b.csv",
        "$HOME.csv",
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_path_is_literal(name, streaming):
    """Files that the name would match as a pattern are not read."""
    Path(name).parent.mkdir(exist_ok=True)
    for other in ("data1.csv", "ab.csv", "glob/x.csv"):
        Path(other).parent.mkdir(exist_ok=True)
        write(other, ["wrong"])
    write(name, ["right"])
    assert texts(name, streaming=streaming) == ["right"]


@pytest.mark.parametrize(("path", "keys"), [("a[1]", []), ("a*", []), ("~a", []), ("a::b", ["path"])])
def test_path_of_a_saved_data_set_is_literal(path, keys):
    """Or refused, where `datasets` would read it in another way."""
    from hydratune.data import SavedDataset

    Dataset.from_dict({"text": ["x"]}).save_to_disk("saved")
    Path("saved").rename(path)
    one = SavedDataset(path=path)
    assert [problem.key for problem in one.check()] == keys
    if not keys:
        assert one.read().splits["train"]["text"][:] == ["x"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("state.json", {"_data_files": [1]}),
        ("state.json", {"_format_type": "unknown"}),
        ("state.json", {"_split": []}),
        ("dataset_info.json", {"features": []}),
        ("dataset_info.json", {"features": {"text": 1}}),
        ("dataset_info.json", {"splits": [1]}),
    ],
)
def test_saved_dataset_with_a_malformed_file_is_one_error(name, change):
    """`datasets` raises errors of many kinds."""
    from hydratune.data import SavedDataset

    Dataset.from_dict({"text": ["x"]}).save_to_disk("saved")
    path = Path("saved") / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError) as caught:
        SavedDataset(path="saved").read()
    assert [problem.key for problem in caught.value.problems] == ["dataset.path"]


def test_path_that_is_only_a_pattern_is_an_error():
    """What it matches is not read without request."""
    write("a.csv", ["x"])
    assert errors("*.csv") == ["files.train", "files.validation"]


def test_pattern_on_request_selects_files_in_sorted_order():
    """Folders and files that do not match are left out."""
    for name in ("b2.csv", "b1.csv", "c.csv"):
        write(name, [name])
    Path("b3.csv").mkdir()
    assert texts("glob:b*.csv") == ["b1.csv", "b2.csv"]
    assert texts(["c.csv", f"glob:{Path.cwd()}/b*.csv"]) == ["c.csv", "b1.csv", "b2.csv"]


@pytest.mark.parametrize(
    ("typed", "hint"), [("rewievs.csv", "reviews.csv"), ("reviews.cvs", "reviews.csv"), ("x.csv", "")]
)
def test_missing_file_has_a_similar_name_in_its_hint(typed, hint):
    """The suffix alone does not make two names similar."""
    Path("reviews.csv").write_text("text\nx\n")
    (problem,) = [problem for problem in source(typed).check() if problem.key == "files.train"]
    assert (typed in problem.text, problem.hint.rpartition(" ")[2]) == (True, hint)


def test_pattern_without_a_match_is_an_error():
    """It names the pattern."""
    (wrong, _) = source("glob:no/*.csv").check()
    assert (wrong.key, "glob:no/*.csv" in wrong.text) == ("files.train", True)


def test_folder_is_read_as_its_files():
    """In sorted order, without hidden ones."""
    Path("data").mkdir()
    for name in ("data/2.csv", "data/1.csv", "data/.hidden.jsonl"):
        write(name, [name])
    assert texts("data") == ["data/1.csv", "data/2.csv"]


def test_pattern_and_splits_compose_as_typed(compose):
    """Without quotes for Hydra."""
    cfg = compose("dataset=local", "dataset.files.train=glob:data/*.csv", "dataset.splits.test=[test,oos_test]")
    assert (cfg.dataset.files.train, [*cfg.dataset.splits.test]) == ("glob:data/*.csv", ["test", "oos_test"])


@pytest.mark.parametrize("names", [[], ["a.csv", "b.jsonl"], ["a.csv", "README.md"], [".hidden.csv"]])
def test_folder_without_one_format_is_an_error(names):
    """Neither nothing nor a guess."""
    Path("data").mkdir()
    for name in names:
        Path("data", name).write_text("text\nx\n")
    assert {*errors("data")} == {"files.train", "files.validation"}


# --- compressed files ------------------------------------------------------------------------------------

OPENERS = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
CONTENTS = {
    "csv": ("text\nx\ny\n", ["x", "y"]),
    "jsonl": ('{"text": "x"}\n{"text": "y"}\n', ["x", "y"]),
    "json": ('[{"text": "x"}, {"text": "y"}]', ["x", "y"]),
    "txt": ("x\ny\n", ["x", "y"]),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", CONTENTS)
@pytest.mark.parametrize("compression", OPENERS)
def test_compressed_file_is_read_like_the_file_inside(suffix, compression, streaming):
    """The format is told from the suffix before."""
    content, expected = CONTENTS[suffix]
    with OPENERS[compression](f"a.{suffix}.{compression}", "wt") as file:
        file.write(content)
    assert texts(f"a.{suffix}.{compression}", streaming=streaming) == expected


def test_compressed_parquet_and_conll():
    """Binary files and documents too."""
    write("a.parquet", ["x", "y"])
    Path("a.parquet.gz").write_bytes(gzip.compress(Path("a.parquet").read_bytes()))
    assert texts("a.parquet.gz") == ["x", "y"]
    Path("a.conll.gz").write_bytes(gzip.compress(b"a O\nb B-x\n\n"))
    assert load("a.conll.gz", "tokens", "labels") == [{"tokens": ["a", "b"], "labels": ["O", "B-x"]}]


@pytest.mark.parametrize("compression", OPENERS)
@pytest.mark.parametrize("damage", ["no archive", "truncated", "a changed byte"])
def test_corrupt_compressed_file_is_an_error(compression, damage):
    """No row of it is read."""
    rows = "text\n" + "".join(f"some text {i}\n" for i in range(50_000))
    with OPENERS[compression]("a", "wt") as file:
        file.write(rows)
    content = bytearray(Path("a").read_bytes())
    if damage == "a changed byte":
        content[len(content) // 2] ^= 0xFF
    Path(f"a.csv.{compression}").write_bytes(
        {"no archive": rows.encode(), "truncated": content[: len(content) // 2]}.get(damage, content)
    )
    assert errors(f"a.csv.{compression}")


# --- JSON ------------------------------------------------------------------------------------------------

SPLITS = {
    "train": [["good film", "pos"], ["bad film", "neg"]],
    "val": [["good book", "pos"]],
    "test": [["bad book", "neg"]],
    "oos_test": [["what time is it", "oos"]],
}


def splits_of(name, **options):
    """The rows of each split of a file, by position."""
    one = LocalFiles(files={"train": name}, columns={"text": "0", "label": "1"}, **options)
    task = AnyColumns("text", "label")
    if wrong := [*one.check()] or [*one.check_columns(task.columns)]:
        raise ConfigError(*wrong)
    return {split: [[row["text"], row["label"]] for row in rows] for split, rows in one.load(task).items()}


@pytest.mark.parametrize("indent", [None, 0])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_document_of_splits_is_read_by_their_names(name, indent):
    """One name or several make a split; a split without files of its own is in those of train."""
    text = json.dumps(SPLITS, indent=indent)
    Path(name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    chosen = {"train": "train", "validation": "val", "test": ["test", "oos_test"]}
    assert splits_of(name, splits=chosen) == {
        "train": SPLITS["train"],
        "validation": SPLITS["val"],
        "test": [*SPLITS["test"], *SPLITS["oos_test"]],
    }


def test_document_of_splits_with_objects_and_names():
    """Rows may be objects, and the columns of lists may have names."""
    rows = [{"text": text, "label": label} for text, label in SPLITS["train"]]
    Path("a.json").write_text(json.dumps({"one": rows, "two": rows[:1]}))
    assert load("a.json", "text", "label", splits={"train": "one", "validation": "two"}) == rows
    Path("a.json").write_text(json.dumps(SPLITS))
    named = load(
        "a.json", "text", "label", splits={"train": "train", "validation": "val"}, column_names=["text", "label"]
    )
    assert named == rows


def test_names_of_columns_of_objects_are_an_error():
    """They have names."""
    Path("a.jsonl").write_text('{"text": "x"}\n')
    assert {*errors("a.jsonl", column_names=["text"])} == {"column_names"}


def test_document_with_its_rows_under_a_name():
    """What is beside them does not count, also in the error that names them."""
    rows = [{"text": "x"}, {"text": "y"}]
    Path("a.json").write_text(json.dumps({"version": "1.0", "reviews": rows, "count": 2}))
    assert load("a.json", "text", splits={"train": "reviews", "validation": "reviews"}) == rows
    assert errors("a.json") == ["splits.train", "splits.validation"]


@pytest.mark.parametrize("indent", [None, 1])
def test_document_of_splits_inside_objects(indent):
    """A dotted name leads to a list of rows inside objects, past values of the same name elsewhere."""
    rows = [{"text": "x"}, {"text": "y"}]
    document = {"other": {"items": rows[:1]}, "data": {"n": {"items": 1}, "items": rows, "old": rows[:1]}}
    Path("a.json").write_text(json.dumps(document, indent=indent))
    assert load("a.json", "text", splits={"train": "data.items", "validation": "data.old"}) == rows
    assert errors("a.json", splits={"train": "items"})[0] == "splits.train"


def test_document_of_splits_reports_bad_rows_by_their_lines():
    """As of any other document."""
    Path("a.json").write_text('{"a": [["x", "y"]],\n"b": [\n["x", "y"],\n["z"]\n]}')
    with pytest.raises(ConfigError) as caught:
        splits_of("a.json", splits={"train": "b", "validation": "a"})
    assert caught.value.problems[0].source == "a.json:4"


@pytest.mark.parametrize(
    ("name", "splits", "keys"),
    [
        ("a.json", {}, ["splits.train"]),
        ("a.json", {"validation": "val"}, ["splits.train"]),
        ("a.json", {"train": "trian"}, ["splits.train"]),
        ("a.json", {"train": "train", "tset": "test"}, ["splits.tset"]),
        ("a.json", {"train": "train", "test": 3}, ["splits.test"]),
        ("b.json", {"train": "train"}, ["splits.train"]),
        ("c.csv", {"train": "train"}, ["splits.train"]),
    ],
)
def test_splits_that_a_file_does_not_have_are_errors(name, splits, keys):
    """Of a file of several, one has to be chosen; of another file, none can be."""
    Path("a.json").write_text(json.dumps(SPLITS))
    Path("b.json").write_text(json.dumps(SPLITS["train"]))
    Path("c.csv").write_text("0,1\nx,y\n")
    with pytest.raises(ConfigError) as caught:
        splits_of(name, splits=splits)
    assert [one.key for one in caught.value.problems] == keys
    if name == "a.json" and not splits:
        assert all(repr(split) in caught.value.problems[0].text for split in SPLITS)
        assert "splits.train=train" in caught.value.problems[0].hints[0]


BY_COLUMNS = {
    "lists": {"text": ["a", "b"], "label": ["x", "y"]},
    "pandas": {"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}},
    "pandas by index": {"0": {"text": "a", "label": "x"}, "1": {"text": "b", "label": "y"}},
}


@pytest.mark.parametrize("form", BY_COLUMNS)
@pytest.mark.parametrize("indent", [None, 2])
def test_document_of_columns_is_an_error_of_the_file(form, indent):
    """One object of columns is not one row, whose texts would be joined."""
    Path("a.json").write_text(json.dumps(BY_COLUMNS[form], indent=indent))
    files = LocalFiles(files={"train": "a.json"})
    assert [*files.check()] == []
    assert [one.key for one in files.check_columns(SequenceClassification().columns)] == ["files.train"]


def test_lines_of_objects_with_lists_are_rows():
    """Two lines are two rows, whatever they hold: lists of sentences are joined."""
    Path("a.jsonl").write_text(2 * (json.dumps({"text": ["a", "b"], "label": "x"}) + "\n"))
    assert [*LocalFiles(files={"train": "a.jsonl"}).check_columns(SequenceClassification().columns)] == []


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.jsonl", {"text": ["a", "b"]}),
        ("a.jsonl", BY_COLUMNS["lists"]),
        ("a.json", {"text": ["a", "b"], "label": "x"}),
    ],
)
def test_one_object_with_a_list_of_sentences_is_a_row(name, row):
    """A line of a JSONL file is always a row; in a document, the columns of a table have equal lengths."""
    Path(name).write_text(json.dumps(row))
    columns = SequenceClassification().columns
    wanted = {ours: column for ours, column in columns.items() if ours in row}
    assert [*LocalFiles(files={"train": name}).check_columns(wanted)] == []


def test_document_of_one_row_with_lists_is_a_row():
    """A task that reads lists takes the lists of a row."""
    Path("a.json").write_text(json.dumps({"tokens": ["a", "b"], "labels": ["O", "O"]}))
    assert [*LocalFiles(files={"train": "a.json"}).check_columns(TokenClassification().columns)] == []


def test_document_of_one_row_is_no_document_of_splits():
    """A chat is an object of lists, too."""
    row = {"messages": [{"role": "user", "content": "hi"}]}
    Path("a.json").write_text(json.dumps(row))
    assert load("a.json", "messages") == [row]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_rows_that_are_lists_have_columns_by_position(name):
    """All rows have as many values as the first."""
    lines = [json.dumps(row) for row in (["x", 1], ["y", 2])]
    Path(name).write_text(f"[{','.join(lines)}]" if name == "a.json" else "\n".join(lines))
    assert load(name, "text", "label", columns={"text": "0", "label": "1"}) == [
        {"text": "x", "label": 1},
        {"text": "y", "label": 2},
    ]


NESTED = [
    {"id": 0, "review": {"body": {"text": "x", "lang": "en"}, "tags": ["a", "b"]}, "stars": {"n": 1}},
    {"id": 1, "review": {"body": {"text": "y"}, "more": [1, "mixed", {}]}, "stars": None},
    {"id": 2, "review": {"body": None, "tags": []}, "stars": {"n": 3, "of": 5}},
    {"id": 3, "stars": {"n": 4}},
]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_dotted_names_lead_into_objects(name, streaming):
    """At any depth and into lists; a null on the way is a missing value, and what is beside does not count."""
    lines = [json.dumps(row) for row in NESTED]
    Path(name).write_text(f"[{','.join(lines)}]" if name == "a.json" else "\n".join(lines))
    columns = {"text": "review.body.text", "n": "stars.n", "tag": "review.tags.1", "whole": "stars"}
    rows = load(name, *columns, columns=columns, streaming=streaming)
    assert [row["text"] for row in rows] == ["x", "y", None, None]
    assert [row["n"] for row in rows] == [1, None, 3, 4]
    assert [row["tag"] for row in rows] == ["b", None, None, None]
    assert [row["whole"] for row in rows] == [row["stars"] for row in NESTED]


LISTED = [
    {"q": {"stem": "x", "choices": [{"label": "A", "text": "a"}, {"label": "B", "text": "b"}]}},
    {"q": {"stem": "y", "choices": [{"label": "A", "text": "c"}, {"label": "B"}]}},
    {"q": {"stem": "z", "choices": []}},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_dotted_name_in_a_list_of_objects_is_the_list_of_the_field(name):
    """An object without the field has null in the list."""
    if name == "a.jsonl":
        Path(name).write_text("\n".join(map(json.dumps, LISTED)))
    else:
        Dataset.from_list(LISTED).to_parquet(name)
    columns = {"text": "q.stem", "choices": "q.choices.text", "names": "q.choices.label"}
    rows = load(name, *columns, columns=columns)
    assert [row["choices"] for row in rows] == [["a", "b"], ["c", None], []]
    assert [row["names"] for row in rows] == [["A", "B"], ["A", "B"], []]


def test_name_with_a_dot_comes_before_what_is_inside():
    """The column of that very name is meant."""
    Path("a.jsonl").write_text(json.dumps({"a.b": "literal", "a": {"b": "inside"}}))
    assert texts("a.jsonl", columns={"text": "a.b"}) == ["literal"]


def test_dotted_name_with_two_meanings_is_an_error():
    """Neither is guessed."""
    Path("a.jsonl").write_text(json.dumps({"a": {"b.c": 1, "b": {"c": 2}}}))
    assert errors("a.jsonl", columns={"text": "a.b.c"}) == ["dataset.columns"]


@pytest.mark.parametrize("dotted", ["review.body.txt", "review.nothing", "id.x"])
def test_dotted_name_that_leads_nowhere_is_an_error(dotted):
    """It is the key of the column."""
    Path("a.jsonl").write_text("\n".join(json.dumps(row) for row in NESTED))
    assert {*errors("a.jsonl", columns={"text": dotted})} == {"dataset.columns.text"}


@pytest.mark.parametrize("names", [[None], [""], ["1"], ["a", "a"]])
def test_column_names_that_name_nothing_are_refused(own_directory, names):
    """Null and empty names, numbers at another position, and repeated names."""
    (own_directory / "a.csv").write_text("x,0\n")
    source = LocalFiles(files={"train": "a.csv"}, header=False, column_names=names)
    assert {problem.key for problem in source.check()} == {"column_names"}


@pytest.mark.parametrize(
    ("file", "named"), [("a.csv", "../a.csv"), ("data/b.csv", "../data/b.csv"), ("c.csv", "below/c.csv")]
)
def test_missing_file_is_found_in_another_directory(own_directory, monkeypatch, file, named):
    """The command was started in another directory than the paths begin in."""
    work = own_directory / "work"
    for path in ("a.csv", "data/b.csv", "work/below/c.csv"):
        (own_directory / path).parent.mkdir(parents=True, exist_ok=True)
        (own_directory / path).touch()
    monkeypatch.chdir(work)
    with pytest.raises(PathError) as caught:
        expand(file)
    assert caught.value.hint.endswith(f" {named}")


# --- cache ------------------------------------------------------------------------------------


def _full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", ["no directory", "full"])
def test_cache_that_cannot_be_written_is_no_error_of_the_data(monkeypatch, fault):
    """The error names the variable of the cache, and nothing stays in it."""
    Path("x.jsonl").write_text('{"text": "a"}\n')
    if fault == "full":
        monkeypatch.setattr("pyarrow.ipc.new_stream", _full_disk)
    else:
        monkeypatch.setenv("HYDRATUNE_CACHE", "/dev/null/cache")
    assert errors("x.jsonl") == ["HYDRATUNE_CACHE"]
    assert not [path for path in cache_dir().rglob("*") if path.is_file()]


@pytest.mark.parametrize("fault", ["no directory", "full"])
def test_cached_map_reports_a_cache_that_cannot_be_written(monkeypatch, fault):
    """The same for tokenized rows."""
    if fault == "full":
        monkeypatch.setattr(Dataset, "map", _full_disk)
    else:
        monkeypatch.setenv("HYDRATUNE_CACHE", "/dev/null/cache")
    with pytest.raises(ConfigError) as caught:
        cached_map(Dataset.from_dict({"x": [1]}), lambda batch: batch, {}, "rows")
    assert [problem.key for problem in caught.value.problems] == ["HYDRATUNE_CACHE"]
