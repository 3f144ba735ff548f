"""Names of datasets, for experiments and directories."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydratune.utils.file_suffixes import PATTERN, SUFFIXES, is_compressed
from hydratune.utils.files import expand_home

# General options, which read any data. Runs are named after the data instead.
_GENERAL = ("hub", "local", "mixture", "saved")
# Names of files and folders that do not describe the data, and the name of the split inside other names.
_SPLIT = "train|training|dev|val|valid|validation|test|all"
_KIND = "split|data|datasets?|files?|raw|processed|csv|tsv|jsonl?|parquet|text|images?"
_VAGUE = re.compile(rf"({_SPLIT}|{_KIND})?[\W\d_]*(of[\W\d_]+)?", re.IGNORECASE)
_OF_SPLIT = re.compile(rf"^({_SPLIT})[-_.]|[-_.]({_SPLIT})$", re.IGNORECASE)
_ODD = re.compile(r"[^\w.+/-]+")
_LONGEST = 60  # characters


def data_name(choice: str, config: Mapping[str, Any], separator: str = "/") -> str:
    """Return the name of a dataset.

    Args:
        choice: Chosen option. It is the name, unless it is a general option such as `local`.
        config: Config of the dataset.
        separator: Replacement for the `/` in a Hub ID.

    Returns:
        For files, the name of the first training file. If that is `train` or the like, the name of its folder.
        For data from the Hub, the ID. For a mixture, the names of its sources. Without a better name, the choice.
    """
    name = _ODD.sub("_", _described(config)).strip("._/") if choice in _GENERAL else ""
    return (name[:_LONGEST] or choice).replace("/", separator)


def _described(config: Mapping[str, Any]) -> str:
    if isinstance(sources := config.get("sources"), Mapping):
        parts = (_described(source) if isinstance(source, Mapping) else "" for source in sources.values())
        return "+".join(dict.fromkeys(part or str(name) for part, name in zip(parts, sources, strict=True)))
    if isinstance(files := config.get("files"), Mapping):
        train_files = files.get("train")
        first_file = train_files[0] if isinstance(train_files, list) and train_files else train_files
        return _of_path(first_file) if isinstance(first_file, str) and first_file != "???" else ""
    path = config.get("path")
    if not isinstance(path, str) or path == "???":
        return ""
    if "splits" not in config:  # a saved dataset
        return _of_path(path)
    return "/".join(part for part in (path, config.get("name")) if isinstance(part, str))


def _of_path(path_or_pattern: str) -> str:
    """Return the last part of a path that describes the data; empty if no part does."""
    is_pattern = path_or_pattern.startswith(PATTERN)
    path = expand_home(path_or_pattern.removeprefix(PATTERN))
    if not is_pattern and is_compressed(path):
        path = path.with_suffix("")
    return next(_telling([*_parts(path, is_pattern)]), "")


def _parts(path: Path, is_pattern: bool) -> Iterator[str]:
    """Yield the parts of a path, the last one first and without its data suffix; skip the wildcards of a pattern."""
    last, *others = reversed(path.absolute().parts[1:])
    if not (is_pattern and re.search(r"[*?\[]", last)):
        yield Path(last).stem if Path(last).suffix.lower() in SUFFIXES else last
    yield from (part for part in others if not (is_pattern and re.search(r"[*?\[]", part)))


def _telling(parts: list[str]) -> Iterator[str]:
    for part in parts:
        name = _OF_SPLIT.sub("", part)
        if not _VAGUE.fullmatch(name):
            yield name
