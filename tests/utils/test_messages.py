"""Errors on the terminal."""

import io
import sys

import pytest

from hydratune.utils.errors import Problem
from hydratune.utils.messages import print_error, print_errors


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


def as_terminal(monkeypatch):
    """Make standard error a terminal of 40 columns; a fixture cannot, since pytest sets it again for the test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_print_errors_ends_with_their_number(capsys):
    """Each error has its hint below it; the last line is their number and the ending."""
    print_errors(
        [Problem("a", "a must be 1, not 2", "set a=1"), Problem("b", "bad", source="f:3")], "; nothing was run"
    )
    assert capsys.readouterr().err.splitlines() == [
        "error: a must be 1, not 2",
        "  hint: set a=1",
        "error: f:3: bad",
        "2 errors; nothing was run",
    ]


def test_print_errors_does_not_count_one(capsys):
    """One error has no number."""
    print_errors([Problem("a", "a must be 1, not 2", "set a=1")], "; nothing was run")
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_print_error_keeps_long_lines_in_files(capsys):
    """Outside a terminal, a message is one line, so that `grep` finds it."""
    print_error("word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_print_error_wraps_on_a_terminal(monkeypatch):
    """Lines fit the width; what can be copied, such as a path, is not broken."""
    terminal = as_terminal(monkeypatch)
    path = "/a/very/long/path/that-does-not-fit/into-forty-columns.csv"
    print_error(f"some words before the path {path} and some after it, as many as fit")
    lines = [line.replace("\x1b[1;31m", "").replace("\x1b[0m", "") for line in terminal.getvalue().splitlines()]
    assert len(lines) > 2
    assert [len(line) <= 40 or path in line for line in lines] == [True] * len(lines)
    assert path in terminal.getvalue()


def test_print_error_colors_only_the_prefix(monkeypatch):
    """The word before the colon is red on a terminal."""
    terminal = as_terminal(monkeypatch)
    print_error("no [red]markup[/red]")
    assert terminal.getvalue() == "\x1b[1;31merror: \x1b[0mno [red]markup[/red]\n"


def test_print_error_honors_no_color(monkeypatch):
    """With NO_COLOR, a terminal gets plain text."""
    terminal = as_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    print_error("x")
    assert "\x1b[31" not in terminal.getvalue() and "[1;31" not in terminal.getvalue()


def test_print_error_escapes_control_characters(capsys):
    """A message cannot move the cursor."""
    print_error("a\x1b[2Jb")
    assert "\x1b" not in capsys.readouterr().err


def test_print_error_masks_secrets(capsys, monkeypatch):
    """A value of the environment whose name says that it is secret is not printed."""
    monkeypatch.setenv("MY_SECRET", "canary-51ab")
    print_error("got canary-51ab")
    assert "canary" not in capsys.readouterr().err


@pytest.mark.parametrize(("counts", "line"), [((1, 1, 0), "2 errors"), ((1, 0), ""), ((1, 1, 20), "22 errors")])
def test_number_of_errors_counts_no_summary(counts, line, capsys):
    """A summary is no error of its own, but stands for the errors that are not listed."""
    print_errors([Problem("k", f"text {i}", count=count) for i, count in enumerate(counts)])
    lines = capsys.readouterr().err.splitlines()[len(counts) :]
    assert lines == ([line] if line else [])
