"""Errors on the terminal: `error:` and `hint:` lines, wrapped and colored only there."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from hydratune.utils.console import plain_console
from hydratune.utils.errors import Problem
from hydratune.utils.escaping import escape_control
from hydratune.utils.provenance import redact


def print_errors(problems: Sequence[Problem], ending: str = "") -> None:
    """Print errors to stderr, each with its hint, and the number of errors, with an ending, if there are several."""
    for problem in problems:
        print_error(problem.message, *problem.hints)
    if (count := sum(problem.count for problem in problems)) > 1:
        print_line(f"{count:,} errors{ending}")


def print_error(message: str, *hints: str) -> None:
    """Print an error to stderr, and below it how to fix it."""
    print_line(message, "error: ", "bold red")
    for hint in filter(None, hints):
        print_line(hint, "  hint: ", "bold cyan")


def print_line(message: str, prefix: str = "", style: str = "") -> None:
    """Print a message to stderr: on a terminal wrapped to its width, elsewhere on one line.

    Rich colors the prefix on a terminal unless NO_COLOR is set. It writes past the guard of stderr, which would escape
    the colors, so secrets and control characters are replaced here.
    """
    from rich.text import Text

    console = plain_console(stderr=True)
    line = prefix + escape_control(str(redact(message)))
    if console.is_terminal:
        line = _wrapped(line, shutil.get_terminal_size().columns)
    text = Text(line)
    text.stylize(style, end=len(prefix))
    console.print(text, soft_wrap=True)


def _wrapped(text: str, width: int) -> str:
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent="    ",
        break_long_words=False,  # keys, paths, and commands can be copied
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    )
    return "\n".join(wrapped for line in text.splitlines() for wrapped in wrapper.wrap(line))
