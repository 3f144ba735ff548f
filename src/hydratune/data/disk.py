"""Datasets that `save_to_disk` of `datasets` wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydratune.data.raw import RawDataset
from hydratune.data.source import Source
from hydratune.data.source_checks import SPLITS
from hydratune.utils.errors import ConfigError, Problem, invalid_value, one_line
from hydratune.utils.files import expand_home, links_outside
from hydratune.utils.json_text import parse_json
from hydratune.utils.stored_files import read_regular

_NAME = re.compile(r"[\w. -]*\w")


@dataclass(kw_only=True)
class SavedDataset(Source):
    """A directory of `Dataset.save_to_disk`, which is the train split, or of `DatasetDict.save_to_disk`.

    Args:
        path: Directory of the dataset.
    """

    path: str

    def check(self) -> Iterator[Problem]:
        """Add an error if the directory does not hold a saved dataset."""
        yield from super().check()
        folder = expand_home(self.path)
        if not any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
            if folder.is_dir():
                yield Problem("path", f"{self.path} was not written by save_to_disk")
            else:
                yield Problem("path", f"directory not found: {self.path} (working directory: {Path.cwd()})")
        elif "::" in self.path:  # `datasets` parses `::` as a chain of file systems
            yield invalid_value("path", "a path without '::'", repr(self.path), "rename the directory")
        elif outside := next(_names_outside(folder), None):
            text = f"{self.path} refers to a file outside the directory: {outside}"
            yield Problem("path", text, "save the dataset again with save_to_disk")

    def read(self) -> RawDataset:
        """Return the splits of the directory."""
        from datasets import DatasetDict, load_from_disk

        try:
            # An absolute path has no protocol: of `file:/x`, `datasets` would read `/x`, which was not checked.
            loaded = load_from_disk(str(expand_home(self.path).resolve()))
        except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:  # malformed JSON files
            text = f"the dataset in {self.path} cannot be loaded: {one_line(error, 200)}"
            raise ConfigError(Problem("path", text, "save it again with save_to_disk").under("dataset")) from error
        splits = loaded if isinstance(loaded, DatasetDict) else DatasetDict(train=loaded)
        if "train" not in splits:
            text = f"{self.path} has no split 'train', but {', '.join(map(repr, splits))}"
            hint = "rename its splits to train, validation, and test"
            raise ConfigError(Problem("path", text, hint).under("dataset"))
        # A saved dataset may name a format, which would change its values.
        return RawDataset(DatasetDict({split: splits[split].with_format(None) for split in SPLITS if split in splits}))


def _names_outside(folder: Path) -> Iterator[str]:
    """Yield each file or directory outside its own directory that a saved dataset names or links to."""
    yield from (f"the link {path.relative_to(folder)}" for path in links_outside(folder))
    for name, key in (("dataset_dict.json", "splits"), ("state.json", "_data_files")):
        for path in folder.rglob(name):
            for entry in _entries(path, key):
                entry_name = entry.get("filename") if isinstance(entry, dict) else entry
                if not _NAME.fullmatch(str(entry_name)):
                    yield f"{path.relative_to(folder)}: {entry_name!r}"


def _entries(path: Path, key: str) -> list[Any]:
    """Return a list in a JSON file; empty if there is none, which `datasets` reports."""
    try:
        entries = parse_json(read_regular(path))[key]
    except (OSError, RecursionError, ValueError, KeyError, TypeError):
        return []
    return entries if isinstance(entries, list) else []
