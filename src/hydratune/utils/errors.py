"""Errors that the user can fix, and helpers for their messages."""

from __future__ import annotations

import difflib
import json
import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hydratune.utils.provenance import redact

log = logging.getLogger(__name__)

MOST_OPTIONS = 8  # in a message
_LONG_ENOUGH = 5  # characters of a beginning, which would otherwise fit by chance
_YAML_WORDS = ("true", "false", "null", "nan", "inf")  # texts that YAML reads as other values without quotes

# Exit codes of the command line; docs/faults.md describes when each one is used.
FAILED, USER_ERROR, INTERRUPTED, TERMINATED = 1, 2, 130, 143
SAVED = 75  # ended on request, and the same command resumes: EX_TEMPFAIL of sysexits.h, "try again"

KEY = "\ue000"  # stands for the full key of a problem in its text and hint
_PLAIN_KEY = re.compile(r"[\w .,:/@+~=%\[\]-]*")  # no character with which a shell starts code
NODE = "\ue002"  # precedes another key of the same node in a text or hint, e.g. f"{NODE}header"; `under` completes it


@dataclass(frozen=True)
class Problem:
    """One error that the user can fix.

    Example:
        >>> print(Problem("columns.text", f"{KEY} is required", f"set {KEY}=COLUMN").under("dataset"))
        dataset.columns.text is required (hint: set dataset.columns.text=COLUMN)

    Args:
        key: Key of the config, option, or argument that has the error.
        text: One sentence in lower case, without a final period, that says what is wrong. It names the key, as `KEY`,
            if neither the place nor the sentence itself does.
        hint: What to do, in the imperative, or a similar key that exists; several hints are several lines.
        source: Place of the error as `path:line`, with the path as the user typed it; empty if it is in no file.
        count: Number of errors that it stands for: 0 for a summary of other errors, more than one for errors that are
            not listed.
    """

    key: str
    text: str
    hint: str = ""
    source: str = ""
    count: int = 1

    @property
    def message(self) -> str:
        """The place, if there is one, and the sentence."""
        return (f"{self.source}: " if self.source else "") + self._filled(self.text)

    @property
    def hints(self) -> list[str]:
        """All hints."""
        is_plain = _PLAIN_KEY.fullmatch(self.key)  # else a shell could run code in a command that is pasted
        return [self._filled(line) for line in self.hint.splitlines() if is_plain or KEY not in line]

    def _filled(self, text: str) -> str:
        return text.replace(KEY, self.key).replace(NODE, "")

    def __str__(self) -> str:
        return self.message + (f" (hint: {'; '.join(self.hints)})" if self.hint else "")

    def under(self, parent: str) -> Problem:
        """Return the same error with its key, and the other keys of its node, placed below `parent`."""
        text, hint = (part.replace(NODE, f"{NODE}{parent}.") for part in (self.text, self.hint))
        return replace(self, key=f"{parent}.{self.key}" if self.key else parent, text=text, hint=hint)

    def moved(self, old: str, new: str) -> Problem:
        """Return the same error of a node that is at `new`, not `old`; an empty path makes its keys relative."""
        start = f"{new}." if new else ""
        text, hint = (part.replace(f"{NODE}{old}.", f"{NODE}{start}") for part in (self.text, self.hint))
        is_inside = f"{self.key}.".startswith(f"{old}.")
        key = (start + self.key.removeprefix(old).removeprefix(".")).removesuffix(".") if is_inside else self.key
        return replace(self, key=key, text=text, hint=hint)


def invalid_value(key: str, requirement: str, value: object, hint: str = "", source: str = "") -> Problem:
    """Return the error `KEY must be <requirement>, not <value>`."""
    return Problem(key, f"{KEY} must be {requirement}, not {value}", hint, source)


def display_value(value: object) -> str:
    """Return a value of a config as a user writes it: `null`, `true`, and `false` as in YAML, text in quotes."""
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


class ConfigError(ValueError):
    """Errors that the user can fix; the command line prints them without a traceback and exits with code 2.

    Args:
        problems: The errors, of which duplicates are dropped.

    Attributes:
        after_start: Whether a run or a sweep had started.
    """

    def __init__(self, *problems: Problem) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        self.after_start = False
        super().__init__("\n".join(map(str, self.problems)))


class MachineLostError(Exception):
    """Error for another machine of the run that no longer answers; the message names it."""


class NotFiniteError(RuntimeError):
    """Error for a run whose loss, gradient, or validation loss is infinite or NaN.

    Args:
        problem: What was not finite, at which step, and what to change.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class PrunedError(Exception):
    """Error for a run that its sweep pruned, since other runs were better by then."""


@contextmanager
def optional_record(name: str) -> Iterator[None]:
    """Log a warning and continue if an optional record, such as a plot, cannot be made.

    Errors that the user must fix and broken invariants of our own code are still raised.

    Args:
        name: Name of the record in the warning, e.g. `git.diff`.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if _is_invariant(error):
            raise
        log.warning("not recorded: %s (%s: %s)", name, type(error).__name__, one_line(error, 300))
        log.debug("not recorded: %s", name, exc_info=True)


def _is_invariant(error: Exception) -> bool:
    """Return whether an error comes from an `assert` of this package, not of a library."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__")) if trace else ""
    return isinstance(error, AssertionError) and module.startswith("hydratune.")


def one_line(error: object, longest: int | None = None) -> str:
    """Return the message of an exception for use inside another message: on one line, without a final period.

    Secrets are masked before the message is cut, since a part of a secret is not found later.

    Args:
        error: The exception.
        longest: Maximum number of characters; None for all.
    """
    return " ".join(str(redact(str(error))).split()).rstrip("!.")[:longest]


def nearest(name: object, options: Iterable[str], cutoff: float = 0.7) -> str | None:
    """Return the option that is similar enough to `name`, or whose beginning is; None if there is none.

    Args:
        name: Unknown name.
        options: Valid names.
        cutoff: Lowest similarity, from 0 to 1, as `difflib` measures it.
    """
    text, names = str(name), list(options)
    if swapped := next((option for option in names if _is_swapped(text, option)), None):
        return swapped
    if close := difflib.get_close_matches(text, names, n=1, cutoff=cutoff):
        return close[0]
    starts = [option[: len(text) + 1] for option in names]
    close = difflib.get_close_matches(text, starts, n=1, cutoff=0.8) if len(text) >= _LONG_ENOUGH else []
    return names[starts.index(close[0])] if close and starts.count(close[0]) == 1 else None


def _is_swapped(text: str, option: str) -> bool:
    """Return whether two adjacent characters of `text` must be swapped for `option`, e.g. in `bret` for `bert`."""
    positions = [i for i, pair in enumerate(zip(text, option, strict=False)) if pair[0] != pair[1]]
    if len(text) != len(option) or len(positions) != 2 or positions[1] != positions[0] + 1:
        return False
    first, second = positions
    return (text[first], text[second]) == (option[second], option[first])


def similar(kind: str, name: object, options: Iterable[str], otherwise: str = "", prefix: str = "") -> str:
    """Return the hint for an unknown name: an option that is similar to it, else `otherwise`, else up to eight options.

    Args:
        kind: Kind of the options in the singular, e.g. `metric`.
        name: Unknown name.
        options: Valid names.
        otherwise: Hint if no option is similar.
        prefix: Text before the similar option, so that it can be pasted, e.g. `model.config.`.

    Example:
        >>> similar("metric", "acuracy", ["accuracy", "f1"])
        'a similar metric exists: accuracy'
        >>> similar("metric", "bleu", ["accuracy", "f1"])
        'available metrics: accuracy, f1'
    """
    names = list(options)
    if close := nearest(name, names):
        return f"a similar {kind} exists: {prefix}{close}"
    return otherwise or (f"available {kind}s: {', '.join(names)}" if 0 < len(names) <= MOST_OPTIONS else "")


def child_key(key: str, name: object) -> str:
    """Return the dotted key of a value below the node `key`, in which dots of the value's own name are written as `·`.

    So nobody can name a value such that its key is another one: `dataset.sources.a·columns` has no columns.
    """
    return f"{key}.{str(name).replace('.', '·')}".lstrip(".")


def setting(key: str, value: str) -> str:
    """Return `key=value` as it is typed in a shell, with the quotes that Hydra and the shell need."""
    quoted = hydra_text(value)
    is_plain = quoted == value and _PLAIN_KEY.fullmatch(key.replace(KEY, "").replace(NODE, ""))
    return f"{key}={value}" if is_plain else shlex.quote(f"{key}={quoted}")


def mapping_setting(key: str, mapping: Mapping[Any, str], more: str = "") -> str:
    """Return `key={value:name,...}` as it is typed in a shell, where braces need quotes.

    Args:
        key: Key of the config.
        mapping: Values, which are numbers or simple words, and their names.
        more: Text after the last pair, e.g. `,...`.
    """
    pairs = ",".join(f"{value}:{hydra_text(name)}" for value, name in mapping.items())
    return shlex.quote(f"{key}={{{pairs}{more}}}")


def hydra_text(value: str) -> str:
    """Return a text as Hydra's grammar accepts it: in quotes, unless it is a simple word."""
    if re.fullmatch(r"(\.{1,2}/)*[A-Za-z_/][\w./-]*", value, re.ASCII) and value.lower() not in _YAML_WORDS:
        return value
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ("\\" + match[2] if match[2] else ""), value)
    return f'"{escaped}"'


def one_of(options: Iterable[Any], command: str | None = None) -> str:
    """Return the options as `'a', 'b', or 'c'`; a list of more than eight is cut or replaced.

    Args:
        options: The valid values.
        command: Command that lists more than eight options; without it, the first eight are listed.
    """
    listed = [display_value(option) for option in sorted(options, key=str)]
    if len(listed) > MOST_OPTIONS:
        first = ", ".join(listed[:MOST_OPTIONS])
        return f"a name that `{command}` lists" if command else f"one of {first}, ... ({len(listed)} in total)"
    return join_or(listed)


def join_or(texts: Sequence[str]) -> str:
    """Return texts as `a`, `a or b`, or `a, b, or c`."""
    comma = ", " if len(texts) > 2 else " "
    return f"{', '.join(texts[:-1])}{comma}or {texts[-1]}" if len(texts) > 1 else "".join(texts)
