"""`hydratune configs`: list the shipped configs, or copy one to change it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hydratune.config.composition import options, shipped_dir
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import ConfigError, Mistake, did_you_mean, one_of


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
        fix = f"Paths are relative to {Path.cwd()}."
        raise ConfigError(Mistake("--config-dir", "a directory that exists", repr(str(args.config_dir)), fix))
    if args.what == "copy":
        if not args.option or not args.directory:
            parser.error("copy needs GROUP/OPTION and a directory, e.g. hydratune configs copy dataset/local my_conf")
        return _copy(args.option, args.directory, args.name)
    return _list(args.what, [shipped_dir(), *([args.config_dir] if args.config_dir else [])])


def _list(group: str | None, folders: Sequence[Path]) -> int:
    config_options = options(*folders)
    groups = sorted({option.group for option in config_options})
    if group and group not in groups:
        fix = did_you_mean(group, groups, "Run `hydratune configs`.")
        raise ConfigError(Mistake("group", one_of(groups, "hydratune configs"), repr(group), fix))
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
        fix = did_you_mean(option_path, by_path, "Run `hydratune configs` to see them.")
        raise ConfigError(Mistake("option", one_of(by_path, "hydratune configs"), repr(option_path), fix))
    option = by_path[option_path]
    target = directory / option.group / f"{name or 'my_' + option.name}.yaml"
    if f"{option.group}/{target.stem}" in by_path:
        got = f"{target.stem!r}, which is shipped and would be found first"
        raise ConfigError(Mistake("--name", "a new name", got, f"Leave it out for my_{option.name}."))
    if target.exists():
        raise ConfigError(Mistake("--name", "a file that does not exist yet", repr(str(target)), "Choose another."))
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(option.path, target)
    print(f"{target}\nuse it: hydratune --config-dir {directory} {option.group}={target.stem}")
    return 0
