"""Text from users, in the terminal and in plots."""

import io

import matplotlib.cbook
import matplotlib.text
import pytest

from hydratune.utils.console import plain_console, sparkline, watch
from hydratune.utils.plotting import literal

AWKWARD = ["[/INST] ", "[bold]", "[red]x[/red]", ":smile:", "{}", "<script>", "$a$b", "[]", "\\["]


@pytest.mark.parametrize("text", AWKWARD)
def test_console_prints_text_literally(text):
    """Neither markup nor emoji codes are interpreted, in lines and in tables."""
    from rich.table import Table

    out = io.StringIO()
    console = plain_console(file=out, width=200)
    table = Table(text, title=text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    assert out.getvalue().count(text.strip()) == 4


@pytest.mark.parametrize("text", ["$", "$$", "$$$", "$a$b", r"\$", r"a\$b$c$", *AWKWARD])
def test_plot_label_is_no_formula(text):
    """Matplotlib draws each character of an escaped label."""
    assert not matplotlib.cbook.is_math_text(literal(text))
    assert literal(text).replace(r"\$", "$") == text


@pytest.mark.parametrize(
    ("values", "line"), [([1, 2, 3], "▁▄█"), ([3, 1], "█▁"), ([2, 2], "▁▁"), ([], ""), ([0, -1.5, 1.5], "▄▁█")]
)
def test_sparkline_spans_the_values(values, line):
    """The lowest value is the lowest bar, the highest one the highest."""
    assert sparkline(values) == line


def test_watch_updates_until_the_end():
    """The last table is the one that stays."""
    from rich.table import Table

    made = []

    def board():
        made.append(len(made))
        return Table(f"table {made[-1]}")

    out = io.StringIO()
    watch(plain_console(file=out, force_terminal=True, width=80), board, lambda: len(made) > 2, pause=0)
    assert made == [0, 1, 2]
    assert "table 2" in out.getvalue().rpartition("table 1")[2]
