"""Names of data sets, for experiments and directories."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydratune.utils.file_formats import PATTERN, SUFFIXES, is_compressed

# Options that read any data: runs take the name of the data instead.
_GENERAL = ("hub", "local", "mixture", "saved")
# Names of files and folders that tell nothing of the data, and the name of the split in others.
_SPLIT = "train|training|dev|val|valid|validation|test|all"
_KIND = "split|data|datasets?|files?|raw|processed|csv|tsv|jsonl?|parquet|text|images?"
_VAGUE = re.compile(rf"({_SPLIT}|{_KIND})?[\W\d_]*(of[\W\d_]+)?", re.IGNORECASE)
_OF_SPLIT = re.compile(rf"^({_SPLIT})[-_.]|[-_.]({_SPLIT})$", re.IGNORECASE)
_ODD = re.compile(r"[^\w.+/-]+")
_LONGEST = 60  # characters


def data_name(choice: str, config: Mapping[str, Any], separator: str = "/") -> str:
    """The name of a data set.

    Args:
        choice: The chosen option, which is the name of all but general options such as `local`.
        config: Of the data set.
        separator: Takes the place of the `/` in an ID of the hub.

    Returns:
        The name of the first training file, or of the folder that it is in where the file is called `train` or the
        like; the ID on the hub; the names of the sources of a mixture. The choice where there is no better one.
    """
    name = _ODD.sub("_", _described(config)).strip("._/") if choice in _GENERAL else ""
    return (name[:_LONGEST] or choice).replace("/", separator)


def _described(config: Mapping[str, Any]) -> str:
    if isinstance(sources := config.get("sources"), Mapping):
        parts = (_described(one) if isinstance(one, Mapping) else "" for one in sources.values())
        return "+".join(dict.fromkeys(part or str(name) for part, name in zip(parts, sources, strict=True)))
    if isinstance(files := config.get("files"), Mapping):
        given = files.get("train")
        first = given[0] if isinstance(given, list) and given else given
        return _of_path(first) if isinstance(first, str) and first != "???" else ""
    path = config.get("path")
    if not isinstance(path, str) or path == "???":
        return ""
    if "splits" not in config:  # a saved data set
        return _of_path(path)
    return "/".join(part for part in (path, config.get("name")) if isinstance(part, str))


def _of_path(given: str) -> str:
    """The last part of a path that describes the data."""
    is_pattern = given.startswith(PATTERN)
    path = Path(given.removeprefix(PATTERN)).expanduser()
    if not is_pattern and is_compressed(path):
        path = path.with_suffix("")
    return next(_telling([*_parts(path, is_pattern)]), "")


def _parts(path: Path, is_pattern: bool) -> Iterator[str]:
    """The parts of a path, the last one first and without its suffix; of a pattern, the literal ones."""
    last, *others = reversed(path.absolute().parts[1:])
    if not (is_pattern and re.search(r"[*?\[]", last)):
        yield Path(last).stem if Path(last).suffix.lower() in SUFFIXES else last
    yield from (part for part in others if not (is_pattern and re.search(r"[*?\[]", part)))


def _telling(parts: list[str]) -> Iterator[str]:
    for part in parts:
        name = _OF_SPLIT.sub("", part)
        if not _VAGUE.fullmatch(name):
            yield name
