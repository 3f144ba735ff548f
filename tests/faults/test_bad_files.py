"""Whatever is in a file, its rows come in as they are written, or there is a message that names the file."""

import csv
import io
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from any_columns import AnyColumns
from conftest import write_rows
from hydratune.data import LocalFiles
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

FEW = settings(
    derandomize=True, deadline=None, database=None, phases=[Phase.generate], report_multiple_bugs=False, max_examples=60
)

# Characters that some reader of csv or JSON, or some codec, treats in a way of its own.
ODD = st.sampled_from([*"\"',;\t\r\n\0\ufeff\x1a\x1c\x85\u2028\xa0\xe9\u20ac {}[]:\\#0-.eE+aN", "\U0001f600"])
CELLS = st.one_of(
    st.text(ODD, max_size=4),
    st.sampled_from(["", " ", "NA", "null", "007", "1", "-3", "2.5", "1e400", "true", "False", "nan", "2020-01-01", '""']),
    st.integers(-(10**19), 10**19).map(str),
    st.just("huge"),
)  # fmt: skip
NAMES = st.text(st.sampled_from([*"ab .\t'\"\n\xe9"]), min_size=1, max_size=3).filter(str.strip)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    """Of a few words."""
    return AutoTokenizer.from_pretrained(tiny_model)


def load(path, names, **options):
    """The columns of a file, each as a list; or the messages that there are instead."""
    columns = {f"column{i}": name for i, name in enumerate(names)}
    source = LocalFiles(files={"train": str(path), "validation": str(path)}, columns=columns, **options)
    task = AnyColumns(*columns)
    try:
        if found := [*source.check()] or [*source.check_columns(task.columns)]:
            raise ConfigError(*found)
        rows = source.load(task)["train"]
        return [rows[name][:] for name in columns]
    except ConfigError as error:
        problems = error.problems
    in_file = (re.search(r"\ba\.\w+", str(problem)) for problem in problems if "on_bad_rows=skip" not in problem.hint)
    assert all(in_file), problems
    return problems


def written(name, content):
    """A file in a directory of its own."""
    path = Path(tempfile.mkdtemp(dir=".")) / name
    path.write_bytes(content)
    return path


def same(value, cell):
    """Whether a value says what its cell says, to the last digit."""
    if isinstance(value, str):
        return value == cell
    if value is None:
        return cell == ""
    if isinstance(value, bool):
        return str(value) == cell.title()
    return str(value) == cell.strip() if isinstance(value, int) else value == float(cell)


@st.composite
def tables(draw):
    """Names of columns, and rows of as many cells."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    cells = CELLS if len(names) > 1 else CELLS.filter(str.strip)  # blanks alone are no row
    return names, draw(st.lists(st.tuples(*(cells for _ in names)), min_size=1, max_size=4))


def as_csv(names, rows, separator, end):
    """The text of a file, as Python writes it; with one end it quotes what it must, else all."""
    file = io.StringIO(newline="")
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" and len(names) > 1 else csv.QUOTE_ALL
    csv.writer(file, lineterminator=end, quoting=quoting, delimiter=separator).writerows([names, *rows])
    return file.getvalue()


@FEW
@given(
    table=tables(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    suffix=st.sampled_from(["csv", "tsv"]),
)
def test_a_table_as_python_writes_it(table, end, encoding, suffix):
    """Each cell of a csv file comes back, whatever is in it, and however it is quoted, ended and encoded."""
    names, rows = table
    rows = [[cell.replace("huge", "a, b" * 50_000) for cell in row] for row in rows]
    text = as_csv(names, rows, "\t" if suffix == "tsv" else ",", end)
    content = text.encode(encoding, errors="replace")
    loaded = load(written(f"a.{suffix}", content), names, encoding=encoding)
    assert isinstance(loaded, list), loaded
    for column, values in zip(zip(*rows, strict=True), loaded, strict=True):
        assert len(column) == len(values)
        assert all(map(same, values, [c.encode(encoding, errors="replace").decode(encoding) for c in column]))


def parsed(content, encoding):
    """The rows of csv as Python reads it strictly, its names first; None where one is not as long as the names."""
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        rows = [
            row
            for row in csv.reader(io.StringIO(text, newline=""), strict=True)
            if row == [""] or len(row) > 1 or "".join(row).strip()
        ]
    except (UnicodeError, csv.Error):
        return None
    rows = rows[next((i for i, row in enumerate(rows) if "".join(row).strip()), 0) :]
    if (
        not rows
        or len(rows) == 1
        or {*map(len, rows)} != {len(rows[0])}
        or len({*rows[0]}) != len(rows[0])
        or "" in rows[0]
    ):
        return None
    return rows


TORN = st.lists(
    st.sampled_from(
        [
            b"a",
            b"b",
            b"1",
            b",",
            b'"',
            b"\n",
            b"\r",
            b"\t",
            b" ",
            b"\0",
            b"\xe9",
            b"\xef\xbb\xbf",
            b"\xff\xfe",
            b"text,label\n",
            b"x,1\n",
            b'"a,\nb"',
            b'""',
            b"#",
            b"'",
            b"\\",
            b"\x85",
            b"\xe2\x80\xa8",
        ]
    ),
    max_size=12,
).map(b"".join)


@FEW
@given(
    st.one_of(TORN, TORN.map(b"text,label\n".__add__), TORN.map(b"a\n".__add__)),
    st.sampled_from(["utf-8", "latin-1", "utf-16", "ascii"]),
)
def test_bytes_that_may_be_csv(content, encoding):
    """What Python reads as a table comes in as that table; of all else there is a message, with its lines."""
    expected = parsed(content, encoding)
    loaded = load(written("a.csv", content), expected[0] if expected else ["a"], encoding=encoding)
    if expected is None:
        assert isinstance(loaded, tuple), loaded
    else:
        assert isinstance(loaded, list), loaded
        assert [len(one) for one in loaded] == [len(expected) - 1] * len(loaded)
        cells = zip(*expected[1:], strict=True)
        assert all(all(map(same, *pair)) for pair in zip(loaded, cells, strict=True))


# --- JSON ------------------------------------------------------------------------------------------------

LEAVES = {
    "text": st.text(ODD, max_size=4)
    | st.sampled_from(["2020-01-01", "2020-01-01T00:00:00", "12:30", "NA", "null", "1"]),
    "whole": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
    # ten digits: `datasets` rounds numbers inside objects that differ in their names
    "number": st.integers(-(10**9), 10**9) | st.integers(-(10**9), 10**9).map(lambda n: n / 1000),
    "truth": st.booleans(),
}
KINDS = st.recursive(
    st.sampled_from([*LEAVES]),
    lambda k: st.tuples(st.just("list"), k) | st.dictionaries(st.sampled_from(["a", "b", "b.a"]), k, max_size=2),
    max_leaves=3,
)


def of_kind(kind):
    """Values of one type, any of them null or without some of its keys."""
    if isinstance(kind, str):
        return LEAVES[kind] | st.none()
    if isinstance(kind, tuple):
        return st.lists(of_kind(kind[1]), max_size=3) | st.none()
    return st.fixed_dictionaries({}, optional={name: of_kind(one) for name, one in kind.items()}) | st.none()


@st.composite
def objects(draw):
    """Rows of JSON whose columns have one type each."""
    kinds = draw(st.dictionaries(NAMES, KINDS, min_size=1, max_size=3))
    row = st.fixed_dictionaries({}, optional={name: of_kind(kind) for name, kind in kinds.items()})
    return draw(st.lists(row.filter(bool), min_size=1, max_size=4))


def alike(value, given):
    """Whether a value is the one given, where a key that is absent is null."""
    if isinstance(given, dict) and isinstance(value, dict):
        return {*given} <= {*value} and all(alike(one, given.get(name)) for name, one in value.items())
    if isinstance(given, list) and isinstance(value, list):
        return len(given) == len(value) and all(map(alike, value, given))
    if isinstance(value, float) and isinstance(given, float | int):
        return value == pytest.approx(given, rel=1e-12)
    return value == given and isinstance(value, bool) == isinstance(given, bool)


@FEW
@given(
    rows=objects(),
    suffix=st.sampled_from(["json", "jsonl"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    options=st.fixed_dictionaries({"ensure_ascii": st.booleans()}),
    indent=st.sampled_from([None, 2]),
)
def test_objects_as_python_writes_them(rows, suffix, encoding, options, indent):
    """Each value of a JSON file comes back, nested ones too."""
    lines = (
        [json.dumps(rows, indent=indent, **options)]
        if suffix == "json"
        else [json.dumps(row, **options) for row in rows]
    )
    content = "\n".join(lines).encode(encoding, errors="replace")
    documents = (
        [json.loads(content.decode(encoding))]
        if suffix == "json"
        else map(json.loads, content.decode(encoding).split("\n"))
    )
    rows = [row for one in documents for row in (one if isinstance(one, list) else [one])]
    names = sorted({name for row in rows for name in row})
    loaded = load(written(f"a.{suffix}", content), names, encoding=encoding)
    assert isinstance(loaded, list), loaded
    for name, values in zip(names, loaded, strict=True):
        assert len(values) == len(rows)
        assert all(alike(value, row.get(name)) for value, row in zip(values, rows, strict=True)), (name, values)


PIECES = ['{"a": 1}', '{"a": 2, "b": null}', '{"a": "x"}', '{"a": NaN}', '{"a": [1, "x"]}', '{"a": 1,}', '{"a": 1, "a": 2}',
          '{"a": "\\ud800"}', "{}", "[", "]", ",", "\n", "\n", "\r\n", " ", "3", '"x"', "null", "\0", "\ufeff", "\xe9", "\u2028"]  # fmt: skip


@FEW
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.sampled_from(["json", "jsonl"]))
def test_text_that_may_be_json(text, suffix):
    """The objects that Python reads come in as rows; of all else there is a message."""
    loaded = load(written(f"a.{suffix}", text.encode()), ["a"])
    if isinstance(loaded, tuple):
        return
    text = text.removeprefix("\ufeff")
    try:
        document = json.loads(text, parse_constant=lambda _: None)
        given = document if isinstance(document, list) else [document]
    except ValueError:
        given = [json.loads(line) for line in re.split("[\r\n]+", text) if line.strip()]
    assert all(map(alike, loaded[0], [row.get("a") for row in given])), (loaded, given)
    assert len(loaded[0]) == len(given)


# --- what a task makes of rows ---------------------------------------------------------------------------

LABELS = {
    "texts": st.sampled_from(["a", "b", "c", "1", " a"]),
    "ids": st.integers(0, 2),
    "truth values": st.booleans(),
    "anything": st.sampled_from(["a", "", " ", 0, 1, -1, 2.0, 0.5, True, None, [0], {"a": 1}, 2**40]),
}


@st.composite
def labelled(draw):
    """Rows of a text and a label, now and then with something else in their place, or without them."""
    labels = LABELS[draw(st.sampled_from([*LABELS]))]
    texts = st.sampled_from(["good film", "bad", "the " * 40]) | st.sampled_from(["good", "", None, 3, ["x"]])
    odd = draw(st.booleans())
    row = st.fixed_dictionaries({"text": texts if odd else st.just("good book"), "label": labels})
    return draw(st.lists(row, min_size=1, max_size=6))


@FEW
@given(
    train=labelled(),
    validation=st.none() | labelled(),
    names=st.sampled_from([None, None, ["a", "b", "c"], ["0", "1"], ["1", "0"], ["False", "True"]]),
    on_bad_rows=st.sampled_from(["error", "skip"]),
)
def test_rows_that_a_task_takes(tokenizer, train, validation, names, on_bad_rows):
    """A row is encoded under the label that is written, or dropped and counted, or there is a message."""
    folder = Path(tempfile.mkdtemp(dir="."))
    files = {"train": train, "validation": validation}
    paths = {split: str(write_rows(folder / f"{split}.jsonl", rows)) for split, rows in files.items() if rows}
    source = LocalFiles(files=paths, labels=names, on_bad_rows=on_bad_rows, validation_size=0.2)
    task = SequenceClassification()
    try:
        if found := [*source.check()] or [*source.check_columns(task.columns)]:
            raise ConfigError(*found)
        splits = source.load(task)
        data = task.prepare(splits, tokenizer, 32, source.labels)
    except ConfigError:
        return
    sound = [row for row in [*train, *(validation or ())] if isinstance(row["text"], str) and row["text"].strip()]
    assert sum(map(len, splits.values())) <= len(sound)
    called = data.head["id2label"]
    for split, rows in data.splits.items():
        for label, encoded in zip(splits[split]["label"], rows["labels"], strict=True):
            if names and not isinstance(label, str):  # the number of a name, or of an id where names are numbers
                label = str(int(label)) if names[0].isdecimal() else names[label]
            assert called[encoded] == str(label)


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", '{"a": [1]}\n{"a": [%d]}\n'), ("a.json", '[{"a": [1]},\n{"a": [%d]}]')]
)
def test_numbers_that_no_column_holds(name, content):
    """A whole number of more than 64 bits is told by its line, not rounded."""
    path = written(name, (content % 2**63).encode())
    (told, *_) = load(path, ["a"])
    assert (told.source, f"'a' has an integer of more than 64 bits: [{2**63}]" in told.text) == (f"{path}:2", True)


def test_a_number_in_a_document_without_lines():
    """It is reported with the file, and only where the column is read."""
    qa = {"id": 1, "question": "Who?", "answers": [{"text": "Ann", "answer_start": 2**63}]}
    document = {"data": [{"paragraphs": [{"context": "Ann came.", "qas": [qa]}]}]}
    path = written("a.json", json.dumps(document).encode())
    (told, *_) = load(path, ["answers"], format="squad")
    assert (told.source, "64 bits" in told.text) == (str(path), True)
    assert load(path, ["id"], format="squad") == [["1"]]


def test_texts_inside_objects_that_look_like_dates():
    """They stay texts, also where all of them do, and an agent's log is no special kind of rows."""
    row = {
        "id": "2020-01-01",
        "source": {"at": "2020-01-01 10:00"},
        "model": ["2021-12-31"],
        "system_prompt": "",
        "messages": [],
    }
    loaded = load(written("a.jsonl", json.dumps(row).encode()), [*row])
    assert loaded == [[value] for value in row.values()]


@pytest.mark.parametrize(
    ("labels", "names", "details"),
    [([0, 1, 3], ["a", "b"], ("3", "a.jsonl:3")), (["x", "x"], None, ("['x']",)), ([0, 0.5], None, ("float64",))],
)
def test_labels_that_no_head_has(tokenizer, labels, names, details):
    """Upstream fails within a step, or makes a regression of a single label."""
    rows = [{"text": f"good {i}", "label": label} for i, label in enumerate(labels)]
    path = str(write_rows(Path("a.jsonl"), rows))
    task = SequenceClassification()
    source = LocalFiles(files={"train": path, "validation": path}, labels=names)
    with pytest.raises(ConfigError) as caught:
        task.prepare(source.load(task), tokenizer, 32, names)
    problem = caught.value.problems[0]
    assert problem.key == "dataset.columns.label"
    assert all(detail in str(problem) for detail in details)
