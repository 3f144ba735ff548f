"""Options and overrides of training, of sweeps, and of commands that take the same arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from hydratune.config import composition
from hydratune.config.composition import Request
from hydratune.config.project import config_dir
from hydratune.config.suggestions import suggest_override
from hydratune.utils.arguments import DRY_RUN, VERBOSITY_FLAGS, report_unexpected, report_usage_error, suggest_flag
from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.files import directory_not_found
from hydratune.utils.logs import QUIET, VERBOSE
from hydratune.utils.other_names import meaning_of

_MODES = ("run", "multirun", "cfg", "info", "shell_completion")  # Hydra accepts one of them


def _train_parser() -> argparse.ArgumentParser:
    """Return Hydra's parser with our own flags."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.allow_abbrev = False  # an abbreviation could be another option than the user means
    parser.prog, parser.description = "hydratune", "Options of training and sweeps; most of them are Hydra's."
    dry_run_help = "Validate the config, or with -m all trials, without training"
    parser.add_argument(*DRY_RUN, action="store_true", help=dry_run_help)
    quiet_help = "Show warnings, errors, and the result only; the log file has everything"
    parser.add_argument(*VERBOSITY_FLAGS[QUIET], action="store_true", help=quiet_help)
    verbose_help = "Also show debug messages and messages of libraries, with time, level, and logger"
    parser.add_argument(*VERBOSITY_FLAGS[VERBOSE], action="store_true", help=verbose_help)
    return parser


def print_options(command: str = "hydratune", description: str = "", names: Collection[str] = ()) -> None:
    """Print options of training and of sweeps.

    Args:
        command: Command that takes them.
        description: Description of the command; empty to describe the options.
        names: Names of the options to print; empty for all.
    """
    parser = _train_parser()
    parser.prog, parser.description = command, description or parser.description
    if description:
        parser.usage = f"{command} [OPTIONS] [KEY=VALUE ...]"
    for action in parser._actions:  # one of Hydra's texts is made only when it is printed
        action.help = argparse.SUPPRESS if names and action.dest not in names else action.help and str(action.help)
    parser.print_help()


def parse_overrides(arguments: Sequence[str]) -> argparse.Namespace:
    """Return Hydra's flags, `dry_run`, and the overrides, which may precede or follow flags.

    Raises:
        ConfigError: For each option that does not exist.
    """
    parser = _train_parser()
    parser.error = partial(report_usage_error, parser)  # type: ignore[method-assign]
    flags, rest = parser.parse_known_intermixed_args(list(arguments))
    if unknown := [text for text in rest if text.startswith("--")]:
        raise ConfigError(*(_unknown_option(parser, text, arguments) for text in unknown))
    if rest:
        report_unexpected(parser, rest)
    return flags


def _unknown_option(parser: argparse.ArgumentParser, text: str, arguments: Sequence[str]) -> Problem:
    """Return the error for an option that does not exist; its value follows `=` or is the next argument."""
    flag, _, value = text.removeprefix("--").partition("=")
    following = [*arguments[arguments.index(text) + 1 :], "-"][0]
    value = value or ("" if following.startswith("-") or re.match(r"[\w.+~/@]+=", following) else following)
    groups = Request().groups
    if value in groups.get(flag, ()):  # `--sweep tpe` chooses a sampler, but `--sweep` alone means `-m`
        return Problem(f"--{flag}", f"unknown option --{flag}", f"use {flag}={value}")
    hint = suggest_override(flag, value, groups, has_option=_chooses(arguments, meaning_of(flag)))
    hint = hint or suggest_flag(parser, flag)
    return Problem(f"--{flag}", f"unknown option --{flag}", hint or f"see `{parser.prog} --help`")


def _chooses(arguments: Sequence[str], key: str) -> bool:
    """Return whether one of the arguments chooses the option of the group to which a key belongs."""
    group = re.split(r"[.=]", key)[0]
    return any(text.startswith((f"{group}=", f"+{group}=")) for text in arguments)


def with_project_configs(arguments: Sequence[str]) -> list[str]:
    """Return command-line arguments with the flag for the project's own configs, unless they have it."""
    folder = None if parse_overrides(arguments).config_dir else config_dir()
    return [*arguments, *(["--config-dir", str(folder)] if folder else [])]


def make_request(flags: argparse.Namespace) -> Request:
    """Return the request that the flags describe; raise ConfigError for unsupported flags."""
    problems = []
    if flags.experimental_rerun:
        hint = "run the command again; its overrides are in .hydra/overrides.yaml of the run"
        problems.append(Problem("--experimental-rerun", f"{KEY} is not supported", hint))
    modes = [name for name in _MODES if getattr(flags, name)]
    if len(modes) > 1:
        text = f"{' and '.join(f'--{name}' for name in modes)} cannot be combined"
        hint = f"omit one of them; to show every job of a sweep, use --multirun {DRY_RUN[-1]}"
        problems.append(Problem(f"--{modes[-1]}", text, hint))
    for flag, folder in (("--config-dir", flags.config_dir), ("--config-path", flags.config_path)):
        if folder and not Path(folder).is_dir():
            problems.append(directory_not_found(flag, folder))
    if problems:
        raise ConfigError(*problems)
    return Request(
        overrides=tuple(flags.overrides),
        config_dir=Path(flags.config_dir).absolute() if flags.config_dir else None,
        config_path=Path(flags.config_path).absolute() if flags.config_path else None,
        config_name=flags.config_name or composition.CONFIG_NAME,
    )


def request_flags(arguments: Sequence[str], flags: argparse.Namespace) -> list[str]:
    """Return the arguments that are flags of Hydra or their values."""
    return [argument for argument in arguments if argument not in (*flags.overrides, *DRY_RUN)]
