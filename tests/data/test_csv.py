"""CSV and TSV files with other delimiters, without a header, with comments, and with quotes in their texts."""

from pathlib import Path

import pytest

from hydratune.data import LocalFiles
from hydratune.tasks.regression import Regression
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

TASK = SequenceClassification()


def source(text, name="a.csv", **options):
    """A file of some text, as a dataset."""
    Path(name).write_text(text, newline="")
    return LocalFiles(files={"train": name, "validation": name}, **options)


def problems(text, name="a.csv", task=TASK, **options):
    """The keys of what is wrong with a file, before it is read."""
    files = source(text, name, **options)
    return [problem.key for problem in [*files.check()] or [*files.check_columns(task.columns)]]


def rows(text, name="a.csv", **options):
    """Texts and labels of a file that is in order."""
    assert problems(text, name, **options) == []
    train = source(text, name, **options).load(TASK)["train"]
    return train["text"][:], train["label"][:]


@pytest.mark.parametrize(
    ("delimiter", "cell"),
    [(";", ";"), ("|", "|"), ("\t", "\t"), ("\\t", "\t"), ("||", "||"), ("::", "::"), (" ||| ", " ||| ")],
)
def test_csv_delimiter(delimiter, cell):
    """Cells are split by the delimiter alone, also where quotes enclose it."""
    text = f'text;label\n"one{cell} two";a\nthree, four;b\n'.replace(";", cell)
    assert rows(text, delimiter=delimiter) == ([f"one{cell} two", "three, four"], ["a", "b"])


@pytest.mark.parametrize("delimiter", [";", "|", "\t", "||", "::", "|||"])
def test_csv_delimiter_that_has_to_be_set_is_named(delimiter):
    """A file of one column that another delimiter splits is one message, with that delimiter."""
    files = source("text;label\nx, y;a\nz;b\n".replace(";", delimiter))
    (problem,) = files.check_columns(TASK.columns)
    assert problem.key == "delimiter"
    assert repr(delimiter) in problem.text
    assert (
        f"'dataset.delimiter={delimiter if delimiter != chr(9) else chr(92) + 't'}'"
        in problem.under("dataset").hints[0]
    )


def test_csv_delimiter_of_a_header_in_quotes():
    """A header that is no row of CSV with commas is one with another delimiter."""
    assert set(problems('"text";"label"\n"x";"a"\n"y";"b"\n')) == {"delimiter"}


@pytest.mark.parametrize("mark", ["#", "%", "//"])
def test_csv_comment_before_the_header_has_to_be_declared(mark):
    """The message names the key."""
    text = f"{mark} made by hand\ntext,label\nx,a\ny,b\n"
    assert set(problems(text)) == {"comment"}
    assert rows(text, comment=mark)[0] == ["x", "y"]


def test_csv_delimiter_of_a_header_with_commas():
    """The delimiter that leads to the columns of the task is named where commas split the header too."""
    assert problems("text;label;a, b\nx;1;2, 3\ny;0;4, 5\n") == ["delimiter"]


def test_tsv_delimiter_can_be_set():
    """The name of a file does not decide where a delimiter is set."""
    assert rows("text;label\nx\ty;a\n", "a.tsv", delimiter=";") == (["x\ty"], ["a"])


@pytest.mark.parametrize("delimiter", ["", '"', "\n", '|"|'])
def test_csv_delimiter_that_cannot_be(delimiter):
    """It has no characters that end lines or enclose cells."""
    assert problems("text,label\nx,a\n", delimiter=delimiter) == ["delimiter"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"text": 1, "label": 0}},
        {"columns": {"text": "1", "label": "0"}},
        {"column_names": ["label", "text"]},
        {"column_names": ["y", "x"], "columns": {"text": "x", "label": 0}},
    ],
    ids=str,
)
def test_csv_without_a_header(options, suffix):
    """The first row is data; columns go by position, counted from 0, or by `column_names`."""
    text = "a,one\nb,two\n".replace(",", "," if suffix == "csv" else "\t")
    assert rows(text, f"a.{suffix}", header=False, **options) == (["one", "two"], ["a", "b"])


HEADERLESS = {
    "a label that recurs": "good film\t1\nbad film\t0\nfine film\t1\n",
    "numbers": "good film,fine film,0.5\nbad film,no film,1.25\n",
    "a repeated value": "x,x,a\ny,z,b\n",
    "an empty value": "x,,a\ny,z,b\n",
    "a sentence": "the film was very good indeed,a\nfine,b\n",
}


@pytest.mark.parametrize("case", HEADERLESS)
def test_csv_first_row_that_looks_like_data(case):
    """It is one message to set `header`, never the name of a column."""
    name = "a.tsv" if "\t" in HEADERLESS[case] else "a.csv"
    keys = problems(HEADERLESS[case], name)
    assert set(keys) <= {"header", "files.train", "files.validation"}
    assert "header" in keys or case == "a repeated value"


def test_csv_first_row_whose_value_is_taken_for_a_position():
    """`label=1` finds no column called by the first label of a file without a header."""
    assert set(problems("text,1\nbad,0\nfine,1\n", columns={"label": 1})) == {"header"}


@pytest.mark.parametrize("names", [(0, 1), ("0", "1")])
def test_csv_columns_named_by_numbers(names):
    """A header of numbers names columns, as pandas writes them, also behind an index."""
    columns = dict(zip(("text", "label"), names, strict=True))
    assert rows("0,1\nx,1\ny,0\n", columns=columns) == (["x", "y"], [1, 0])
    assert rows(",0,1\n0,x,1\n1,y,0\n", columns=columns) == (["x", "y"], [1, 0])


def test_csv_columns_named_by_truth_values():
    """YAML's true is the name `true`."""
    assert rows("true,false\nx,a\n", columns={"text": True, "label": False}) == (["x"], ["a"])


def test_csv_column_named_by_a_truth_value_in_another_case():
    """YAML reads True as true, so the message says to quote the name."""
    Path("a.csv").write_text("True,label\nx,a\n")
    (problem,) = LocalFiles(files={"train": "a.csv"}, columns={"text": True}).check_columns(TASK.columns)
    assert "\"columns.text='True'\"" in problem.hints[0]


@pytest.mark.parametrize("typed", [{"a": 1}, [{"a": 1}]])
def test_columns_that_are_no_names(typed):
    """A mapping is one message."""
    assert problems("text,label\nx,a\n", columns={"text": typed}) == ["columns.text"]


@pytest.mark.parametrize(
    "options",
    [
        {"column_names": ["text", "label"]},
        {"column_names": ["text"], "header": False},
        {"column_names": ["text", "text"], "header": False},
        {"column_names": ["1", "0"], "header": False},
    ],
    ids=str,
)
def test_csv_column_names_that_cannot_be(options):
    """They need a file without a header, one name for each column, and no name that is the position of another."""
    keys = problems("x,a\ny,b\n", columns={"text": 0, "label": 1}, **options)
    assert {key.removeprefix("dataset.") for key in keys} == {"column_names"}


@pytest.mark.parametrize(
    "options",
    [{"delimiter": ";"}, {"header": False}, {"column_names": ["a"]}, {"comment": "#"}, {"quoting": True}],
    ids=str,
)
def test_csv_options_of_a_file_that_has_no_columns(options):
    """An option that would change nothing is an error."""
    assert {*problems('{"text": "x", "label": "a"}\n', "a.jsonl", **options)} == {*options}


def test_csv_comments():
    """Lines that start with the prefix are skipped between rows, not inside quotes; lines are counted on."""
    text = '# made by hand\ntext,label\n# "note\n#no,a\n"x\n# y",a\nz # w,b\n,c\n'
    assert rows(text, comment="#", on_bad_rows="skip") == (["x\n# y", "z # w"], ["a", "b"])
    with pytest.raises(ConfigError) as caught:
        source(text, comment="#").load(TASK)
    assert caught.value.problems[0].source == "a.csv:8"


GLUE = 'text\tlabel\n"Fine," she said.\t1\nhe said "no"\t0\n"\t1\nsize 5"\t0\n'


def test_tsv_quotes_that_are_text():
    """Quotes that enclose no cells are a part of the texts, as in GLUE."""
    texts, labels = rows(GLUE, "a.tsv")
    assert texts == ['"Fine," she said.', 'he said "no"', '"', 'size 5"']
    assert labels == [1, 0, 1, 0]


def test_tsv_quotes_never_join_lines():
    """Two cells that each have one quote are two rows."""
    text = 'text\tlabel\n"one\t0\ntwo "quoted" words\t1\nthree"\t1\n'
    assert rows(text, "a.tsv")[0] == ['"one', 'two "quoted" words', 'three"']


ENCLOSED = {
    "a doubled quote": ('plain\ta\n"say ""hi"""\ta\n', 'say "hi"'),
    "all cells": ('"x"\t"a"\n"y"\t"b"\n', "y"),
    "two lines": ('plain\ta\n"two\nlines"\ta\n', "two\nlines"),
    "a tab": ('plain\ta\n"a\ttab"\ta\n', "a\ttab"),
}


@pytest.mark.parametrize("case", ENCLOSED)
def test_tsv_quotes_that_enclose_cells(case):
    """A file as a writer of CSV makes it is read as one."""
    text, last = ENCLOSED[case]
    assert rows(f"text\tlabel\n{text}", "a.tsv")[0][-1] == last


@pytest.mark.parametrize(("quoting", "text"), [(True, "Fine."), (False, '"Fine."')])
def test_tsv_quotes_that_may_be_either_are_an_error(quoting, text):
    """Where both readings make sense, `quoting` decides."""
    file = 'text\tlabel\n"Fine."\t1\nNo.\t0\n'
    assert set(problems(file, "a.tsv")) == {"quoting"}
    assert rows(file, "a.tsv", quoting=quoting)[0] == [text, "No."]


def test_csv_quotes_can_be_text():
    """`quoting=false` reads the quotes of a csv file as text."""
    assert rows('text,label\n"Fine" he said,a\n', quoting=False)[0] == ['"Fine" he said']


def test_csv_options_on_the_command_line(compose):
    """A delimiter or a prefix that Hydra's grammar has only in quotes needs none."""
    cfg = compose("dataset=local", "dataset.files.train=a.csv", "dataset.delimiter=;", "dataset.comment=#")
    assert (cfg.dataset.delimiter, cfg.dataset.comment) == (";", "#")


def test_csv_streams_as_it_is_read():
    """A file with a delimiter of its own and without a header gives the same rows as a stream."""
    text = 'x;1\n"y;z";0\n'
    options = {"delimiter": ";", "header": False, "columns": {"text": 0, "label": 1}}
    stream = source(text, streaming=True, **options).load(Regression())["train"]
    assert sorted(row["text"] for row in stream) == ["x", "y;z"]


@pytest.mark.parametrize("cells", [["1.50", "2"], ["10", "11"], ["true", "FALSE"], ["1e5", " 3"]])
@pytest.mark.parametrize("streaming", [False, True])
def test_csv_texts_that_are_all_numbers(cells, streaming):
    """Cells have no types, so a column that the task reads as text has the texts of the file."""
    text = "text,label\n" + "".join(f"{cell},{'ab'[i]}\n" for i, cell in enumerate(cells))
    files = source(text, streaming=streaming, labels=["a", "b"])
    assert sorted(row["text"] for row in files.load(TASK)["train"]) == sorted(cells)


def test_csv_decimal_comma():
    """Numbers are read with the decimal separator that is set; texts keep their commas."""
    text = "text;label\n1,5 m;0,5\n2,5 m;-1,25\n3 m;2\n"
    files = source(text, delimiter=";", decimal=",")
    assert [*files.check()] == []
    rows = files.load(Regression())["train"]
    assert (rows["text"][:], rows["label"][:]) == (["1,5 m", "2,5 m", "3 m"], [0.5, -1.25, 2.0])


ESCAPED = 'text,label\n"He said \\"no, never\\" to me",neg\n"a \\", b",pos\nc,neg\n'


@pytest.mark.parametrize("text", [ESCAPED, ESCAPED.replace('"He said \\"no, never\\" to me"', "d")])
def test_csv_escaped_quotes_have_to_be_set(text):
    """The error names the key that reads the file."""
    with pytest.raises(ConfigError) as caught:
        source(text).load(SequenceClassification())
    assert "dataset.escapechar=" in caught.value.problems[0].hint


def test_csv_escaped_quotes():
    """A backslash in front of a quote makes it text."""
    train = source(ESCAPED, escapechar="\\").load(SequenceClassification())["train"]
    assert train["text"][:] == ['He said "no, never" to me', 'a ", b', "c"]


def test_csv_quotes_that_are_not_escaped_have_another_fix():
    """Neither key is proposed that does not read the file."""
    with pytest.raises(ConfigError) as caught:
        source('text,label\n"a "b, c" d",neg\ne,pos\n').load(SequenceClassification())
    assert "dataset." not in caught.value.problems[0].hint


def test_csv_escape_character_on_the_command_line(compose):
    """A backslash is typed as such."""
    cfg = compose("dataset=local", "dataset.files.train=a.csv", "dataset.escapechar=\\")
    assert cfg.dataset.escapechar == "\\"


@pytest.mark.parametrize("value", ["", "ab", '"'])
def test_csv_escape_character_that_is_invalid(value):
    """It is one character, and not a quote."""
    assert problems("text,label\nx,1\n", escapechar=value) == ["escapechar"]


def test_csv_numbers_in_any_spelling():
    """Signs and zeros in front are parts of numbers where the task reads numbers."""
    files = source("text,label\na,+3\nb,-1.5\nc,007\nd,+.5e1\ne,12345678901234567890\n")
    train = files.load(Regression())["train"]
    labels = {row["text"]: row["label"] for row in train}
    assert labels == {"a": 3.0, "b": -1.5, "c": 7.0, "d": 5.0, "e": 12345678901234567890.0}


def test_csv_decimal_comma_that_has_to_be_set():
    """The message names the key."""
    with pytest.raises(ConfigError) as caught:
        source("text;label\nx;0,5\ny;1,25\n", delimiter=";").load(Regression())
    assert "dataset.decimal=," in caught.value.problems[0].hint


@pytest.mark.parametrize(
    "options", [{"columns": {"text": 0, "label": 1}}, {"column_names": ["text", "label"]}], ids=str
)
def test_csv_header_that_is_declared_absent(options):
    """The names of columns never become a row, or a label."""
    assert set(problems("Text,Label\nx,1\ny,0\nz,1\n", header=False, **options)) == {"header"}


def test_csv_first_row_with_a_missing_value_is_data():
    """It is no header of a column of numbers."""
    assert problems("x,N/A\ny,1\nz,0\nw,1\n", header=False, columns={"text": 0, "label": 1}) == []


def test_text_file_with_columns():
    """A text file where a task reads columns is one message about its format."""
    assert set(problems("x\ta\ny\tb\n", "a.txt")) == {"format"}


@pytest.mark.parametrize("delimiter", [None, ";"])
def test_csv_line_of_excel_before_the_header_has_to_be_declared(delimiter):
    """`sep=;` tells Excel the delimiter; the message has both options."""
    text = "sep=;\r\ntext;label\r\ngood;pos\r\nbad;neg\r\n"
    (problem,) = {*source(text, delimiter=delimiter).check_columns(TASK.columns)}
    (hint,) = problem.under("dataset").hints
    assert problem.key == "comment"
    assert "'dataset.comment=\"sep=\"' 'dataset.delimiter=;'" in hint
    assert rows(text, comment="sep=", delimiter=";")[0] == ["good", "bad"]


def test_csv_encoding_of_a_file_in_utf16_is_named():
    """Excel's "Unicode text"."""
    Path("a.csv").write_text("text,label\nx,y\n", encoding="utf-16")
    (problem,) = {*LocalFiles(files={"train": "a.csv"}).check()}
    assert (problem.key, problem.hints[0].split()[-1]) == ("encoding", "encoding=utf-16")


def bad(text, name="a.csv", **options):
    """The message of the first invalid row."""
    with pytest.raises(ConfigError) as caught:
        source(text, name, **options).load(TASK)
    return caught.value.problems[0]


def test_csv_delimiter_of_several_characters_is_never_text():
    """A part of it is, and so is all of it inside quotes; a short row is invalid."""
    text = 'text||label\n"a||b"||x\nc|d||y\ne|f\n'
    assert rows(text, delimiter="||", on_bad_rows="skip") == (["a||b", "c|d"], ["x", "y"])
    assert bad(text, delimiter="||").source == "a.csv:4"


def test_csv_delimiter_of_several_characters_has_a_reserved_character():
    """The character that stands for it is never read as one."""
    assert bad("text||label\na\ufdd0b\nc||y\n", delimiter="||").source == "a.csv:2"


RAGGED = {
    "a header without the row names of R": ("text,label\n1,x,a\n2,y,b\n", {}, "name of the first column"),
    "a last cell with delimiters": ("label,text\na,Hello, world\nb,x\n", {}, "dataset.max_splits=1"),
    "more cells": ("text,label\nHello, world,a\nx,b\n", {}, "quote "),
    "fewer cells": ("text,label\nHello\nx,b\n", {}, "missing fields"),
    "trailing delimiters": ("text,label\nHello,a,\nx,b,\n", {}, "dataset.ignore_extra_cells=true"),
    "another delimiter": ("a;b,text,label\n1;x, y\n2;v, w, x, y\n", {}, "'dataset.delimiter=;'"),
    "one column": ("text\nHello, world\nx, y, z\n", {"columns": {"label": "text"}}, "dataset.delimiter="),
    "quotes are text": (
        'text\tlabel\n"Hello\tworld\ta\nx"\tb\n',
        {"delimiter": r"\t", "quoting": False},
        "replace tabs",
    ),
}


@pytest.mark.parametrize("name", RAGGED)
def test_csv_row_of_another_length(name):
    """The message has the delimiter unless it is a comma, and the hint depends on what is in the row."""
    text, options, fix = RAGGED[name]
    problem = bad(text, **options)
    assert any(fix in hint for hint in problem.hints)
    if "delimiter" in options:
        assert repr(options["delimiter"].replace("\\t", "\t")) in problem.text


def test_csv_spaces_after_delimiters():
    """The message names the key, with which neither names nor cells start with a space, also before quotes."""
    text = 'text, label\n"x, y", a\nz, b\n'
    assert problems(text) == ["skip_initial_space"]
    assert rows(text, skip_initial_space=True) == (["x, y", "z"], ["a", "b"])


def test_csv_spaces_of_an_optional_column():
    """It is not left out without a word."""
    assert set(problems("text,label, text_pair\nx,a, z\ny,b, z\n")) == {"skip_initial_space"}


def test_csv_spaces_of_a_column_that_is_not_read():
    """Other columns may be called anything."""
    assert problems("text,stars, label\nx,1, a\ny,0, b\n", columns={"label": "stars"}) == []


def test_csv_spaces_behind_a_name():
    """The name can be pasted into a shell."""
    (problem,) = source("text,label \nx,a\ny,b\n").check_columns(TASK.columns)
    assert (problem.key, "'columns.label=\"label \"'" in problem.hints[0]) == ("columns.label", True)


def test_csv_spaces_behind_a_name_that_the_config_has():
    """The key of a column has the task's name, so no other key is suggested."""
    (problem,) = source("review ,label\nx,a\ny,b\n", columns={"text": "review"}).check_columns(TASK.columns)
    assert (problem.key, "'review '" in problem.text, "columns.review" in problem.hint) == ("columns", True, False)


def test_jsonl_name_with_spaces_can_be_pasted():
    """Names of other files, too."""
    Path("a.jsonl").write_text('{"text": "x", "the label": "a"}\n')
    (problem,) = LocalFiles(files={"train": "a.jsonl"}).check_columns(TASK.columns)
    assert "'columns.label=\"the label\"'" in problem.hints[0]


def test_csv_test_file_without_labels():
    """The message names the command that predicts them."""
    Path("a.csv").write_text("text,label\nx,a\ny,b\n")
    Path("b.csv").write_text("id,text\n1,x\n2,y\n")
    (problem,) = LocalFiles(files={"train": "a.csv", "test": "b.csv"}).check_columns(TASK.columns)
    without, predict = problem.under("dataset").hints
    assert (problem.key, "'label'" in problem.text) == ("columns.label", True)
    assert "dataset.files.test=null" in without
    assert "hydratune predict RUN b.csv" in predict


def test_csv_test_file_with_labels_of_another_name():
    """The name is proposed."""
    Path("a.csv").write_text("text,label\nx,a\ny,b\n")
    Path("b.csv").write_text("text,labels\nx,a\n")
    (problem,) = LocalFiles(files={"train": "a.csv", "test": "b.csv"}).check_columns(TASK.columns)
    assert "columns.label=labels" in problem.hints[0]


@pytest.mark.parametrize(("names", "hint"), [(["pos/1.txt", "neg/2.txt"], "one csv"), (["x/a.tsv"], "**/*.tsv")])
def test_folder_of_folders(names, hint):
    """The message goes by the files inside."""
    for name in names:
        path = Path("data", name)
        path.parent.mkdir(parents=True)
        path.write_text("text\tlabel\nx\ta\n")
    (problem,) = LocalFiles(files={"train": "data"}).check()
    assert hint in problem.hint


def test_csv_max_splits():
    """The last cell has the later delimiters, and quotes are text, as in TREC."""
    text = 'DESC:def What is "an atom ?\nHUM:ind Who ?\n'
    options = {"header": False, "columns": {"label": 0, "text": 1}, "delimiter": " ", "max_splits": 1}
    assert rows(text, **options) == (['What is "an atom ?', "Who ?"], ["DESC:def", "HUM:ind"])


@pytest.mark.parametrize("options", [{"max_splits": 0}, {"max_splits": 1, "quoting": True}])
def test_csv_max_splits_that_cannot_be(options):
    """It is a number from 1, and quotes enclose nothing."""
    assert problems("text,label\nx,a\n", **options) == ["max_splits"]


STS = "a\t0\tlow\tx\ty\nb\t1\thigh\tu\tv\tlicense\tanother\n"


@pytest.mark.parametrize("text", [STS, "".join(reversed(STS.splitlines(keepends=True)))], ids=["short", "long"])
def test_csv_ignores_extra_cells_on_request(text):
    """Rows of STS-B have 7 to 9 cells; without the option, the longer ones are invalid."""
    names = ["genre", "id", "label", "text", "pair"]
    options = {"header": False, "column_names": names, "delimiter": "\\t"}
    with pytest.raises(ConfigError):
        source(text, **options).load(TASK)
    texts, labels = rows(text, **options, ignore_extra_cells=True)
    assert {*zip(texts, labels, strict=True)} == {("x", "low"), ("u", "high")}
    with pytest.raises(ConfigError):  # a missing cell stays invalid
        source("text,label\nx,a\ny\n", ignore_extra_cells=True).load(TASK)


def test_csv_header_of_a_joined_file_is_no_row():
    """The names of the columns do not become a text and a label."""
    text = "text,label\nx,a\ntext,label\ny,b\n"
    assert bad(text).source == "a.csv:3"
    assert rows(text, on_bad_rows="skip") == (["x", "y"], ["a", "b"])


@pytest.mark.parametrize(
    ("name", "text", "typed"),
    [
        ("a.csv", '{"text": "x", "label": "a"}\n', "dataset.format=jsonl"),
        ("a.json", "text,label\nx,a\n", "dataset.format=csv"),
        ("a.txt", "good\t1\nbad\t0\ngood film\t1\n", r"'dataset.delimiter=\t' dataset.header=false"),
        ("a.txt", "text||label\nx||a\n", "'dataset.delimiter=||' to"),
    ],
)
def test_file_of_another_format_is_named(name, text, typed):
    """The fix goes by the content."""
    Path(name).write_text(text)
    files = LocalFiles(files={"train": name})
    problems = [*files.check()] or [*files.check_columns(TASK.columns)]
    assert typed in str(problems[0].under("dataset"))


def test_csv_options_of_a_file_that_is_not_there():
    """Only the file is wrong, since its format is unknown."""
    files = LocalFiles(files={"train": "none.csv"}, delimiter=";", ignore_extra_cells=True)
    assert [problem.key for problem in files.check()] == ["files.train"]
