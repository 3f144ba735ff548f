"""Record of the secrets that the user has typed as arguments, so that no message repeats them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from hydratune.utils.secret_names import is_secret

values: set[str] = set()

# `KEY=`, `KEY: `, `--flag=`, and `"KEY": ` in a mapping. The name of a key can contain a package: `KEY@PACKAGE`.
_NAME = re.compile(r"(?P<name>[\w./@-]+)['\"]?\s*[:=]")
_BEFORE_NAME = " \t'\"+~-"
_NEXT_KEY = re.compile(r",\s*['\"]?[\w.]+['\"]?\s*[:=].*", re.DOTALL)  # the rest of a mapping
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_AROUND_VALUE = " \t'\"()[]{},"
_BETWEEN_WORDS = re.compile(r"[\s,:=()\[\]{}'\"]+")


def record(arguments: Sequence[str]) -> None:
    """Record the values of all keys and flags with the name of a secret, and each word of lists, mappings, and calls.

    `KEY=VALUE` can be one argument or, with spaces, several.
    """
    for value in itertools.chain(_values_inside(arguments), _values_after(arguments)):
        text = _INTERPOLATION.sub("", value)
        values.update({text.strip(), text.strip(_AROUND_VALUE), *_BETWEEN_WORDS.split(text)} - {""})


def _values_inside(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        for match in _NAME.finditer(argument):
            if is_secret(match["name"].lstrip("-")):
                value = argument[match.end() :]
                is_whole = not argument[: match.start()].strip(_BEFORE_NAME)
                yield value if is_whole else _NEXT_KEY.sub("", value)


def _values_after(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the values in `--flag VALUE`, `KEY= VALUE`, `KEY =VALUE`, and `KEY = VALUE`."""
    for argument, *following in zip(arguments, [*arguments[1:], ""], [*arguments[2:], "", ""], strict=False):
        is_name = argument.startswith("-") or argument.rstrip().endswith((":", "=")) or following[0][:1] in (":", "=")
        if is_name and is_secret(argument.strip(f"{_BEFORE_NAME}:=")):
            yield next((value for text in following if (value := text.lstrip(" :="))), "")
