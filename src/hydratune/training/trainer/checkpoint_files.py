"""Atomic checkpoints, and the newest one that a run can resume from.

A checkpoint is written to a hidden directory, with a manifest of its files, and synced to disk. It then gets its final
name in one step. A checkpoint with a final name was therefore complete once, and the manifest shows later corruption.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from hydratune.utils.checkpoint_references import foreign_files, links_outside
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import remove_tree, write_json
from hydratune.utils.stored_files import StoredFileError, parse_stored, read_regular, read_stored

PREFIX = "checkpoint-"
UNFINISHED = ".unfinished"  # directory next to the checkpoints, in which one is written
MANIFEST, STATE = "manifest.json", "trainer_state.json"
_LOADED = (".pt", ".pth", ".bin")  # files that torch loads; they may hold only tensors and plain values
_PICKLED = (
    ".metadata",
    "_states.pt",
)  # files of sharded torch and DeepSpeed checkpoints, read without `weights_only`
ENCODING = "encoding of the training set"  # part of the lineage that also depends on other parts
_LINEAGE_NAMES = {"network": "model"}  # name in manifests -> name for the user
_SPARE = 64 * 2**20  # bytes that must remain free on the disk next to a checkpoint


class DiskFullError(OSError):
    """Disk without room for a checkpoint; earlier checkpoints remain."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ENOSPC  # with two arguments, the message would begin with the number


@dataclass(frozen=True)
class LossState:
    """Sums of the training loss and the time, which upstream keeps only in memory.

    Args:
        since_last_log: Sum of the losses of the steps since the last log.
        until_last_log: Sum of the losses of all steps before.
        last_log: Step of the last log.
        seconds: Training time until the checkpoint.
    """

    since_last_log: float
    until_last_log: float
    last_log: Annotated[int, Ge(0)]
    seconds: float


@dataclass(frozen=True)
class PendingEvaluation:
    """Evaluation that a signal interrupted, and whether a checkpoint follows it."""

    save: bool


@dataclass(frozen=True)
class Manifest:
    """Content of `manifest.json`.

    Args:
        lineage: Fingerprint of the training that the checkpoint belongs to; see `latest_valid`.
        loss: Sums of the training loss.
        conditions: Other values that affect bit-exactness, by names for the user.
        departures: Changes of the conditions whenever the run was resumed.
        pending_evaluation: Evaluation that the checkpoint lacks; None if it lacks none.
        files: File -> its size in bytes and its SHA-256.
    """

    lineage: Mapping[str, str]
    loss: LossState
    conditions: Mapping[str, str]
    departures: tuple[str, ...]
    pending_evaluation: PendingEvaluation | None = None
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _State:
    """Keys of `trainer_state.json` that a resume depends on."""

    global_step: int
    epoch: float | None
    best_global_step: Annotated[int, Ge(0)] | None
    best_metric: float | None
    best_model_checkpoint: str | None
    log_history: list[dict[str, Any]]
    stateful_callbacks: dict[str, Any]
    train_batch_size: Annotated[int, Ge(1)] | None
    total_flos: float
    num_input_tokens_seen: int


def commit(written: Path, final: Path, manifest: Manifest) -> None:
    """Rename a written directory to its final name in one step, once all of it is on disk.

    Args:
        written: Directory below `UNFINISHED`.
        final: Path `checkpoint-N`. An existing one is replaced: it is corrupt, or lacks an interrupted evaluation.
        manifest: Manifest, to which this function adds the files.
    """
    files = {str(path.relative_to(written)): _sum(path) for path in _files(written)}
    write_json(written / MANIFEST, asdict(replace(manifest, files=files)))
    # All contents must be on disk before the rename, or a power failure could leave a partial checkpoint.
    for path in [*_files(written), *(p for p in written.rglob("*") if p.is_dir()), written]:
        _sync(path)
    replaced = written.with_name(f"{final.name}.replaced")
    if final.exists():  # renamed, since a process that is killed while it removes files would leave no checkpoint
        final.rename(replaced)
    written.rename(final)
    _sync(final.parent)
    if replaced.exists():
        remove_tree(replaced)


def read(checkpoint: Path) -> Manifest:
    """Return the manifest of a checkpoint.

    Raises:
        OSError: It cannot be read.
        StoredFileError: It is not one that hydratune has written.
    """
    return read_stored(checkpoint / MANIFEST, Manifest)


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
            continue
        if names := differing_names(read(checkpoint).lineage, lineage):
            foreign.append(f"{checkpoint.name} was trained with another {names}")
        else:
            return checkpoint, skipped + foreign
    if foreign:
        raise lineage_error(folder, "; ".join(foreign))
    return None, skipped


def differing_names(recorded: Mapping[str, str], lineage: Mapping[str, str]) -> str:
    """Return the names of the parts in which two lineages differ, as text for the user; empty if they are equal."""
    names = [name for name in {**recorded, **lineage} if recorded.get(name) != lineage.get(name)]
    if len(names) > 1 and ENCODING in names:  # the others are the reasons
        names.remove(ENCODING)
    return " and ".join(_LINEAGE_NAMES.get(name, name) for name in names)


def lineage_error(folder: Path, reason: str) -> ConfigError:
    """Return the error for a run whose valid checkpoints all have another lineage."""
    text = f"cannot resume from {folder}: {reason}"
    return ConfigError(Problem(str(folder), text, "undo the change, or start a new run"))


def find_damage(checkpoint: Path) -> str | None:
    """Return why a checkpoint differs from what was saved; None if it is intact."""
    try:
        recorded_files = read(checkpoint).files
    except (OSError, StoredFileError):
        return f"it has no readable {MANIFEST}, so it is incomplete or another program wrote it"
    existing_files = {str(path.relative_to(checkpoint)): path for path in _files(checkpoint)}
    if unrecorded_files := sorted(existing_files.keys() - recorded_files.keys() - {MANIFEST}):
        return f"{MANIFEST} does not list {', '.join(unrecorded_files)}"
    if pickles := _pickles(checkpoint):
        return pickles
    for name, (size, digest) in recorded_files.items():
        if name not in existing_files:
            return f"{name} is missing"
        path = existing_files[name]
        if path.is_symlink():
            return f"{name} is a symbolic link"
        if not path.is_file():
            return f"{name} is a pipe or a device"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
        if _sum(path)[1] != digest:
            return f"{name} is corrupt: its SHA-256 differs from the one in {MANIFEST}"
        if name.endswith(_LOADED) and not _is_plain(path):
            return f"{name} contains more than tensors and plain values, so loading it could run code"
    return find_reference(checkpoint) or _state_damage(checkpoint)


def find_reference(checkpoint: Path) -> str | None:
    """Return why reading a checkpoint of any Trainer could run code, read other files, or not end; else None."""
    if pickles := _pickles(checkpoint):
        return pickles
    if reference := next(itertools.chain(links_outside(checkpoint), foreign_files(checkpoint)), None):
        return f"it refers to a file outside of it: {reference}"
    return None


def _pickles(checkpoint: Path) -> str | None:
    names = (str(path.relative_to(checkpoint)) for path in _files(checkpoint) if path.name.endswith(_PICKLED))
    text = ", ".join(sorted(names))
    return f"{text} would be loaded as a pickle, which can run code" if text else None


def _state_damage(checkpoint: Path) -> str | None:
    """Return why Trainer cannot resume from the state of a checkpoint; None if it can."""
    from transformers import TrainerState

    try:
        text = read_regular(checkpoint / STATE)
        state, keys = parse_stored(text, _State), parse_stored(text, dict[str, Any]).keys()
    except (OSError, StoredFileError):
        return f"it has no readable {STATE}"
    if unknown_keys := sorted(keys - {item.name for item in fields(TrainerState)}):
        return f"{STATE} has keys that transformers does not have: {', '.join(unknown_keys)}"
    if str(state.global_step) != checkpoint.name.removeprefix(PREFIX):
        return f"{STATE} is that of step {state.global_step}"
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    checkpoints = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(checkpoints, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint, which is its name."""
    return int(checkpoint.name.removeprefix(PREFIX))


def make_room(folder: Path, needed: int) -> None:
    """Delete what an earlier save left unfinished; raise DiskFullError if `needed` bytes do not fit."""
    remove_tree(folder / UNFINISHED, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        needed_text, free_text = (f"{size / 1e6:,.1f} MB" for size in (needed + _SPARE, free))
        raise DiskFullError(f"a checkpoint needs {needed_text}, but {folder} has {free_text} free")


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
