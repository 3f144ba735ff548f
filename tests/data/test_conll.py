"""CoNLL and CoNLL-U files: the columns that are selected, comments, and what cannot be told from the file."""

from pathlib import Path

import pytest

from hydratune.data import LocalFiles
from hydratune.data.columns import Column
from hydratune.tasks.token_classification import TokenClassification
from hydratune.utils.errors import ConfigError

TASK = TokenClassification()
GERMEVAL = """#\thttp://example.org/a\t[2009-10-17]
1\tAnn\tB-PER\tO
2\tin\tO\tO
3\tBern\tB-LOC\tB-PER

#\thttp://example.org/b\t[2009-10-18]
1\tBern\tB-LOC\tO

"""
CONLLU = """# sent_id = 1
# text = vamonos ya
1-2\tvamonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tempty\t_\tNOUN\t_\t_\t_\t_\t_\t_
3\tya\tya\tADV\t_\t_\t1\tadvmod\t_\t_

"""


def source(text, name="a.conll", **options):
    """A file of some text, as a dataset."""
    Path(name).write_text(text, newline="")
    return LocalFiles(files={"train": name, "validation": name}, **options)


def problems(text, name="a.conll", **options):
    """The keys of what is wrong with a file, before it is read."""
    files = source(text, name, **options)
    return [problem.key for problem in [*files.check()] or [*files.check_columns(TASK.columns)]]


def rows(text, name="a.conll", **options):
    """Tokens and labels of a file that is in order."""
    assert problems(text, name, **options) == []
    train = source(text, name, **options).load(TASK)["train"]
    return train["tokens"][:], train["labels"][:]


@pytest.mark.parametrize("names", [("1", "2"), (1, 2), ("token", "outer")])
def test_conll_columns_are_selected_by_number_or_name(names):
    """Positions count from 0; `column_names` gives names; comments are no tokens."""
    columns = dict(zip(("tokens", "labels"), names, strict=True))
    options = {"columns": columns, "column_names": ["index", "token", "outer", "inner"] if "token" in names else None}
    tokens, labels = rows(GERMEVAL, **options)
    assert tokens == [["Ann", "in", "Bern"], ["Bern"]]
    assert labels == [["B-PER", "O", "B-LOC"], ["B-LOC"]]


@pytest.mark.parametrize(
    "text",
    [
        GERMEVAL,
        "EU NNP B-NP B-ORG\n\n",
        "1\tAnn\n2\tsaid\n\n1\tBern\n",
        "1\tO\n2\tO\n3\tB-LOC\n\n1\tO\n",
        "O\tno\nB-LOC\tBern\n",
        "NOUN cats\nVERB chase\nNOUN mice\n\nNOUN cats\nVERB sleep\n",
    ],
    ids=["index", "four", "index and token", "index and tag", "tag and token", "part of speech and token"],
)
def test_conll_ambiguous_columns_are_rejected(text):
    """Neither an index nor the first and last of several columns are taken without being selected."""
    assert problems(text) == ["columns"]


def test_conll_ambiguous_columns_are_shown():
    """The message has each column with its first values."""
    (problem,) = source(GERMEVAL).check_columns(TASK.columns)
    assert all(part in problem.text for part in ("0: '1' '2' '3'", "1: 'Ann' 'in' 'Bern'", "3: 'O' 'O' 'B-PER'"))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_conll_two_columns_are_tokens_and_labels(end, mark):
    """A prefix of the language is a part of the token, whatever the ends of lines and the name of the file."""
    text = f"{mark}en:Ann\tB-PER\nen:said\tO\n\nen:no\tO\n".replace("\n", end)
    tokens, labels = rows(text, "a.txt", format="conll")
    assert (tokens, labels) == ([["en:Ann", "en:said"], ["en:no"]], [["B-PER", "O"], ["O"]])


def test_conll_two_columns_in_the_other_order():
    """Positions also select the columns of a file of two."""
    assert rows("O Ann\nO said\n", columns={"tokens": 1, "labels": 0}) == ([["Ann", "said"]], [["O", "O"]])


def test_conll_marks_of_documents_are_no_tokens():
    """-DOCSTART- ends a sentence, with and without a blank line, whatever its columns."""
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n-DOCSTART- -X-\nBonn NNP B-NP B-LOC\n"
    tokens, _ = rows(text, columns={"tokens": 0, "labels": 3})
    assert tokens == [["EU"], ["Bonn"]]


def test_conll_token_that_is_a_number_sign():
    """A line of `#` with the columns of a token and a known label is a token, also a hashtag."""
    tokens, _ = rows("# O\n1 O\n\n#tag\tO\nx O\n\n# newdoc id = 3\nx O\n")
    assert tokens == [["#", "1"], ["#tag", "x"], ["x"]]


def test_conll_hashtag_without_a_label_is_no_comment():
    """It is an invalid line; `#begin document` is a comment."""
    text = "#begin document (bc/cctv); part 000\nAnn\tO\n\n#tag\nx\tO\n"
    assert rows(text, on_bad_rows="skip")[0] == [["Ann"]]


def test_conll_comment_that_may_be_a_token_is_rejected():
    """A comment of as many words as there are columns is an error, unless `comment` says what it is."""
    text = "# newdoc\nAnn B-PER\nsaid O\n"
    with pytest.raises(ConfigError):
        rows(text)
    assert rows(text, comment="#")[0] == [["Ann", "said"]]
    assert rows(text, comment="")[0] == [["#", "Ann", "said"]]


def test_conll_line_with_a_trailing_tab_shows_it():
    """The message quotes the tab; the other sentences can be used."""
    text = "Ann\tB-PER\nsaid\tO\t\n\nyes\tO\n"
    with pytest.raises(ConfigError) as caught:
        source(text).load(TASK)
    problem = caught.value.problems[0]
    assert (problem.source, r"'said\tO\t'" in problem.text) == ("a.conll:2", True)
    assert rows(text, on_bad_rows="skip")[0] == [["yes"]]


@pytest.mark.parametrize("names", [("FORM", "UPOS"), ("form", "upos"), (1, 3)])
def test_conllu_words_by_the_names_of_its_columns(names):
    """Comments, ranges of multiword tokens and empty nodes are no words."""
    tokens, labels = rows(CONLLU, "a.conllu", columns=dict(zip(("tokens", "labels"), names, strict=True)))
    assert (tokens, labels) == ([["vamos", "nos", "ya"]], [["VERB", "PRON", "ADV"]])


@pytest.mark.parametrize(
    ("name", "columns"), [("a.conll", {"tokens": "1", "labels": "3"}), ("a.conll", {}), ("a.txt", {})]
)
def test_conllu_under_another_name_is_recognized(name, columns):
    """The lines of multiword tokens and empty nodes are not words, and `conll` would read them as words."""
    files = source(CONLLU, name, columns=columns)
    (problem,) = [*files.check()] or [*files.check_columns(TASK.columns)]
    assert problem.key == "format"
    assert "dataset.format=conllu" in problem.under("dataset").hints[0]


def test_conllu_columns_have_to_be_selected():
    """Any of them may hold the labels."""
    assert problems(CONLLU, "a.conllu") == ["columns"]


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.csv"])
def test_conll_in_a_file_of_another_format_is_recognized(name):
    """The message names the format to set."""
    assert problems("Ann\tB-PER\nsaid\tO\n\nyes\tO\n", name) == ["format"]


def test_conll_without_labels_can_be_predicted_for():
    """A file of one column is one of tokens."""
    files = source("Ann\nsaid\n\nno\n")
    wanted = {"tokens": Column("texts")}
    assert [*files.check(), *files.check_columns(wanted)] == []
    assert files.read_one(wanted)[1].splits["validation"]["tokens"][:] == [["Ann", "said"], ["no"]]


@pytest.mark.parametrize("header", ["token\tlabel", "Word NER"])
def test_conll_header_is_no_token(header):
    """A first line with the names of the columns is skipped; the same words as tokens are not."""
    text = f"{header}\nAnn B-PER\ntoken O\n\nin O\n\n".replace(" ", "\t" if "\t" in header else " ")
    assert rows(text) == ([["Ann", "token"], ["in"]], [["B-PER", "O"], ["O"]])


def test_conll_names_that_are_tags_too_are_no_header():
    """A tag that other lines have is no name of a column."""
    assert rows("word tag\nx tag\n\n") == ([["word", "x"]], [["tag", "tag"]])
