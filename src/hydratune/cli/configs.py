"""List, show, or search the shipped configs, copy one to change it, or print their schema."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydratune.config.options import Option, options, shipped_dir
from hydratune.config.project import config_dir
from hydratune.config.schema import schema
from hydratune.config.suggestions import TRAINING_ARGUMENTS, argument_names
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import FAILED, KEY, ConfigError, Problem, similar
from hydratune.utils.files import directory_not_found, is_inside, make_directory, write_text
from hydratune.utils.places import check_place

_USAGE = """hydratune configs [GROUP]
       hydratune configs show GROUP/OPTION
       hydratune configs search TEXT
       hydratune configs copy GROUP/OPTION DIR [--name NAME]
       hydratune configs schema [GROUP]"""
_OPERANDS = {"show": ("GROUP/OPTION", "dataset/local"), "search": ("a text", "warmup")}


def main(arguments: Sequence[str]) -> int:
    """List, show, search, or copy options, and return the exit code."""
    parser = ArgumentParser(prog="hydratune configs", usage=_USAGE, description=__doc__)
    parser.add_argument("what", nargs="?", metavar="GROUP", help="config group [default: all]")
    parser.add_argument(
        "option",
        nargs="?",
        metavar="GROUP/OPTION",
        help="option to show or copy, e.g. dataset/local",
    )
    parser.add_argument("directory", nargs="?", metavar="DIR", type=Path, help="your own config directory")
    parser.add_argument("--name", metavar="NAME", help="name of the copy [default: my_OPTION]")
    parser.add_argument(
        "--config-dir", metavar="DIR", type=Path, help="directory of your own configs [default: the project's]"
    )
    args = parser.parse_args(arguments)
    if args.config_dir and not args.config_dir.is_dir():
        raise ConfigError(directory_not_found("--config-dir", args.config_dir))
    own = args.config_dir or config_dir()
    folders = [shipped_dir(), *([own] if own else [])]
    if args.what in ("show", "search") and not args.option:
        operand, example = _OPERANDS[args.what]
        hint = f"for example: hydratune configs {args.what} {example}"
        raise ConfigError(Problem(args.what, f"configs {args.what} requires {operand}", hint))
    if args.what == "schema":
        print(json.dumps(schema(args.option), indent=2))
        return 0
    if args.what == "show":
        return _show(args.option, folders)
    if args.what == "search":
        return _search(args.option, folders)
    if args.what == "copy":
        if not args.option or not args.directory:
            hint = "name both, as in hydratune configs copy dataset/local my_conf"
            raise ConfigError(Problem("copy", "configs copy requires GROUP/OPTION and a directory", hint))
        return _copy(args.option, args.directory, args.name)
    return _list(args.what, folders)


def _list(group: str | None, folders: Sequence[Path]) -> int:
    config_options = options(*folders)
    groups = sorted({option.group for option in config_options})
    if group and group not in groups:
        hint = similar("group", group, groups, "list the groups with `hydratune configs`")
        raise ConfigError(Problem("group", f"unknown config group {group!r}", hint))
    listed_options = [option for option in config_options if group in (None, option.group)]
    width = max(len(option.name) for option in listed_options)
    for name in dict.fromkeys(option.group for option in listed_options):
        print(name)
        for option in listed_options:
            if option.group == name:
                print(f"  {option.name:<{width}}  {option.summary}")
    return 0


def _show(option_path: str, folders: Sequence[Path]) -> int:
    """Print the file of an option."""
    print(_by_path(option_path, *folders)[option_path].path.read_text(encoding="utf-8", errors="replace"), end="")
    return 0


def _by_path(option_path: str, *folders: Path) -> dict[str, Option]:
    """Return GROUP/OPTION -> option; raise ConfigError if one of them is not there."""
    by_path = {f"{option.group}/{option.name}": option for option in options(*folders)}
    if option_path not in by_path:
        raise ConfigError(_unknown_option(option_path, by_path))
    return by_path


def _search(text: str, folders: Sequence[Path]) -> int:
    """Print the lines of the options, and the training arguments, that contain a text in any case."""
    lines = [
        f"{option.group}/{option.name}:{number}: {line.strip()}"
        for option in options(*folders)
        for number, line in enumerate(option.path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if text.lower() in line.lower()
    ]
    lines += [f"trainer.args.{name}" for name in argument_names(TRAINING_ARGUMENTS) if text.lower() in name]
    print("\n".join(lines) if lines else f"no config contains {text!r}")
    return 0 if lines else FAILED


def _copy(option_path: str, directory: Path, name: str | None) -> int:
    """Copy one option under a new name; under its own name, the shipped config would be found first."""
    by_path = _by_path(option_path, shipped_dir())
    option = by_path[option_path]
    target = directory / option.group / f"{name or 'my_' + option.name}.yaml"
    if f"{option.group}/{target.stem}" in by_path:
        text = f"{KEY} {target.stem!r} is the name of a shipped option, which would be found first"
        raise ConfigError(Problem("--name", text, f"omit {KEY} to use my_{option.name}"))
    check_place("DIR", directory)
    if not is_inside(target.parent, directory):
        text = f"a link leads out of {str(directory)!r}: {str(target.parent)!r}"
        raise ConfigError(Problem("DIR", text, "remove the link"))
    if os.path.lexists(target):  # also a link to a file that does not exist, through which it would be created
        hint = f"choose another name with {KEY}=NAME"
        raise ConfigError(Problem("--name", f"the file {str(target)!r} already exists", hint))
    make_directory(target.parent)
    write_text(target, option.path.read_text(encoding="utf-8"))
    flag = "" if directory == config_dir() else f"--config-dir {directory} "
    print(f"{target}\nuse it: hydratune {flag}{option.group}={target.stem}")
    return 0


def _unknown_option(option_path: str, by_path: Iterable[str]) -> Problem:
    group, _, name = option_path.rpartition("/")
    if names := [path.rpartition("/")[2] for path in by_path if path.rpartition("/")[0] == group]:
        hint = similar("option", name, names, f"list the options with `hydratune configs {group}`", f"{group}/")
        return Problem("option", f"config group {group} has no option {name!r}", hint)
    if same := [path for path in by_path if path.endswith(f"/{option_path}")]:
        return Problem("option", f"{option_path!r} is not of the form GROUP/OPTION", f"use {same[0]}")
    if any(path.startswith(f"{option_path}/") for path in by_path):
        hint = f"list the options with `hydratune configs {option_path}`"
        return Problem("option", f"{option_path!r} is not of the form GROUP/OPTION", hint)
    hint = similar("option", option_path, by_path, "list the options with `hydratune configs`")
    return Problem("option", f"unknown option {option_path!r}", hint)
