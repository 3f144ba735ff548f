"""What a user did wrong, said once and completely."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# How the command line ends.
FAILED, USER_MISTAKE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
SAVED = 75  # asked to end, after a checkpoint was saved: EX_TEMPFAIL of sysexits.h, "try again"


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


class PrunedError(Exception):
    """A run that its sweep ended early, since others were better by then."""


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


def one_of(options: Iterable[Any]) -> str:
    """`one of [...]`, the way every message lists choices."""
    return f"one of {sorted(options, key=str)}"
