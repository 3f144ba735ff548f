"""Argument parsers of the commands, with errors as `error:` and `hint:` lines."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from hydratune.utils.errors import USER_ERROR, similar
from hydratune.utils.messages import print_error

# Messages of argparse, and ours in their place.
_MESSAGES = (
    (r"^argument (\S+): invalid int value: (.+)$", r"\1 must be an integer, not \2"),
    (r"^argument (\S+): invalid choice: (.+) \(choose from (.+)\)$", r"\1 must be one of \3, not \2"),
    (r"^argument (\S+): expected one argument$", r"\1 requires a value"),
    (r"^argument (\S+): not allowed with argument (\S+)$", r"\1 and \2 cannot be combined"),
    (r"^unrecognized arguments: ", "unexpected arguments: "),
)
DRY_RUN = ("-n", "--dry-run")  # compose and validate, and run nothing


class ArgumentParser(argparse.ArgumentParser):
    """Parser that names a similar option for an unknown one."""

    def error(self, message: str) -> NoReturn:
        """Print an error with a hint, and exit with code 2."""
        report_usage_error(self, message)


def _train_parser() -> argparse.ArgumentParser:
    """Return Hydra's parser with our own flags."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog, parser.description = "hydratune", "Options of training and sweeps; most of them are Hydra's."
    dry_run_help = "Validate the config, or with -m all trials, and train nothing"
    parser.add_argument(*DRY_RUN, action="store_true", help=dry_run_help)
    return parser


def print_options() -> None:
    """Print all options of training and of sweeps."""
    parser = _train_parser()
    for action in parser._actions:  # one of Hydra's texts is made only when it is printed
        action.help = action.help and str(action.help)
    parser.print_help()


def parse_overrides(arguments: Sequence[str]) -> argparse.Namespace:
    """Return Hydra's flags, `dry_run`, and the overrides, which may precede or follow flags."""
    parser = _train_parser()
    parser.error = partial(report_usage_error, parser)  # type: ignore[method-assign]
    return parser.parse_intermixed_args(list(arguments))


def report_usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Print an error of the command line with a hint, and exit with code 2."""
    hint = f"see `{parser.prog} --help`"
    if unknown := re.match(r"unrecognized arguments: --(\w[\w-]*)", message):
        names = (option.removeprefix("--") for option in parser._option_string_actions if option.startswith("--"))
        message = f"unknown option --{unknown[1]}"
        hint = similar("option", unknown[1], names, hint, "--")
    elif required := re.fullmatch("the following arguments are required: (.+)", message):
        optional = [action.metavar for action in parser._actions if action.nargs == argparse.ZERO_OR_MORE]
        missing = [name for name in required[1].split(", ") if name not in optional]
        message = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} required"
    for pattern, text in _MESSAGES:
        message = re.sub(pattern, text, message)
    print_error(message, hint)
    sys.exit(USER_ERROR)
