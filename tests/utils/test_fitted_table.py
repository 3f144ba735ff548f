"""Tables that omit columns in a narrow terminal."""

import io

from hydratune.utils.console import plain_console
from hydratune.utils.fitted_table import Column, FittedTable

COLUMNS = [Column("trial", ["1", "2"], 0), Column("by seed", ["0.5 0.6", ""], 3), Column("state", ["[b]", "done"], 1)]


def printed(width):
    """The lines of the table in a terminal of this width."""
    out = io.StringIO()
    plain_console(file=out, width=width).print(FittedTable(COLUMNS, ["", "red"], "2 trials", "see --csv"))
    return out.getvalue().splitlines()


def test_fitted_table_omits_the_least_important_columns():
    """What fits is not cut; what does not is named."""
    wide, narrow = printed(60), printed(24)
    assert all(text in "".join(wide) for text in ("trial", "by seed", "0.5 0.6", "[b]", "done"))
    assert "not shown" not in "".join(wide)
    assert "by seed" not in "".join(narrow[:-3])
    assert "state" in narrow[1]
    assert "not shown: by seed;" in narrow[-3]
    assert narrow[-1] == "2 trials"
    assert all(len(line) <= 24 for line in narrow)


def test_fitted_table_always_shows_its_main_columns():
    """A column of rank 0 stays even if the terminal is too narrow for it."""
    assert [column.name for column in FittedTable(COLUMNS).fitting(5)] == ["trial"]
