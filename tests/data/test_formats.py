"""Every format gives the same rows; what is wrong with a file is said by its line."""

import gzip
import json
import re
from pathlib import Path

import pytest
from datasets import Dataset

from any_columns import AnyColumns
from hydratune.data import LocalFiles, SavedDataset
from hydratune.data.columns import Column
from hydratune.tasks.base import Task
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

TASK = SequenceClassification()
ROWS = [{"text": f"text {i}, with a comma", "label": "ab"[i % 2]} for i in range(6)]


class Texts(AnyColumns):
    """A task that takes texts, of which none may be blank."""

    bad_rows = Task.bad_rows

    def __init__(self, name):
        self.columns = {name: Column("text")}


def load(task, *names, **options):
    """The train split of some files, after their checks."""
    given = [str(name) for name in names]
    source = LocalFiles(files={"train": given, "validation": given}, **options)
    assert [*source.check(), *source.check_columns(task.columns)] == []
    return source.load(task)["train"]


def first_bad(task, *names, **options):
    """The error of the first invalid row of some files."""
    with pytest.raises(ConfigError) as caught:
        load(task, *names, **options)
    return caught.value.problems[0]


def test_arrow():
    """An arrow file as `datasets` writes it."""
    Dataset.from_list(ROWS).save_to_disk("saved")
    (path,) = Path("saved").glob("*.arrow")
    assert load(TASK, path)[:]["text"] == [row["text"] for row in ROWS]


@pytest.mark.parametrize("in_splits", [False, True])
def test_saved_to_disk(in_splits):
    """A saved dataset is train; a saved dictionary has its own splits."""
    from datasets import DatasetDict

    rows = Dataset.from_list(ROWS)
    (DatasetDict(train=rows, test=rows) if in_splits else rows).save_to_disk("saved")
    source = SavedDataset(path="saved", validation_size=0.5)
    assert list(source.check()) == []
    splits = source.load(TASK)
    assert set(splits) == {"train", "validation", *(["test"] if in_splits else [])}
    assert sorted([*splits["train"]["text"], *splits["validation"]["text"]]) == [row["text"] for row in ROWS]


def test_a_directory_that_is_none():
    """A directory that save_to_disk did not write is told before anything is loaded."""
    (problem,) = SavedDataset(path="nowhere").check()
    assert (problem.key, "nowhere" in problem.text) == ("path", True)
    Path("nowhere").mkdir()
    (problem,) = SavedDataset(path="nowhere").check()
    assert (problem.key, "nowhere" in problem.text) == ("path", True)


def test_text():
    """A text file is one row a line, blank lines too."""
    Path("a.txt").write_text("one\n\ntwo lines\n")
    assert load(AnyColumns("text"), "a.txt")["text"] == ["one", "", "two lines"]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_conll(separator):
    """Token and label come from the columns that are selected; blank lines, also of a tab, end a sentence."""
    lines = ["-DOCSTART- X O", "", "EU NNP B-org", "rejects VBZ O", "\t", "", "# NN O", "London NNP B-loc", ""]
    Path("a.conll").write_text("\n".join(line if line == "\t" else line.replace(" ", separator) for line in lines))
    rows = load(AnyColumns("tokens", "labels"), "a.conll", columns={"tokens": "0", "labels": "2"})
    assert rows["tokens"] == [["EU", "rejects"], ["#", "London"]]
    assert rows["labels"] == [["B-org", "O"], ["O", "B-loc"]]


def test_squad():
    """One row a question, without answers where it is impossible."""
    qas = [
        {"id": 1, "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]},
        {"id": 2, "question": "When?", "answers": [], "is_impossible": True},
    ]
    document = {"data": [{"title": "t", "paragraphs": [{"context": "Ann came.", "qas": qas}]}]}
    Path("a.json").write_text(json.dumps(document))
    rows = load(AnyColumns("id", "question", "context", "answers"), "a.json", format="squad")
    assert rows["id"] == ["1", "2"]
    assert rows["answers"] == [{"text": ["Ann"], "answer_start": [0]}, {"text": [], "answer_start": []}]


MRQA = [
    {"header": {"dataset": "D", "split": "train"}},
    {
        "id": "",
        "context": "Ann came. Bob left.",
        "qas": [
            {
                "qid": "q1",
                "question": "Who came?",
                "answers": ["Ann"],
                "detected_answers": [{"text": "Ann", "char_spans": [[0, 2]]}],
            },
            {
                "qid": "q2",
                "question": "Who left?",
                "answers": ["Bob"],
                "detected_answers": [{"text": "Bob", "char_spans": [[10, 12]]}],
            },
        ],
    },
]


def test_mrqa():
    """One row per question, whose spans include their last characters; the header is not a row."""
    with gzip.open("a.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, MRQA)))
    rows = load(AnyColumns("id", "question", "context", "answers"), "a.jsonl.gz", format="mrqa")
    assert rows["id"] == ["q1", "q2"]
    assert rows["answers"] == [{"text": ["Ann"], "answer_start": [0]}, {"text": ["Bob"], "answer_start": [10]}]
    assert {*rows["context"]} == {"Ann came. Bob left."}


def test_mrqa_line_of_another_form_is_a_bad_row():
    """It is named by its line."""
    Path("a.jsonl").write_text("\n".join(map(json.dumps, [*MRQA, {"context": "x"}])))
    source = LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"}, format="mrqa")
    with pytest.raises(ConfigError) as caught:
        source.load(AnyColumns("question"))
    assert caught.value.problems[0].source == "a.jsonl:3"


def test_mrqa_read_as_lines_has_to_be_declared():
    """Its lines are contexts, not questions."""
    Path("a.jsonl").write_text("\n".join(map(json.dumps, MRQA)))
    source = LocalFiles(files={"train": "a.jsonl"})
    wanted = {"question": Column("text"), "context": Column("text")}
    assert [problem.key for problem in source.check_columns(wanted)] == ["format"]


def test_squad_of_another_form():
    """A json file that is not SQuAD's is one message."""
    Path("a.json").write_text(json.dumps({"data": [{"text": "x"}]}))
    with pytest.raises(ConfigError) as caught:
        load(AnyColumns("question"), "a.json", format="squad")
    (problem,) = caught.value.problems
    assert (problem.key, problem.source) == ("dataset.files.train", "a.json")
    assert "'paragraphs'" in problem.text


def test_another_encoding():
    """A file in latin-1 is read once its encoding is named."""
    Path("a.csv").write_bytes("text,label\nnaïve,a\ncafé,b\n".encode("latin-1"))
    assert load(TASK, "a.csv", encoding="latin-1")["text"] == ["naïve", "café"]


BAD_FILES = {
    "a.csv": (
        b'text,label\ngood,a\nragged\n"a, quoted\nline",b\ntoo,many,cells\ncaf\xe9,a\n',
        [
            ("a.csv:3", "'ragged'", "missing fields"),
            ("a.csv:6", "'too,many,cells'", "quote "),
            ("a.csv:7", "0xe9 after 'caf'", "dataset.encoding="),
        ],
        ["good", "a, quoted\nline"],
    ),
    "a.jsonl": (
        b'{"text": "good", "label": "a"}\n{oops\n[1]\n\n{"text": 3, "label": "b"}\n{"text": "x", "label": "b"}\n',
        [
            ("a.jsonl:2", "character 2: '{oops'", ""),
            ("a.jsonl:3", "[1]", "{"),
            ("a.jsonl:5", "'text' is a number, but a text in the rows above: 3", ""),
        ],
        ["good", "x"],
    ),
    "a.txt": (b"good\ncaf\xe9\nfine\n", [("a.txt:2", "0xe9 after 'caf'", "dataset.encoding=")], ["good", "fine"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_lines_that_are_no_rows(name):
    """Each error has the file, line, value, and hint, and all are counted; `skip` leaves out only these lines."""
    content, messages, kept = BAD_FILES[name]
    Path(name).write_bytes(content)
    task = AnyColumns("text") if name.endswith("txt") else TASK
    with pytest.raises(ConfigError) as caught:
        load(task, name)
    *problems, total = caught.value.problems
    assert [problem.source for problem in problems] == [source for source, _, _ in messages]
    for problem, (_, text, hint) in zip(problems, messages, strict=True):
        assert (text in problem.text, hint in problem.hint) == (True, True)
    assert f" {len(messages)} of {len(messages) + len(kept)} in train" in total.text
    assert load(task, name, on_bad_rows="skip")["text"] == kept


def test_a_quote_that_never_ends():
    """An open quote swallows the rest of a csv file: it is told by the line on which it opens."""
    Path("a.csv").write_text('text,label\nx,a\n"open,b\ny,a\n')
    assert first_bad(TASK, "a.csv").source == "a.csv:3"


def test_a_conll_line_without_a_label():
    """The sentence of a broken line is left out as a whole."""
    Path("a.conll").write_text("a O\nb\n\nc O\n\n")
    task = AnyColumns("tokens", "labels")
    problem = first_bad(task, "a.conll")
    assert (problem.source, "'b'" in problem.text) == ("a.conll:2", True)
    assert load(task, "a.conll", on_bad_rows="skip")["tokens"] == [["c"]]


def test_ten_are_shown_and_all_counted():
    """Of many bad rows the first ten are shown with their lines, and all are counted."""
    rows = [{"text": None if i % 2 else "x", "label": "ab"[i % 4 // 2]} for i in range(100)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:5:2]))
    source = LocalFiles(files={"train": "a.jsonl", "validation": "b.jsonl"})
    with pytest.raises(ConfigError) as caught:
        source.load(TASK)
    *problems, total = caught.value.problems
    assert [problem.source for problem in problems] == [f"a.jsonl:{line}" for line in range(2, 22, 2)]
    assert {problem.key for problem in problems} == {"dataset.columns.text"}
    assert (total.key, "dataset.on_bad_rows=skip" in total.hints[0]) == ("dataset", True)
    assert [*map(int, re.findall(r"\d+", total.text))] == [50, 100, 10]


def test_bad_rows_are_shown_in_the_order_of_the_file():
    """Lines that are not rows, and rows with invalid values, are found by different checks."""
    Path("a.csv").write_text("text,label\nx,a\n,a\none cell\ny,b\n,b\n")
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files={"train": "a.csv"}).load(TASK)
    assert [problem.source for problem in caught.value.problems[:-1]] == ["a.csv:3", "a.csv:4", "a.csv:6"]


def test_drop_counts(caplog):
    """`dataset.on_bad_rows=skip` says how many rows of which split it left out; nothing else is lost."""
    caplog.set_level("INFO")
    Path("a.csv").write_text("text,label\n,a\nx,a\nonly one cell\ny,b\n")
    Path("b.csv").write_text("text,label\n,a\nx2,a\n")
    source = LocalFiles(files={"train": "a.csv", "validation": "b.csv"}, on_bad_rows="skip")
    splits = source.load(TASK)
    assert (splits["train"]["text"], splits["validation"]["text"]) == (["x", "y"], ["x2"])
    assert "data: 3 invalid rows are skipped: 2 of train, 1 of validation" in caplog.messages


def test_the_line_is_right_over_several_files():
    """Rows of a second file are told by its own name and lines."""
    Path("a.csv").write_text("text,label\nx,a\ny,b\n")
    Path("b.csv").write_text('text,label\n"two\nlines",a\n,b\n')
    problem = first_bad(TASK, "a.csv", "b.csv")
    assert (problem.key, problem.source) == ("dataset.columns.text", "b.csv:4")


def test_a_name_that_says_nothing():
    """A file with an odd ending is told, with the key of the format; naming one reads it."""
    Path("a.annotated").write_text("a O\n\n")
    source = LocalFiles(files={"train": "a.annotated"})
    (problem,) = source.check()
    assert problem.key == "files.train"
    assert all(part in problem.text for part in (".annotated", "a.annotated"))
    assert "dataset.format=" in problem.under("dataset").hints[0]
    assert load(AnyColumns("tokens", "labels"), "a.annotated", format="conll")["tokens"] == [["a"]]


CSV_CELLS = {
    "digits that are no number": ("x,007\ny,+1\n", ["007", "+1"]),
    "an id too long for a number": ("x,12345678901234567890\ny,1\n", ["12345678901234567890", "1"]),
    "whole numbers": ("x,0\ny,-3\n", [0, -3]),
    "an empty cell among whole numbers": ("x,0\ny,\nz,1\n", [0, None, 1]),
    "whole and other numbers": ("x,1\ny, 2.5\nz,1e-3\n", [1.0, 2.5, 0.001]),
    "truth values": ("x,True\ny,false\n", [True, False]),
    "texts last": ("x,\n" + "y,1\n" * 10_000 + "z,two\n", ["", *["1"] * 10_000, "two"]),
    "texts first": ("y,one\n" * 10_000 + "z,002\n", [*["one"] * 10_000, "002"]),
    "a date beside a bad line": ("x,2020-01-01\nragged\n", ["2020-01-01"]),
    "blanks on a line": ("x,a\n  \n\ny,b\n", ["a", "b"]),
}


@pytest.mark.parametrize("case", CSV_CELLS)
def test_cells_are_what_is_written(case):
    """A csv column has one type for all of its rows, and a number only where that changes no digit."""
    content, expected = CSV_CELLS[case]
    Path("a.csv").write_text(f"\ntext,value\n{content}")
    assert load(AnyColumns("value"), "a.csv", on_bad_rows="skip")["value"] == expected


def test_a_column_has_one_type_in_all_files():
    """Labels that are numbers in one csv file and texts in another are the same texts in both."""
    Path("a.csv").write_text("text,label\nx,1\ny,0\n")
    Path("b.csv").write_text("label,text\nmany,x\n1,y\n")
    splits = LocalFiles(files={"train": ["a.csv", "b.csv"], "validation": "a.csv"}).load(TASK)
    assert splits["train"]["label"] == ["1", "0", "many", "1"]
    assert splits["validation"]["label"] == ["1", "0"]


def test_blank_lines_of_one_column():
    """A line of blanks is no row of a csv file with one column, so later rows keep their lines."""
    Path("a.csv").write_text('text\nx\n  \ny\n""\n')
    assert load(AnyColumns("text"), "a.csv")["text"] == ["x", "y", ""]
    assert first_bad(Texts("text"), "a.csv").source == "a.csv:5"


def test_a_label_that_is_missing():
    """An empty cell is no label of its own."""
    Path("a.csv").write_text("text,label\nx,a\ny,\nz,b\n")
    problem = first_bad(TASK, "a.csv")
    assert (problem.key, problem.source) == ("dataset.columns.label", "a.csv:3")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl", "a.json"])
def test_a_byte_order_mark(name, encoding):
    """The mark at the start of a file is in no name and no text."""
    text = {"a.csv": "text\nx\n", "a.txt": "x\n"}.get(name, '{"text": "x"}\n')
    Path(name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(AnyColumns("text"), name, encoding=encoding)["text"] == ["x"]


DOCUMENT = '\n[\n {"text": "007",\n  "label": "2020-01-01"},\n {"text": "caf\xe9", "label": "b"}\n]'


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_a_document(encoding):
    """A JSON document over several lines has the rows that are written, in any encoding."""
    Path("a.json").write_bytes(DOCUMENT.encode(encoding))
    loaded = load(TASK, "a.json", encoding=encoding)
    assert (loaded["text"], loaded["label"]) == (["007", "caf\xe9"], ["2020-01-01", "b"])


def test_bad_rows_of_a_document():
    """They are told by their lines, and can be dropped."""
    Path("a.json").write_text(DOCUMENT.replace("\n]", ',\n 5,\n {"text": 3, "label": "b"},\n {"text": ""}]'))
    with pytest.raises(ConfigError) as caught:
        load(TASK, "a.json")
    problems = {problem.source: problem.text for problem in caught.value.problems}
    assert {"a.json:6", "a.json:7", "a.json:8"} <= {*problems}
    assert (problems["a.json:6"].endswith(" 5"), problems["a.json:7"].endswith(" 3")) == (True, True)
    assert len(load(TASK, "a.json", on_bad_rows="skip")) == 2


def test_texts_that_look_like_dates():
    """Dates in JSON lines stay as they are written."""
    Path("a.jsonl").write_text('{"text": "2020-01-01"}\n{"text": "2021-12-31"}\n')
    assert load(AnyColumns("text"), "a.jsonl")["text"] == ["2020-01-01", "2021-12-31"]


def test_the_first_row_lacks_a_column():
    """Columns are those of the first rows together; half of a surrogate pair and a bad first line are dropped."""
    lines = ["{oops", '{"text": "x"}', '{"text": "y\\ud800", "label": "a"}', *map(json.dumps, ROWS)]
    Path("a.jsonl").write_text("\n".join(lines))
    assert len(load(TASK, "a.jsonl", on_bad_rows="skip")) == 6


def test_one_bad_file_does_not_end_a_run_that_drops():
    """A file without a sound row is left out beside others, also where another split is a document."""
    rows = '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'
    Path("a.jsonl").write_text(rows)
    Path("b.jsonl").write_text('{"text": "z", "label": 5, "label": "\\ud800"}\n')
    Path("c.json").write_text(f"[{rows.strip().replace(chr(10), ',')}]")
    files = {"train": ["a.jsonl", "b.jsonl"], "validation": "c.json"}
    splits = LocalFiles(files=files, on_bad_rows="skip").load(TASK)
    assert (len(splits["train"]), len(splits["validation"])) == (2, 2)


@pytest.mark.parametrize(("name", "content"), [("a.conll", "\n\n"), ("a.csv", "text,label\n"), ("a.jsonl", "\n")])
def test_files_without_a_row(name, content):
    """A file of blank lines or of names alone is one message."""
    Path(name).write_text(content)
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files={"train": name}).load(AnyColumns("text"))
    (problem,) = caught.value.problems
    assert (problem.key, name in problem.text) == ("dataset.files.train", True)


def test_rows_are_converted_once(tmp_path):
    """The same bytes are read from the cache the second time."""
    Path("a.csv").write_text("text,label\nx,a\nragged\ny,b\n")
    times = set()
    for _ in range(2):
        load(TASK, "a.csv", on_bad_rows="skip")
        (copy, *_) = (tmp_path / "cache" / "rows").iterdir()
        times.add(copy.stat().st_mtime_ns)
    assert len(times) == 1


@pytest.mark.parametrize("splits", [{}, {"train": "data"}])
def test_squad_read_as_json_has_to_be_declared(splits):
    """Its articles are no rows."""
    Path("a.json").write_text('{"version": "1.1", "data": [{"title": "t", "paragraphs": []}]}')
    source = LocalFiles(files={"train": "a.json"}, splits=splits)
    wanted = {"question": Column("text"), "context": Column("text")}
    assert [problem.key for problem in source.check_columns(wanted)] == ["format"]


ON_ONE_LINE = [{"text": "x", "label": "a"}, [], {"text": " ", "label": "b"}, {"text": "y", "label": "b"}]


@pytest.mark.parametrize(("indent", "places"), [(None, [", row 2", ", row 3"]), (1, [":6", ":7"])])
def test_json_document_names_its_rows(indent, places):
    """A document on one line names the number of a row, others its line."""
    Path("a.json").write_text(json.dumps(ON_ONE_LINE, indent=indent))
    source = LocalFiles(files={"train": "a.json", "validation": "a.json"})
    with pytest.raises(ConfigError) as caught:
        source.load(SequenceClassification())
    assert {f"a.json{place}" for place in places} <= {problem.source for problem in caught.value.problems}


def test_json_splits_on_one_line_name_their_rows():
    """Rows are counted within the split."""
    Path("a.json").write_text(json.dumps({"test": ON_ONE_LINE[:1], "train": ON_ONE_LINE}))
    source = LocalFiles(files={"train": "a.json"}, splits={"train": "train", "validation": "test"})
    with pytest.raises(ConfigError) as caught:
        source.load(SequenceClassification())
    assert "a.json, row 3 of train" in {problem.source for problem in caught.value.problems}


REPEATED = '{"text": "x", "label": "a", "label": "b"}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "y", "label": "a"}\n' + REPEATED),
        ("a.jsonl", '{"text": "y", "label": "a"}\n{"text": {"x": 1, "x": 2}, "label": "a"}'),
        ("a.json", '[{"text": "y", "label": "a"},\n' + REPEATED + "]"),
    ],
)
def test_repeated_key_of_a_row_is_an_error(name, content):
    """Python would take the last value, as it would of two columns of a CSV file with one name."""
    Path(name).write_text(content)
    problem = first_bad(TASK, name)
    assert problem.source.endswith(":2")
