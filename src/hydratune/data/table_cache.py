"""Typed rows of files, cached as Arrow under a hash of the files' content, or streamed."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.data.cache import ROWS, used_folder, writing_cache
from hydratune.data.open_files import digest
from hydratune.data.readers.column_types import Type, arrow_table
from hydratune.data.readers.formats import FORMATS, binary_batches
from hydratune.data.readers.scan import ReadOptions, Record, Selection, conflict

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset, Features, IterableDataset

_BATCH = 1000  # number of rows that are held in memory
_VERSION = 3  # increase it when a reader parses the same bytes differently


@dataclass(frozen=True)
class TableFile:
    """A file and the types that its rows have in a table.

    Args:
        path: Path of the file.
        name: Name of the format.
        options: Options of the format.
        selection: Columns to read.
        types: Types of these columns in all files of the split; for binary files, only the names count.
        digest: SHA-256 of the file's bytes.
    """

    path: Path
    name: str
    options: ReadOptions
    selection: Selection
    types: Mapping[str, Type]
    digest: str = ""

    def tables(self) -> Iterator[pa.Table]:
        """Yield the valid rows as tables of up to 1,000 rows."""
        import pyarrow as pa

        if FORMATS[self.name].read is None:
            for batch in binary_batches(self.path, self.name, list(self.types), _BATCH):
                yield pa.Table.from_batches([batch])
            return
        rows = self._rows()
        while batch := list(itertools.islice(rows, _BATCH)):
            yield arrow_table(batch, self.types, FORMATS[self.name].typing)

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        file_format = FORMATS[self.name]
        assert file_format.read is not None
        for item in file_format.read(self.path, self.options):
            if isinstance(item, Record):
                values = self.selection.of(item.values, file_format.typing)
                if not conflict(item, values, self.types, file_format.typing, self.selection):
                    yield values

    def key(self) -> list[Any]:
        """Return everything that determines the rows, without the file's name."""
        options = {name: sorted(v) if isinstance(v, frozenset) else v for name, v in asdict(self.options).items()}
        return [self.digest, self.name, options, asdict(self.selection), [*self.types.items()]]

    def verify(self) -> None:
        """Raise ValueError if the file's bytes no longer match the digest."""
        if digest(self.path) != self.digest:
            raise ValueError(f"{self.path} changed while it was read")


def cached_rows(files: Sequence[TableFile], features: Features) -> Dataset:
    """Return the rows of files, from the cache if the same bytes were read with the same options before.

    Raises:
        ValueError: If a value does not fit into its column, or if a file changed while it was read.
        ConfigError: If the cache cannot be written.
    """
    with writing_cache():
        return _cached_rows(files, features)


def _cached_rows(files: Sequence[TableFile], features: Features) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    cache_file = used_folder(ROWS) / f"{_key(files, features)[:32]}.arrow"
    if not cache_file.exists():
        partial_file = cache_file.with_suffix(f".{uuid.uuid4().hex[:8]}")  # other runs may write the same file
        try:
            with pa.ipc.new_stream(partial_file, features.arrow_schema) as writer:
                for table in itertools.chain.from_iterable(file.tables() for file in files):
                    writer.write_table(_fitted(table, features))
            _verify(files)
            partial_file.replace(cache_file)
        finally:
            partial_file.unlink(missing_ok=True)
    else:
        _verify(files)
    return Dataset.from_file(str(cache_file))


def _key(files: Sequence[TableFile], features: Features) -> str:
    """Return a hash of everything that determines the rows."""
    text = json.dumps([_VERSION, str(features), [file.key() for file in files]])
    return hashlib.sha256(text.encode()).hexdigest()


def _verify(files: Sequence[TableFile]) -> None:
    for file in files:
        file.verify()


def streamed_rows(files: Sequence[TableFile], features: Features) -> IterableDataset:
    """Return the same rows as a stream whose description is a hash of its content.

    Raises:
        ValueError: If a file changed since it was scanned.
    """
    from datasets import IterableDataset

    _verify(files)
    stream = IterableDataset.from_generator(_examples, features, {"files": list(files), "features": features})
    stream.info.description = _key(files, features)
    return stream


def _examples(files: Sequence[TableFile], features: Features) -> Iterator[dict[str, Any]]:
    for file in files:
        for table in file.tables():
            yield from _fitted(table, features).to_pylist()


def _fitted(table: pa.Table, features: Features) -> pa.Table:
    """Return a table with all columns of `features`, cast to their types."""
    import pyarrow as pa
    from datasets.table import table_cast

    schema = features.arrow_schema
    if table.schema.equals(schema):
        return table
    for name in schema.names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
    return table_cast(table.select(schema.names), schema)
