"""Warnings about labels that are probably typos."""

import json

import pytest

from hydratune.cli.main import dispatch
from hydratune.data.label_typos import label_typos, typo_warning

WARNING = typo_warning({"positive": 50, "negative": 50, "postive": 1})
TYPOS = ["postive", "positve", "possitive", "positibe", "psoitive", "Positive", " positive"]
INTENDED = [
    *[("B-PER", "I-PER"), ("1", "2"), ("10", "11"), ("cat", "car"), ("label1", "label2"), ("LABEL_1", "LABEL_0")],
    *[("negative", "positive"), ("unhappy", "happy"), ("B-ORGAN", "I-ORGAN"), ("v1.0", "v1.1"), ("noun", "pronoun")],
]


@pytest.mark.parametrize("typo", TYPOS)
def test_a_rare_similar_label_is_a_likely_typo(typo):
    """One letter, two swapped letters, or case and spaces make the difference."""
    counts = {"positive": 500, "negative": 400, typo: 1}
    assert [*label_typos(counts)] == [(typo, "positive")]
    assert all(text in typo_warning(counts) for text in (repr(typo), "500"))


@pytest.mark.parametrize("typo", TYPOS)
@pytest.mark.parametrize("count", [4, 250])
def test_a_label_with_several_rows_is_intended(typo, count):
    """The number of rows decides, not the spelling alone."""
    assert typo_warning({"positive": 500, typo: count}) == ""


@pytest.mark.parametrize(("rare", "frequent"), INTENDED)
def test_codes_tags_and_other_words_are_no_typos(rare, frequent):
    """Labels that differ by intention cause no warning, however rare one of them is."""
    assert typo_warning({frequent: 1000, rare: 1}) == ""


@pytest.mark.parametrize("command", [["-n"], ["check"]])
def test_commands_that_check_data_warn_of_typos(toy, own_directory, capsys, command):
    """Each command prints the rare label, the label that is meant, and their numbers of rows."""
    rows = [{"text": f"film {i}", "label": ("positive", "negative")[i % 2]} for i in range(100)]
    rows += [{"text": "a film", "label": "postive"}]
    (own_directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["dataset.files.train=train.jsonl", "dataset.files.validation=null", "dataset.files.test=null"]
    assert dispatch([*command, *toy, *files]) == 0
    assert WARNING in capsys.readouterr().out


def test_run_warns_of_typos(train, toy, own_directory, caplog):
    """Also a run that was not checked before."""
    rows = [{"text": f"good film {i}", "label": ("positive", "negative")[i % 2]} for i in range(100)]
    rows += [{"text": "a film", "label": "postive"}] * 2
    (own_directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["dataset.files.train=train.jsonl", "dataset.files.validation=null", "dataset.files.test=null"]
    train(*toy, *files, "trainer.args.max_steps=1")
    assert "'postive' (2) of 'positive' (50 rows)" in caplog.text


def test_init_warns_of_typos(own_directory, capsys):
    """A new project starts with a warning about its data."""
    lines = [f"film {i},{('positive', 'negative')[i % 2]}" for i in range(100)]
    (own_directory / "data.csv").write_text("\n".join(["text,label", *lines, "a film,postive"]) + "\n")
    assert dispatch(["init", "project", "--data", "data.csv"]) == 0
    assert WARNING in capsys.readouterr().out
