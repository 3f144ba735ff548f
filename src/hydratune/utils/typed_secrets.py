"""Record of the secrets that the user has typed as arguments, so that no message repeats them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from hydratune.utils.secret_names import is_secret

values: set[str] = set()

# `KEY=`, `KEY: `, `--flag=`, and `"KEY": ` in a mapping. The name of a key can contain a package: `KEY@PACKAGE`.
_NAME = re.compile(r"(?P<name>[\w./@-]+)['\"\])]*\s*[:=]")
_BEFORE_NAME = " \t'\"+~-"
_NEXT_KEY = re.compile(r",\s*['\"]?[\w.]+['\"]?\s*[:=].*", re.DOTALL)  # the rest of a mapping
_BETWEEN_NAMES = re.compile(r"[^\w-]+")  # in a key, whatever its syntax
_SIGN = re.compile(r"[=\s]")  # ends the key of an override, also if it is not valid
_USER = re.compile(r"(?<![^\s'\"=,/])[^\s'\":@=,/]*:(?!//)(?P<password>\S+)@")  # USER:PASSWORD@HOST, without a scheme
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_AROUND_VALUE = " \t'\"()[]{},"
_BETWEEN_WORDS = re.compile(r"[\s,:=()\[\]{}'\"]+")


def record(arguments: Sequence[str]) -> None:
    """Record the values of all keys and flags with the name of a secret, and each word of lists, mappings, and calls.

    `KEY=VALUE` can be one argument or, with spaces, several. Passwords of addresses without a scheme are recorded, too.
    """
    for value in itertools.chain(_values_of_keys(arguments), _values_inside(arguments), _values_after(arguments)):
        text = _INTERPOLATION.sub("", value)
        values.update({text.strip(), text.strip(_AROUND_VALUE), *_BETWEEN_WORDS.split(text)} - {""})


def _values_of_keys(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the text after each key that contains the name of a secret, and arguments that a space has split from it.

    As in Hydra's grammar, the key of an override ends at the first `=`. Its syntax need not be valid, because an error
    prints the override: `vars[password]=X`, `db_password+=X`.
    """
    for index, argument in enumerate(arguments):
        key, sign, value = argument.partition("=")
        if not sign:
            key, _, value = _SIGN.sub("=", argument.strip(), count=1).partition("=")
        names = [name.strip("-") for name in _BETWEEN_NAMES.split(key)]
        if value and is_secret(".".join(filter(None, names))):
            following = arguments[index + 1 :]
            rest = [*itertools.takewhile(lambda text: "=" not in text and not text.startswith("-"), following)]
            yield from (value.lstrip("=>"), *rest, " ".join((value, *rest)))


def _values_inside(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the values of keys inside mappings, and the passwords of addresses."""
    for argument in arguments:
        yield from (match["password"] for match in _USER.finditer(argument))
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
