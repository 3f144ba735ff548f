"""Suffixes of data files, compressed files, and patterns of paths."""

from __future__ import annotations

from pathlib import Path

PATTERN = "glob:"  # the prefix of a path that is a pattern
COMPRESSED = (".gz", ".bz2", ".xz")
# Suffix -> the name of the format, a key of `dataset.format`.
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".conllu": "conllu",
}


def is_compressed(path: Path) -> bool:
    """Return whether a path has the suffix of a compressed file."""
    return path.suffix.lower() in COMPRESSED


def suffix(path: Path) -> str:
    """Return the suffix that selects the format, in lower case; `.csv` for `a.csv.gz`."""
    return Path(path.stem if is_compressed(path) else path.name).suffix.lower()
