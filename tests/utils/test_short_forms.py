"""Short forms of numbers and names."""

import math

import pytest

from hydratune.utils.console import sparkline
from hydratune.utils.short_forms import number_text, settings_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (math.nan, "nan"), (-math.inf, "-inf"), (1234, "1,234"), (0.5, "0.5000"), (2e-5, "2e-05")],
)
def test_number_text_shows_any_number(value, text):
    """Missing numbers are empty; NaN and infinity are named."""
    assert number_text(value) == text


def test_settings_with_the_same_short_name_keep_their_keys():
    """Otherwise, two columns of a table would have the same header."""
    settings = {"trainer.args.learning_rate": 3e-5, "a.dropout": 0.1, "b.dropout": [1, True]}
    assert settings_text(settings) == "lr=3e-05 a.dropout=0.1 b.dropout=[1,true]"


def test_sparkline_marks_what_is_not_finite():
    """An infinite loss does not hide the differences between the others."""
    assert sparkline([1, math.inf, 3, math.nan]) == "▁x█x"
