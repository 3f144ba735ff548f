"""Open files by their literal names, and decompress compressed files."""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hydratune.data.readers.image_folder import folder_digest
from hydratune.utils.errors import one_line
from hydratune.utils.file_suffixes import is_compressed

_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_CORRUPT = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file object of the decompressed bytes of a file.

    Raises:
        ValueError: If a compressed file turns out to be corrupt or truncated while it is read.
    """
    if not is_compressed(path):
        with path.open("rb") as file:
            yield file
        return
    kind = path.suffix.lower().removeprefix(".")
    try:
        with _OPENERS[path.suffix.lower()](path) as file:
            yield file
    except _CORRUPT as error:
        raise ValueError(f"corrupt {kind} file ({one_line(error)})") from error
    except OSError as error:
        if error.errno is not None:  # e.g. no permission; bz2 reports corrupt data without a number
            raise
        raise ValueError(f"corrupt {kind} file ({one_line(error)})") from error


def codec(encoding: str) -> str:
    """Return the codec that reads the encoding; for UTF-8, the one that skips a byte order mark."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield lines with their line ends; invalid bytes become lone surrogates, which `not_text` reports."""
    with (
        open_binary(path) as file,
        io.TextIOWrapper(file, encoding=codec(encoding), errors="surrogateescape", newline="") as text,
    ):
        yield from text


def read_text(path: Path, encoding: str) -> str:
    """Return the whole text of a file; raise UnicodeError if bytes are invalid in the encoding."""
    with open_binary(path) as file, io.TextIOWrapper(file, encoding=codec(encoding)) as text:
        return text.read()


def starts_as_utf16(path: Path) -> bool:
    """Return whether a file starts with the byte order mark of UTF-16, as Excel's "Unicode text" does."""
    with suppress(OSError, ValueError), open_binary(path) as file:  # a corrupt file is reported when it is read
        return file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return False


def digest(path: Path) -> str:
    """Return the SHA-256 of the file's bytes on disk; for a folder of images, of the image paths."""
    if path.is_dir():
        return folder_digest(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
