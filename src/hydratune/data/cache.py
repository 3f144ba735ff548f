"""Cache of computed rows: `Dataset.map` with cache files that are named by a content hash."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hydratune.data.streaming import described, is_stream
from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.machine import available_cpus

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


VARIABLE = "HYDRATUNE_CACHE"
_OF_WRITING = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)  # errors that reading files does not cause
ROWS, TOKENIZED = "rows", "tokenized"  # folders of the cache
_locks: dict[Path, int] = {}  # directory of the cache that this process uses -> its descriptor, locked as shared
WORTH_PROCESSES = 50_000  # rows; below, starting processes takes longer than the work


def cache_dir() -> Path:
    """Return the cache directory: `$HYDRATUNE_CACHE`, or `hydratune` in `$XDG_CACHE_HOME` or `~/.cache`."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hydratune"
    return Path(os.environ.get(VARIABLE, default))


@contextmanager
def writing_cache() -> Iterator[None]:
    """Raise ConfigError if the cache cannot be written; the error would otherwise seem to be one of the data.

    Raises:
        ConfigError: The disk of the cache is full, or its directory is not writable.
    """
    try:
        yield
    except OSError as error:
        is_inside = error.filename is not None and Path(str(error.filename)).is_relative_to(cache_dir())
        if not is_inside and error.errno not in _OF_WRITING:
            raise
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> ConfigError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    text = f"cannot write the cache {str(cache_dir())!r}: {reason[:1].lower()}{reason[1:]}"
    return ConfigError(Problem(VARIABLE, text, f"export {KEY}=DIR, with a writable directory"))


def used_folder(name: str) -> Path:
    """Return a folder of the cache, which `hydratune clean` does not remove from now on until this process ends.

    Raises:
        ConfigError: The folder cannot be created.
    """
    directory = cache_dir()
    folder = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if directory not in _locks:
            for descriptor in _locks.values():  # of another cache: a process of tests uses several
                os.close(descriptor)
            _locks.clear()
            _locks[directory] = os.open(directory, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(_locks[directory], fcntl.LOCK_SH)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from error
    return folder


@contextmanager
def unused_cache() -> Iterator[bool]:
    """Yield whether no process uses the cache; those that want to wait until the context ends."""
    descriptor = os.open(cache_dir(), os.O_RDONLY)
    try:
        yield _lock_alone(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove a folder of the cache; call this in the context of `unused_cache`."""
    shutil.rmtree(folder)


def _lock_alone(descriptor: int) -> bool:
    """Lock a directory, and return whether no other process has locked it, as far as its file system can tell."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def cache_folders() -> list[Path]:
    """Return the folders of the cache; the directory that `$HYDRATUNE_CACHE` names may contain other files."""
    return [cache_dir() / name for name in (ROWS, TOKENIZED)]


def content_hash(rows: Dataset) -> str:
    """Return the SHA-256 of the columns' names, types, and values in their order, whatever the source of the rows."""
    if rows not in _HASHES:
        _HASHES[rows] = _content_hash(rows)
    return _HASHES[rows]


def source_hash(rows: Any) -> str:
    """Return the SHA-256 of the content of rows; for a stream, of the description of its source and of its encoding."""
    if is_stream(rows):
        return hashlib.sha256(rows.info.description.encode()).hexdigest()
    return content_hash(rows)


_HASHES: WeakKeyDictionary[Dataset, str] = WeakKeyDictionary()  # a dataset never changes, and its hash is read often


def _content_hash(rows: Dataset) -> str:
    import pyarrow as pa

    digest = hashlib.sha256()
    for table in rows.with_format("arrow").iter(batch_size=10_000):
        plain = table.replace_schema_metadata(None).combine_chunks()  # chunks depend on the reader
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, plain.schema) as writer:
            writer.write_table(plain)
        digest.update(sink.getvalue())
    return digest.hexdigest()


def table_hash(rows: Dataset) -> str:
    """Return a SHA-256 of rows that also depends on how they were selected; reading selected rows takes far longer."""
    from datasets import Dataset

    if rows._indices is None:
        return content_hash(rows)
    table = Dataset(rows.data, info=rows.info, fingerprint=rows._fingerprint)
    indices = Dataset(rows._indices, fingerprint=rows._fingerprint)
    return hashlib.sha256(f"{_content_hash(table)} {_content_hash(indices)}".encode()).hexdigest()


def arrow_column(rows: Dataset, name: str) -> pa.ChunkedArray:
    """Return one column as an Arrow array, without a Python object for each value."""
    return rows.select_columns(name).with_format("arrow")[:][name]


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of what determines the tokenizer's output, such as its model, normalizer, and special tokens.

    The truncation and padding of a fast tokenizer's last call do not count.
    """
    if tokenizer.is_fast:
        backend_config = json.loads(tokenizer.backend_tokenizer.to_str())
        state = json.dumps(
            {name: value for name, value in backend_config.items() if name not in ("truncation", "padding")}
        )
    else:
        state = json.dumps(sorted(tokenizer.get_vocab().items()))
    sides = [tokenizer.truncation_side, tokenizer.padding_side, tokenizer.model_input_names]
    description = f"{type(tokenizer).__name__}\n{tokenizer.special_tokens_map}\n{sides}\n{state}"
    return hashlib.sha256(description.encode()).hexdigest()


def cached_map(
    rows: Any,
    function: Callable[..., Mapping[str, list[Any]]],
    key: Mapping[str, Any],
    what: str,
    with_indices: bool = False,
) -> Any:
    """Return `rows.map(function)` in batches without the old columns, from the cache if it was computed before.

    Args:
        rows: A dataset, or a stream, which is mapped while it is read and not cached.
        function: Function from a batch of columns to a batch of new columns.
        key: Everything that the result depends on except the rows, as JSON.
        what: Description for the progress bar.
        with_indices: Whether `function` also takes the rows' numbers.
    """
    if is_stream(rows):
        stream = rows.map(function, batched=True, remove_columns=rows.column_names, with_indices=with_indices)
        return described(stream, json.dumps(key, sort_keys=True))
    text = json.dumps({"rows": content_hash(rows), **key}, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:32]
    with writing_cache():
        return rows.map(
            function,
            batched=True,
            with_indices=with_indices,
            remove_columns=rows.column_names,
            cache_file_name=str(used_folder(TOKENIZED) / f"{fingerprint}.arrow"),
            load_from_cache_file=True,
            new_fingerprint=fingerprint,
            num_proc=processes(len(rows)),
            desc=what,
        )


def processes(rows: int) -> int | None:
    """Return the number of processes to map that many rows: one per CPU for many rows, else None."""
    cpus = available_cpus()
    return cpus if cpus > 1 and rows >= WORTH_PROCESSES else None
