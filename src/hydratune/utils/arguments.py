"""Argument parsers of the commands, with errors as `error:` and `hint:` lines."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from hydratune.utils.errors import USER_ERROR, nearest
from hydratune.utils.messages import print_error

DRY_RUN = ("-n", "--dry-run")  # compose and validate, and run nothing


class ArgumentParser(argparse.ArgumentParser):
    """Parser that names a similar option for an unknown one."""

    def error(self, message: str) -> NoReturn:
        """Print an error with a hint, and exit with code 2."""
        report_usage_error(self, message)


def parse_overrides(arguments: Sequence[str]) -> argparse.Namespace:
    """Return Hydra's flags, `dry_run`, and the overrides, which may precede or follow flags."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.prog = "hydratune"
    parser.add_argument(*DRY_RUN, action="store_true")
    parser.error = partial(report_usage_error, parser)  # type: ignore[method-assign]
    return parser.parse_intermixed_args(list(arguments))


def report_usage_error(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Print an error of the command line with a hint, and exit with code 2."""
    hint = f"Run `{parser.prog} --help`."
    if unknown := re.search(r"unrecognized arguments: --(\w[\w-]*)", message):
        names = (option.removeprefix("--") for option in parser._option_string_actions if option.startswith("--"))
        close = nearest(unknown[1], names)
        hint = f"Did you mean --{close}?" if close else hint
    print_error(message, hint)
    sys.exit(USER_ERROR)
