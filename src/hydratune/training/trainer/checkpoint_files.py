"""Atomic checkpoints, and the newest one that a run can resume from.

A checkpoint is written to a hidden directory, with a manifest of its files, and synced to disk. It then gets its final
name in one step. A checkpoint with a final name was therefore complete once, and the manifest shows later corruption.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydratune.utils import hub
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import write_json

PREFIX = "checkpoint-"
UNFINISHED = ".unfinished"  # directory next to the checkpoints, in which one is written
MANIFEST = "manifest.json"
_LOADED = (".pt", ".pth", ".bin")  # files that torch loads; they may hold only tensors and plain values
_PICKLED = (
    ".metadata",
    "_states.pt",
)  # files of sharded torch and DeepSpeed checkpoints, read without `weights_only`
_LINEAGE_NAMES = {"network": "model"}  # name in manifests, which older versions have written too -> name for the user
_SPARE = 64 * 2**20  # bytes that must remain free on the disk next to a checkpoint


class DiskFullError(OSError):
    """Disk without room for a checkpoint; earlier checkpoints remain."""


def commit(written: Path, final: Path, lineage: Mapping[str, str], more: Mapping[str, Any]) -> None:
    """Rename a written directory to its final name in one step, once all of it is on disk.

    Args:
        written: Directory below `UNFINISHED`.
        final: Path `checkpoint-N`. An existing one is replaced: it is corrupt, or lacks an interrupted evaluation.
        lineage: Fingerprint of the training that the checkpoint belongs to; see `latest_valid`.
        more: Further entries of the manifest, for `read`.
    """
    files = {str(path.relative_to(written)): _sum(path) for path in _files(written)}
    write_json(written / MANIFEST, {"files": files, "lineage": dict(lineage), **more})
    # All contents must be on disk before the rename, or a power failure could leave a partial checkpoint.
    for path in [*_files(written), *(p for p in written.rglob("*") if p.is_dir()), written]:
        _sync(path)
    replaced = written.with_name(f"{final.name}.replaced")
    if final.exists():  # renamed, since a process that is killed while it removes files would leave no checkpoint
        final.rename(replaced)
    written.rename(final)
    _sync(final.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def read(checkpoint: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint."""
    manifest: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def latest_valid(folder: Path, lineage: Mapping[str, str]) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that a run can resume from, and the skipped checkpoints with the reasons.

    Args:
        folder: Directory of the run's checkpoints.
        lineage: Fingerprint of the run's training, by names for the user.

    Raises:
        ConfigError: If all valid checkpoints have another lineage. A run that starts over would lose them.
    """
    skipped, foreign = [], []
    for checkpoint in list_checkpoints(folder):
        if damage := find_damage(checkpoint):
            skipped.append(f"{checkpoint.name}: {damage}")
        elif differing := [name for name, value in read(checkpoint)["lineage"].items() if lineage.get(name) != value]:
            names = " and ".join(_LINEAGE_NAMES.get(name, name) for name in differing)
            foreign.append(f"{checkpoint.name} was trained with another {names}")
        else:
            return checkpoint, skipped + foreign
    if foreign:
        text = f"cannot resume from {folder}: {'; '.join(foreign)}"
        raise ConfigError(Problem(str(folder), text, "undo the change, or start a new run"))
    return None, skipped


def find_damage(checkpoint: Path) -> str | None:
    """Return why a checkpoint differs from what was saved; None if it is intact."""
    try:
        manifest = read(checkpoint)
        recorded_files = {name: (int(size), str(digest)) for name, (size, digest) in manifest["files"].items()}
        manifest["lineage"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return f"it has no readable {MANIFEST}, so it is incomplete or another program wrote it"
    existing_files = {str(path.relative_to(checkpoint)): path for path in _files(checkpoint)}
    if unrecorded_files := sorted(existing_files.keys() - recorded_files.keys() - {MANIFEST}):
        return f"{MANIFEST} does not list {', '.join(unrecorded_files)}"
    if pickles := sorted(name for name in existing_files if name.endswith(_PICKLED)):
        return f"{', '.join(pickles)} would be loaded as a pickle, which can run code"
    for name, (size, digest) in recorded_files.items():
        if name not in existing_files:
            return f"{name} is missing"
        path = existing_files[name]
        if path.is_symlink():
            return f"{name} is a symbolic link"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
        if _sum(path)[1] != digest:
            return f"{name} is corrupt: its SHA-256 differs from the one in {MANIFEST}"
        if name.endswith(_LOADED) and not _is_plain(path):
            return f"{name} contains more than tensors and plain values, so loading it could run code"
    if foreign_file := next(hub.foreign_files(checkpoint), None):
        return f"it refers to a file outside of it: {foreign_file}"
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    checkpoints = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(checkpoints, key=lambda path: int(path.name.removeprefix(PREFIX)), reverse=True)


def make_room(folder: Path, needed: int) -> None:
    """Delete what an earlier save left unfinished; raise DiskFullError if `needed` bytes do not fit."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise DiskFullError(f"a checkpoint needs {needed / 1e9:.2f} GB, but {folder} has {free / 1e9:.2f} GB free")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())


def _is_plain(path: Path) -> bool:
    """Return whether Trainer would load a file; this check does not read its tensors."""
    import torch
    from transformers.trainer import safe_globals

    try:
        with safe_globals():
            torch.load(path, map_location="meta", mmap=True, weights_only=True)
    except Exception:  # a foreign pickle, or not a file of torch: its bytes can make the reader raise any error
        return False
    return True


def _sum(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
