"""Lookup of the run that RUN stands for: a directory, `latest`, a name, or an MLflow run ID or ID prefix."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hydratune.tracking.client import find_run, sqlite_path, typed_uri
from hydratune.tracking.delivery import POINTER, pointer
from hydratune.tracking.journal import DIRECTORY, JOURNAL, recorded_name
from hydratune.tracking.mlflow import Mlflow
from hydratune.tracking.run_directories import find_runs, is_in_sweep, start_time
from hydratune.tracking.stores import Stores, name_query, search_runs
from hydratune.utils.errors import ConfigError, Problem, nearest, one_line
from hydratune.utils.files import CONFIG, PLAN, directory_not_found
from hydratune.utils.places import RESULTS, check_place
from hydratune.utils.provenance import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LATEST = "latest"
SHORT_ID = 8  # characters of an ID in lists
_SHORTEST_ID = 4  # characters of the beginning of an ID
_ID, _FULL_ID = re.compile(f"[0-9a-f]{{{_SHORTEST_ID},32}}"), re.compile("[0-9a-f]{32}")
_SHOWN = 5
_LIST_RUNS = "list the runs with `hydratune runs`"


@dataclass(frozen=True)
class FoundRun:
    """A run that RUN stands for.

    Args:
        directory: Run directory; None if it is unknown or not on this machine.
        run_id: ID of the MLflow run; empty if it has none.
        name: Its name in MLflow; empty if it was not tracked.
        start_time: Start of the run, in seconds since 1970; 0 if unknown.
        recorded_directory: Directory that a store names, which is untrusted; empty for a run found on this machine.
    """

    directory: Path | None
    run_id: str = ""
    name: str = ""
    start_time: float = 0
    recorded_directory: str = ""

    @classmethod
    def on_this_machine(cls, directory: Path) -> FoundRun:
        """Return the run or sweep in a directory."""
        name = recorded_name(directory) or (directory.name if (directory / PLAN).is_file() else "")
        return cls(directory, (pointer(directory) or {}).get("run_id", ""), name, start_time(directory))

    @classmethod
    def in_store(cls, run: Run) -> FoundRun:
        """Return a run of a store, whose tag names its directory; anyone with access to the store can change tags."""
        info, recorded = run.info, run.data.tags.get(DIRECTORY, "")
        is_own = recorded and (pointer(Path(recorded)) or {}).get("run_id") == info.run_id
        directory = Path(recorded) if is_own else None
        return cls(directory, info.run_id, str(info.run_name), (info.start_time or 0) / 1000, recorded)

    def __str__(self) -> str:
        """Return the texts that stand for this run alone, and its start."""
        start = datetime.fromtimestamp(self.start_time, UTC)
        started = f"started {start:%Y-%m-%d %H:%M} UTC" if self.start_time else ""
        facts = (f"ID {self.run_id[:SHORT_ID]}" if self.run_id else "", started)
        directory = str(self.directory or self.recorded_directory or "no directory")
        return f"{shlex.quote(directory)} ({', '.join(filter(None, facts))})"

    def matches(self, text: str) -> bool:
        """Return whether a text is the name of this run, or its ID or the beginning of it."""
        return text == self.name or (_ID.fullmatch(text) is not None and self.run_id.startswith(text))


class RunLookup:
    """Lookup of runs below `outputs` and `multirun`; if no run there matches, in an MLflow store.

    Args:
        uri: Store that the user typed, to which names and IDs are limited; None for the store of this directory.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.stores = Stores(uri or Mlflow.uri)
        self._is_typed = uri is not None

    def directory(self, text: str, allows_several: bool = False) -> Path:
        """Return the directory of the run that a text stands for.

        Args:
            text: RUN as the user typed it.
            allows_several: Whether it may also be a sweep, or a directory with several runs.

        Raises:
            ConfigError: It stands for no run, for several runs, or for one whose directory is not on this machine.
        """
        run = self.find(text, allows_several)
        if run.directory is not None:
            return run.directory
        if not run.recorded_directory:
            reason = f"the MLflow run {run.run_id!r} has no tag {DIRECTORY}, which names its directory"
        else:
            # The command may write to the directory, so the directory must name the run too.
            reason = f"the tag of the run leads to {run.recorded_directory!r}, but its {POINTER} does not name the run"
            reason += f" {run.run_id}"
        raise ConfigError(Problem("RUN", reason, "use a run directory on this machine"))

    def find(self, text: str, allows_several: bool = False) -> FoundRun:
        """Return the run that a text stands for; for arguments and errors, see `directory`."""
        if Path(text).is_dir():
            run = FoundRun.on_this_machine(Path(text))
        elif text == LATEST:
            run = _latest()
        else:
            run = self._match(text)
        if run.directory:
            check_place("RUN", run.directory)
        if run.directory and not allows_several and (wrong := _several(text, run.directory)):
            raise ConfigError(wrong)
        return run

    def _match(self, text: str) -> FoundRun:
        matches = self._on_this_machine(text) or self._in_store(text)
        if not matches:
            raise ConfigError(self._unknown(text))
        if len(matches) > 1:
            hints = ["use the directory or the ID of one of them:", *map(str, matches[:_SHOWN])]
            hints += ["..."] if len(matches) > _SHOWN else []
            raise ConfigError(Problem("RUN", f"{len(matches)} runs match {text!r}", "\n".join(hints)))
        return matches[0]

    @cached_property
    def _local(self) -> list[FoundRun]:
        """Tracked runs and all sweeps below `outputs` and `multirun`, the newest first."""
        files = {JOURNAL, PLAN, POINTER}
        folders = (Path(folder) for root in RESULTS for folder, _, names in os.walk(root) if files & {*names})
        return sorted(map(FoundRun.on_this_machine, folders), key=lambda run: run.start_time, reverse=True)

    def _on_this_machine(self, text: str) -> list[FoundRun]:
        matches = [run for run in self._local if run.matches(text)]
        if not self._is_typed:
            return matches
        uri = redact(typed_uri(self.stores.uri))
        return [run for run in matches if run.directory and (pointer(run.directory) or {}).get("uri") == uri]

    def _client(self) -> MlflowClient | None:
        """Return the client of the store; None without the default store, which nobody has to have."""
        path = sqlite_path(typed_uri(self.stores.uri))
        return None if path and not path.is_file() and not self._is_typed else self.stores.client()

    def _in_store(self, text: str) -> list[FoundRun]:
        if os.sep in text or not (client := self._client()):
            return []
        try:
            if _FULL_ID.fullmatch(text):
                runs = [run] if (run := find_run(client, text)) else []
            else:
                runs = search_runs(client, "" if _ID.fullmatch(text) else name_query(text))
        except Exception as error:  # each store raises its own kind
            reason = f"cannot search the MLflow store {redact(self.stores.uri)!r}: {one_line(error, 300)}"
            raise ConfigError(Problem("RUN", reason)) from error
        return [run for run in map(FoundRun.in_store, runs) if run.matches(text)]

    def _unknown(self, text: str) -> Problem:
        """Return the error for a text that stands for no run: one about paths if it is one."""
        if Path(text).exists():
            hint = f"type a run before the file, e.g. `{LATEST}` for the newest one\n{_LIST_RUNS}"
            return Problem("RUN", f"{text!r} is a file, not a run directory", hint)
        directories = _completions(text)
        if os.sep in text:
            hint = "\n".join(directories) or _similar_run(text, _run_paths()) or _LIST_RUNS
            return Problem("RUN", directory_not_found("RUN", text).text, hint)
        client = self._client()
        stored_names = [str(run.info.run_name) for run in search_runs(client)] if client else []
        names = [*dict.fromkeys(name for name in (*(run.name for run in self._local), *stored_names) if name)]
        sweeps = {run.name for run in self._local if run.directory and (run.directory / PLAN).is_file()}
        examples = [shlex.quote(name) for name in names if name not in sweeps][:_SHOWN]
        otherwise = f"use the name of a run, such as {', '.join(examples)}" if examples and not directories else ""
        list_runs = (
            _LIST_RUNS if names or directories else f"{_LIST_RUNS}, or pass a run directory in outputs/ or multirun/"
        )
        is_short = len(text) < _SHORTEST_ID and any(run.run_id.startswith(text) for run in self._local)
        short = f"the beginning of an ID needs at least {_SHORTEST_ID} characters" if is_short else ""
        hints = [short, _similar_run(text, [LATEST, *names]) or otherwise, *directories, list_runs]
        return Problem("RUN", f"no such run: {text!r}", "\n".join(filter(None, hints)))


def _latest() -> FoundRun:
    """Return the newest run or trial below `outputs` and `multirun`, which `hydratune runs` lists first."""
    if newest := find_runs(map(Path, RESULTS))[:1]:
        return FoundRun.on_this_machine(newest[0])
    raise ConfigError(Problem("RUN", f"no runs in {' and '.join(RESULTS)}", "train one with `hydratune`"))


def _several(text: str, directory: Path) -> Problem | None:
    """Return the error for the directory of a sweep, or of several runs; None for any other directory."""
    if (directory / PLAN).is_file():
        below = find_runs([directory])
        is_named = directory.absolute().parent == Path(RESULTS[-1]).absolute()
        name = shlex.quote(directory.name if is_named else str(directory))
        hints = [f"see its trials: hydratune sweep status {name}"]
        hints += _listed("to use a trial, name its directory", filter(is_in_sweep, below))
        hints += _listed("to use its retrained best trial", (run for run in below if not is_in_sweep(run)))
        return Problem("RUN", f"{text!r} is a sweep, not a run", "\n".join(hints))
    if any((directory / name).exists() for name in (CONFIG, ".hydra", JOURNAL, POINTER)):
        return None
    if not (below := find_runs([directory])):
        return None
    hints = _listed("pass one of them", below)
    return Problem("RUN", f"{text!r} is not a run directory, but contains {len(below)} runs", "\n".join(hints))


def _listed(instruction: str, directories: Iterable[Path]) -> list[str]:
    """Return the hint that lists some directories, if there are any."""
    paths = sorted(shlex.quote(os.path.relpath(directory)) for directory in directories)
    more = ", ..." if len(paths) > _SHOWN else ""
    return [f"{instruction}: {', '.join(paths[:_SHOWN])}{more}"] if paths else []


def _run_paths() -> list[str]:
    """Return the paths of all runs below `outputs` and `multirun`, the newest first."""
    return [os.path.relpath(directory) for directory in find_runs(map(Path, RESULTS))]


def _completions(text: str) -> list[str]:
    """Return hints with the runs, or else the directories, whose paths begin or end with a text."""
    start = os.path.normpath(text)
    paths = [path for path in _run_paths() if path.startswith(start) or path.endswith(f"{os.sep}{start}")]
    paths = paths or [str(path) for path in Path().glob(f"{glob.escape(start)}*/")]
    return [f"complete the directory: {shlex.quote(path)}" for path in paths[:_SHOWN]]


def _similar_run(text: str, names: Sequence[str]) -> str:
    close = nearest(text, names)
    return f"a similar run exists: {shlex.quote(close)}" if close else ""
