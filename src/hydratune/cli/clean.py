"""Remove checkpoints of finished runs, unfinished runs, or caches, after confirmation."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydratune.cli.run_argument import RUN_FORMS
from hydratune.cli.run_status import FINISHED, RUNNING, RunStatus, run_status
from hydratune.data.cache import cache_folders, remove_folder, unused_cache
from hydratune.tracking.relocation import ARTIFACTS
from hydratune.tracking.run_directories import find_runs, is_in_sweep
from hydratune.tracking.run_lookup import RunLookup
from hydratune.utils import clock
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import FAILED, ConfigError, invalid_value
from hydratune.utils.files import CHECKPOINTS, METRICS, remove_tree, try_lock
from hydratune.utils.places import RESULTS, result_links

_UNITS = {"h": 3_600, "d": 86_400, "w": 604_800}  # seconds
_MIB = 2**20


@dataclass(frozen=True)
class _Candidate:
    """A folder to remove.

    Args:
        path: The folder.
        run: Directory of the run that it belongs to; None for a cache.
    """

    path: Path
    run: Path | None = None

    def size(self) -> int:
        """Return the bytes of its files; files with several links count once for each."""
        return sum(os.lstat(Path(folder, name)).st_size for folder, _, names in os.walk(self.path) for name in names)


def main(arguments: Sequence[str]) -> int:
    """List what would be removed, ask, and remove it; return the exit code."""
    parser = ArgumentParser(prog="hydratune clean", description=__doc__)
    run_help = f"{RUN_FORMS}, or a directory to search for runs [default: {' and '.join(RESULTS)}]"
    parser.add_argument("runs", metavar="RUN", nargs="*", help=run_help)
    checkpoints_help = "checkpoints of finished runs; their model directories remain"
    parser.add_argument("--checkpoints", action="store_true", help=checkpoints_help)
    runs_help = "failed and interrupted runs, except those of sweeps; their MLflow records remain"
    parser.add_argument("--unfinished", action="store_true", help=runs_help)
    parser.add_argument("--cache", action="store_true", help="tokenized datasets; later runs tokenize again")
    age_help = "only runs that started at least this long ago, e.g. 12h, 30d, or 8w [default: all]"
    parser.add_argument("--older-than", metavar="AGE", default="0h", help=age_help)
    parser.add_argument("-y", "--yes", action="store_true", help="remove without confirmation")
    args = parser.parse_args(arguments)
    if not (args.checkpoints or args.unfinished or args.cache):
        parser.error("choose --checkpoints, --unfinished, or --cache")
    before = clock.time() - _seconds(args.older_than)
    is_searched = not args.runs or not all(Path(text).is_dir() for text in args.runs)
    if is_searched and (problems := [*result_links()]):
        raise ConfigError(*problems)
    lookup = RunLookup()
    folders = [lookup.directory(text, allows_several=True) for text in args.runs] or [*map(Path, RESULTS)]
    candidates = [*_in_runs(folders, before, args.checkpoints, args.unfinished)]
    if args.cache:
        candidates += [_Candidate(folder) for folder in cache_folders() if folder.is_dir()]
    if not candidates:
        print("nothing to remove")
        return 0
    sizes = [candidate.size() for candidate in candidates]
    for candidate, size in zip(candidates, sizes, strict=True):
        print(f"{size / _MIB:10,.1f} MiB  {candidate.path}")
    print(f"{sum(sizes) / _MIB:10,.1f} MiB  in total")
    if not args.yes and not _confirmed():
        print("nothing was removed", file=sys.stderr)
        return FAILED
    removed = [candidate for candidate in candidates if _remove(candidate)]
    print(f"removed: {len(removed)} of {len(candidates)}")
    return 0 if len(removed) == len(candidates) else FAILED


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+)([hdw])", age)
    if not match:
        raise ConfigError(
            invalid_value("--older-than", "a number of h, d, or w", repr(age), "use an age such as --older-than 7d")
        )
    return int(match[1]) * _UNITS[match[2]]


def _in_runs(folders: Sequence[Path], before: float, checkpoints: bool, unfinished: bool) -> Iterator[_Candidate]:
    """Yield the folders of runs that began before a time."""
    directories = find_runs(folders)
    with_others = {parent for directory in directories for parent in directory.parents}
    for directory in directories:
        run = run_status(directory)
        if run.started > before or run.state == RUNNING:
            continue
        folder = directory / CHECKPOINTS
        if checkpoints and run.state == FINISHED and folder.is_dir() and not folder.is_symlink():
            yield _Candidate(folder, directory)
        is_alone = not is_in_sweep(directory) and directory not in with_others
        if unfinished and _is_unfinished(run) and is_alone and not _has_more(directory):
            yield _Candidate(directory, directory)


def _has_more(directory: Path) -> bool:
    """Return whether a directory contains more than a run, although a cloned repository made it look like one.

    This is the case for the working directory and for `outputs`, and for a repository or a database.
    """
    own_folders = [Path(name).resolve() for name in (".", *RESULTS)]
    is_own = any(folder.is_relative_to(directory.resolve()) for folder in own_folders)
    return is_own or any((directory / name).exists() for name in (".git", ARTIFACTS)) or any(directory.glob("*.db"))


def _is_unfinished(run: RunStatus) -> bool:
    """Return whether a run has no results; unreadable metrics are those of a run that has finished."""
    return run.state != FINISHED and not (run.directory / METRICS).exists()


def _confirmed() -> bool:
    """Ask on a terminal; elsewhere, nobody can answer."""
    if not sys.stdin.isatty():
        print("cannot ask without a terminal; add --yes to remove them", file=sys.stderr)
        return False
    return input("remove them? [y/N] ").strip().lower() in ("y", "yes")


def _remove(candidate: _Candidate) -> bool:
    """Remove a folder; return False if it is in use by now, has another state than before, or cannot be removed."""
    try:
        if candidate.run is None:
            with unused_cache() as is_unused:
                if is_unused:
                    remove_folder(candidate.path)
                    return True
            print(f"skipped {candidate.path}: a run is using it", file=sys.stderr)
            return False
        with try_lock(candidate.run) as is_free:  # a run may have been resumed while the question was open
            if is_free and (candidate.path != candidate.run or _is_unfinished(run_status(candidate.run))):
                remove_tree(candidate.path)
                return True
        print(f"skipped {candidate.path}: the run was resumed", file=sys.stderr)
    except OSError as error:
        print(f"skipped {candidate.path}: {error.strerror or error}", file=sys.stderr)
    except ConfigError as error:  # a link that leads elsewhere
        print(f"skipped {candidate.path}: {error}", file=sys.stderr)
    return False
