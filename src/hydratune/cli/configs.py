"""`hydratune configs`: list the shipped configs, or copy one to change it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydratune.config.composition import options, shipped_dir
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import KEY, ConfigError, Problem, similar
from hydratune.utils.files import directory_not_found


def main(arguments: Sequence[str]) -> int:
    """List or copy options, and return the exit code."""
    parser = ArgumentParser(prog="hydratune configs", description=__doc__)
    parser.add_argument("what", nargs="?", help="config group, e.g. dataset; or `copy`")
    parser.add_argument("option", nargs="?", help="with copy: GROUP/OPTION, e.g. dataset/local")
    parser.add_argument("directory", nargs="?", type=Path, help="with copy: your own conf directory")
    parser.add_argument("--name", help="with copy: name of the copy [default: my_OPTION]")
    parser.add_argument("--config-dir", type=Path, help="conf directory whose options are also listed")
    args = parser.parse_args(arguments)
    if args.config_dir and not args.config_dir.is_dir():
        raise ConfigError(directory_not_found("--config-dir", args.config_dir))
    if args.what == "copy":
        if not args.option or not args.directory:
            hint = "for example: hydratune configs copy dataset/local my_conf"
            raise ConfigError(Problem("copy", "configs copy requires GROUP/OPTION and a directory", hint))
        return _copy(args.option, args.directory, args.name)
    return _list(args.what, [shipped_dir(), *([args.config_dir] if args.config_dir else [])])


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


def _copy(option_path: str, directory: Path, name: str | None) -> int:
    """Copy one option under a new name; under its own name, the shipped config would be found first."""
    by_path = {f"{option.group}/{option.name}": option for option in options(shipped_dir())}
    if option_path not in by_path:
        raise ConfigError(_unknown_option(option_path, by_path))
    option = by_path[option_path]
    target = directory / option.group / f"{name or 'my_' + option.name}.yaml"
    if f"{option.group}/{target.stem}" in by_path:
        text = f"{KEY} {target.stem!r} is the name of a shipped option, which would be found first"
        raise ConfigError(Problem("--name", text, f"omit {KEY} to use my_{option.name}"))
    if target.exists():
        hint = f"choose another name with {KEY}=NAME"
        raise ConfigError(Problem("--name", f"the file {str(target)!r} already exists", hint))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(option.path, target)
    print(f"{target}\nuse it: hydratune --config-dir {directory} {option.group}={target.stem}")
    return 0


def _unknown_option(option_path: str, by_path: Iterable[str]) -> Problem:
    group, _, name = option_path.rpartition("/")
    if names := [path.rpartition("/")[2] for path in by_path if path.rpartition("/")[0] == group]:
        hint = similar("option", name, names, f"list the options with `hydratune configs {group}`", f"{group}/")
        return Problem("option", f"config group {group} has no option {name!r}", hint)
    hint = similar("option", option_path, by_path, "list the options with `hydratune configs`")
    return Problem("option", f"unknown option {option_path!r}", hint)
