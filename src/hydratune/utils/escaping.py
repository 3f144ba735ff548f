r"""Escaping of text from users, models, and data for the terminal, logs, Markdown, and spreadsheets.

Labels, tags, names, and messages can come from someone else. Each function returns a text that the reader interprets
literally, and returns ordinary text unchanged. Escape sequences have the form `\u001b`, which is also valid in JSON.
`html.escape` escapes HTML; `hydratune.utils.plotting` escapes labels of plots.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# C0 except for tab and newline, DEL, C1, separators of lines, marks that reorder text, and lone surrogates
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
# Markup, an underscore at the border of a word, and what GitHub turns into a link without markup
_MARKDOWN = re.compile(r"[\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.|(?<=\w)@", re.IGNORECASE)
_PLAIN = re.compile(r"[\w./@:~+ -]*[\w./]")  # a path without characters of markup
_SIGN = r"[=+\-@\uff1d\uff0b\uff0d\uff20]"
_FORMULA = re.compile(rf"[\s\0]*{_SIGN}|[\t\r\n]")
# A formula in the middle of a cell, after a character at which a spreadsheet may split lines. In many countries it
# splits at semicolons and ignores the quotes of cells that do not follow one.
_SPLIT_FORMULA = re.compile(rf"([;\t\r\n])(?=[\s\0\"]*{_SIGN})")


def escape_control(text: str) -> str:
    r"""Replace characters that control a terminal or the direction of text, except for tab and newline.

    >>> escape_control("a\x1b[2Jb")
    'a\\u001b[2Jb'
    """
    return _CONTROL.sub(lambda match: _json_escape(match[0]), text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def escape_markdown(text: str) -> str:
    r"""Escape a text for one line of Markdown, so that it has no links, images, HTML, or table cells.

    >>> escape_markdown("![x](https://example.com) <b>")
    '!\\[x\\](https\\://example.com) &lt;b&gt;'
    """
    line = escape_control(" ".join(text.split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\g<0>", line)


def markdown_code(text: str) -> str:
    r"""Format a Hub ID or a path as code for a cell of a table in Markdown; escape other text instead.

    A table ends a cell at a backslash and a bar, also within code, so no fence is safe for all texts.

    >>> print(markdown_code("org/name"), markdown_code("a|b"))
    `org/name` a\|b
    """
    return f"`{text}`" if _PLAIN.fullmatch(text) else escape_markdown(text)


def escape_formula(value: Any) -> Any:
    """Escape a cell of a CSV file that a spreadsheet would execute; leave numbers unchanged, also those in texts.

    >>> [escape_formula(cell) for cell in ("=1+1", "-1.5", -1.5, "- no", "a;=1+1")]
    ["'=1+1", '-1.5', -1.5, "'- no", "a;'=1+1"]
    """
    if not isinstance(value, str):
        return value
    if _is_number(value):
        return value
    text = escape_control(_SPLIT_FORMULA.sub(r"\1'", value))
    return f"'{text}" if _FORMULA.match(value) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def escape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose cells and names of rows and columns are safe in a spreadsheet."""
    has_texts = any(column.kind not in "biuf" for column in table.dtypes)
    cells = table.map(escape_formula) if has_texts else table
    return cells.rename(index=escape_formula, columns=escape_formula)
