"""Escaping of text in plots, so that labels are drawn as they are."""

from __future__ import annotations

import html
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 60


def literal(text: object) -> str:
    r"""Escape a label for matplotlib, which reads text between two `$` as a formula; `\$` is a plain `$`."""
    return str(text).replace("$", r"\$")


def literal_html(text: object) -> str:
    """Escape a text for plotly, which reads tags such as `<b>` and `<a>` in all texts."""
    return html.escape(str(text), quote=False)


def shortened(text: object) -> str:
    """Cut a label to 60 characters, so that it leaves room for the axes."""
    text = str(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


@contextmanager
def no_warnings() -> Iterator[None]:
    """Silence the libraries: matplotlib warns about fonts that lack a character, optuna about experimental plots."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
