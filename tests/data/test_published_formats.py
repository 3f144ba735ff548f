"""Files in the formats of published data sets load with options alone, or are rejected with the key to set."""

from pathlib import Path

import pytest

from hydratune.data import LocalFiles
from hydratune.tasks.regression import Regression
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.tasks.token_classification import TokenClassification
from hydratune.utils.errors import ConfigError

CASES = Path(__file__).parents[3] / "shared" / "cases"  # beside a checkout, where there are any
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="no cases beside this checkout")
LABELS, NUMBERS, TAGS = SequenceClassification(), Regression(), TokenClassification()


def load(name, task, **options):
    """The training rows of a case."""
    source = LocalFiles(files={"train": str(CASES / name)}, on_bad_rows="skip", **options)
    if wrong := [*source.check()] or [*source.check_columns(task.columns)]:
        raise ConfigError(*wrong)
    return source.load(task)["train"]


LOADS = {
    "headerless_pairs.csv": (NUMBERS, {"header": False, "columns": {"text": 0, "text_pair": 1, "label": 2}}, 54),
    "headerless_labels.tsv": (LABELS, {"header": False, "column_names": ["text", "label"]}, 54),
    "semicolon.csv": (LABELS, {"delimiter": ";"}, 54),
    "indexed_four_columns.tsv": (TAGS, {"format": "conll", "columns": {"tokens": 1, "labels": 2}}, 36),
    "small.conllu": (TAGS, {"columns": {"tokens": "FORM", "labels": "UPOS"}}, 27),
    "prefixed_tokens.txt": (TAGS, {"format": "conll"}, 27),
    "one_na_number.csv": (NUMBERS, {}, 53),
    "columns_0_1.csv": (LABELS, {"columns": {"text": 0, "label": 1}}, 36),
}


@pytest.mark.parametrize("name", LOADS)
def test_case_loads(name):
    """All rows come in, of which a tenth is held out."""
    task, options, rows = LOADS[name]
    assert len(load(name, task, **options)) == rows


REJECTED = {
    "headerless_pairs.csv": (NUMBERS, {}, "header"),
    "headerless_labels.tsv": (LABELS, {}, "header"),
    "semicolon.csv": (LABELS, {}, "delimiter"),
    "indexed_four_columns.tsv": (TAGS, {"format": "conll"}, "columns"),
    "small.conllu": (TAGS, {}, "columns"),
    "prefixed_tokens.txt": (TAGS, {}, "format"),
    "trailing_tab.conll": (TAGS, {}, "dataset"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_case_is_rejected_with_the_key_to_set(name):
    """Nothing is guessed."""
    task, options, key = REJECTED[name]
    with pytest.raises(ConfigError) as caught:
        load(name, task, **options)
    assert caught.value.problems[0].key == key
