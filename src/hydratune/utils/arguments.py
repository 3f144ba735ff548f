"""Argument parsers of the commands, with errors as `error:` and `hint:` lines."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydratune.utils.errors import USER_ERROR, similar
from hydratune.utils.file_suffixes import SUFFIXES
from hydratune.utils.logs import QUIET, VERBOSE
from hydratune.utils.messages import print_error
from hydratune.utils.other_names import meaning_of

# Messages of argparse, and ours in their place.
_MESSAGES = (
    (r"^argument (\S+): invalid int value: (.+)$", r"\1 must be an integer, not \2"),
    (r"^argument (\S+): invalid choice: (.+) \(choose from (.+)\)$", r"\1 must be one of \3, not \2"),
    (r"^argument (\S+): expected one argument$", r"\1 requires a value"),
    (r"^argument (\S+): not allowed with argument (\S+)$", r"\1 and \2 cannot be combined"),
    (r"^unrecognized arguments: ", "unexpected arguments: "),
)
VERBOSITY_FLAGS = {QUIET: ("-q", "--quiet"), VERBOSE: ("-v", "--verbose")}  # of every command
# Short options of other tools -> the long ones that they stand for.
_SHORT_OPTIONS = {
    "-b": "batch-size",
    "-d": "data",
    "-f": "file",
    "-i": "input",
    "-m": "model",
    "-o": "output",
    "-s": "seed",
    "-t": "to",
}
_RUNS = ("checkpoint", "ckpt", "model", "model_dir", "model_path", "run", "run_dir", "run_id")  # names of RUN
_DATA = ("dataset", *(f"dataset.files.{split}" for split in ("train", "validation", "test")))  # keys that name data
DRY_RUN = ("-n", "--dry-run")  # compose and validate, and run nothing


class _Paragraphs(argparse.HelpFormatter):
    """Formatter that wraps paragraphs, except for those with indented lines, such as examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(
            paragraph if "\n " in paragraph else super(_Paragraphs, self)._fill_text(paragraph, width, indent)
            for paragraph in paragraphs
        )


class ArgumentParser(argparse.ArgumentParser):
    """Parser that names a similar option for an unknown one, and takes options before, between, and after arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation could be another option than the user means, such as `--seed` for `--seeds`.
        super().__init__(*args, **{"formatter_class": _Paragraphs, "allow_abbrev": False, **kwargs})

    def parse_args(self, args: Any, namespace: Any = None) -> Any:  # type: ignore[override]
        """Return the arguments, of which options may be anywhere."""
        self.typed = list(args)
        known, rest = self.parse_known_intermixed_args(args, namespace)
        if rest:
            report_unexpected(self, rest)
        return known

    def error(self, message: str) -> NoReturn:
        """Print an error with a hint, and exit with code 2."""
        report_usage_error(self, message)


def report_usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Print an error of the command line with a hint, and exit with code 2."""
    hint = f"see `{parser.prog} --help`"
    if short := re.fullmatch(r"unrecognized arguments: (-[^-].*)", message):
        message = f"unknown option {short[1]}"
        name = _SHORT_OPTIONS.get(short[1], "")
        hint = (name and (suggest_flag(parser, name) or _suggest_operand(parser, name))) or hint
    elif unknown := re.match(r"unrecognized arguments: --(\w[\w-]*)", message):
        message = f"unknown option --{unknown[1]}"
        hint = suggest_flag(parser, unknown[1]) or _suggest_operand(parser, unknown[1]) or hint
    elif required := re.fullmatch("the following arguments are required: (.+)", message):
        optional = [action.metavar for action in parser._actions if action.nargs == argparse.ZERO_OR_MORE]
        missing = [name for name in required[1].split(", ") if name not in optional]
        message = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} required"
        if missing == ["FILE"] and (file := _typed_file(parser)):  # argparse takes the file for RUN
            message = f"RUN is required before {file!r}"
            # Other typed words are not repeated, since the value of an unknown option may be a secret.
            hint = f"for the newest run: {parser.prog} latest {shlex.quote(file)}\nlist the runs with `hydratune runs`"
    for pattern, text in _MESSAGES:
        message = re.sub(pattern, text, message)
    print_error(message, *hint.splitlines())
    sys.exit(USER_ERROR)


def report_unexpected(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> NoReturn:
    """Print an error for arguments that a parser does not know, and exit with code 2.

    What follows an unknown option may be a secret, e.g. in `-t TOKEN`, so only its name is printed.
    """
    if flag := next((text for text in arguments if text.startswith("-")), None):
        name = flag.partition("=")[0] if flag.startswith("--") else flag[:2]
        report_usage_error(parser, f"unrecognized arguments: {name}")
    report_usage_error(parser, f"unrecognized arguments: {' '.join(arguments)}")


def _typed_file(parser: argparse.ArgumentParser) -> str:
    """Return the data file among the typed arguments; empty if there is none."""
    words = getattr(parser, "typed", [])
    files = (word for word in words if not word.startswith("-") and Path(word).suffix.lower() in SUFFIXES)
    return next((word for word in files if not Path(word).is_dir()), "")


def _suggest_operand(parser: argparse.ArgumentParser, flag: str) -> str:
    """Return the hint for an option of another tool that is an operand here; empty if there is none."""
    operands = [action for action in parser._actions if not action.option_strings]
    metavars = [action.metavar for action in operands]
    meaning = meaning_of(flag)
    required = " ".join(str(action.metavar) for action in operands if action.nargs is None)
    if "RUN" in metavars and (meaning == "model" or flag.replace("-", "_") in _RUNS):
        return f"name the run without an option: {parser.prog} {required}"
    if meaning in _DATA:
        if "FILE" in metavars:
            return f"name the file without an option: {parser.prog} {required}"
        meaning = "dataset.files.test"
    return f"use {meaning}=VALUE" if "." in meaning and "KEY=VALUE" in metavars else ""


def suggest_flag(parser: argparse.ArgumentParser, flag: str) -> str:
    """Return the hint for an unknown option without its dashes; empty if no option means the same or is similar."""
    options = [option.removeprefix("--") for option in parser._option_string_actions if option.startswith("--")]
    begun = [option for option in options if option.startswith(flag)]
    meant = [part.strip("-").replace("_", "-") for part in reversed(meaning_of(flag).split("."))]
    flag = next((name for name in meant if name in options), begun[0] if len(begun) == 1 else flag)
    return similar("option", flag, options, " ", "--").strip()
