"""Labels as data sets publish them: whole numbers as floats, and marks of missing labels."""

import pytest

from hydratune.errors import ConfigError
from hydratune.tasks.sequence_classification import SequenceClassification
from test_labels import Rows, meanings

TASK = SequenceClassification()


def test_label_floats_beside_a_missing_one():
    """The missing label is the one invalid row; pandas writes the other IDs as floats then."""
    rows = [{"text": text, "label": label} for text, label in (("x", 1.0), ("y", None), ("z", 0.0))]
    assert meanings(Rows(rows=rows, labels=["no", "yes"], on_bad_row="drop")) == {"x": "yes", "z": "no"}


def test_label_floats_with_a_fraction_are_rejected():
    """These are scores, not labels."""
    with pytest.raises(ConfigError) as error:
        Rows(rows=[{"text": "x", "label": 1.0}, {"text": "y", "label": 1.5}]).load(TASK)
    assert "task=regression" in error.value.mistakes[0].fix


@pytest.mark.parametrize(("names", "doubtful"), [(["a", "-"], 1), (["pos", "Pos "], 1), (["a", "b"], 0)])
def test_label_names_that_may_be_mistaken_are_reported(names, doubtful, caplog):
    """SNLI's label `-` means that there is none."""
    Rows(rows=[{"text": f"t {name}", "label": name} for name in names]).load(TASK)
    assert sum("the labels" in record.message for record in caplog.records) == doubtful
