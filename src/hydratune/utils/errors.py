"""What a user did wrong, said once and completely."""

from __future__ import annotations

import difflib
import logging
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

_YAML_WORDS = ("true", "false", "null", "nan", "inf")  # texts that are other values without quotes

# Exit codes of the command line; docs/faults.md says when each is used.
FAILED, USER_MISTAKE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
SAVED = 75  # asked to end, and the same command continues: EX_TEMPFAIL of sysexits.h, "try again"


@dataclass(frozen=True)
class Mistake:
    """One mistake: `<key>: expected <expected>, got <got>. <fix>`."""

    key: str
    expected: str
    got: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key}: expected {self.expected}, got {self.got}. {self.fix}"

    def under(self, parent: str) -> Mistake:
        """The same mistake with its key placed below `parent`."""
        return Mistake(f"{parent}.{self.key}" if self.key else parent, self.expected, self.got, self.fix)


class ConfigError(ValueError):
    """Mistakes that the user can mend; the command line prints them without a traceback and exits with 2."""

    def __init__(self, *mistakes: Mistake) -> None:
        self.mistakes = tuple(dict.fromkeys(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


class MachineLostError(Exception):
    """Another machine of the run does not answer any more; the message names it."""


class PrunedError(Exception):
    """A run that its sweep ended early, since others were better by then."""


@contextmanager
def optional_record(name: str) -> Iterator[None]:
    """Continue without an optional record, such as a plot, if it cannot be made, and log why.

    Errors that the user must fix and broken invariants of our own code are still raised.

    Args:
        name: The record, as the warning names it, e.g. `git.diff`.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if _is_invariant(error):
            raise
        log.warning("not recorded: %s (%s: %s)", name, type(error).__name__, one_line(error)[:300])
        log.debug("not recorded: %s", name, exc_info=True)


def _is_invariant(error: Exception) -> bool:
    """Tell an `assert` of this package from one of a library."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__")) if trace else ""
    return isinstance(error, AssertionError) and module.startswith("hydratune.")


def one_line(error: BaseException) -> str:
    """What an exception says, as the middle of a message: on one line, without a final stop."""
    return " ".join(str(error).split()).rstrip("!.")


def nearest(name: object, options: Iterable[str]) -> str | None:
    """The option most like `name`, or None where nothing is close enough to be what was meant."""
    close = difflib.get_close_matches(str(name), list(options), n=1, cutoff=0.5)
    return close[0] if close else None


def did_you_mean(name: object, options: Iterable[str], otherwise: str) -> str:
    """A question that names the nearest option, or `otherwise`."""
    close = nearest(name, options)
    return f"Did you mean {close}?" if close else otherwise


def setting(key: str, value: str) -> str:
    """`key=value` as it is typed in a shell, with the quotes that Hydra and the shell need."""
    if re.fullmatch(r"[A-Za-z_][\w.-]*", value, re.ASCII) and value.lower() not in _YAML_WORDS:
        return f"{key}={value}"
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ("\\" + match[2] if match[2] else ""), value)
    return shlex.quote(f'{key}="{escaped}"')


def one_of(options: Iterable[Any]) -> str:
    """`one of [...]`, the way every message lists choices."""
    return f"one of {sorted(options, key=str)}"
