"""Typed reading of the JSON files that runs and sweeps store, which another program or person may have changed."""

from __future__ import annotations

import errno
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from hydratune.utils.places import untrusted_link

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Form = TypeVar("Form")


class StoredFileError(ValueError):
    """Error for a stored file with another form; the message names the key, e.g. `loss.seconds: field required`."""


def read_stored(path: Path, form: type[Form]) -> Form:
    """Return the content of a JSON file, whose keys and types must be those of `form`.

    Values are not converted: `"3"` is not an integer. Keys that `form` lacks, e.g. of a later version, are ignored.

    Args:
        path: The file.
        form: A frozen dataclass, or a type such as `list[str]`.

    Raises:
        OSError: The file cannot be read, or is behind a link that leads elsewhere.
        StoredFileError: The file is not JSON, lacks a key, or has a value of another type.
    """
    with open_stored(path) as file:
        return parse_stored(file.read(), form)


def read_regular(path: Path) -> bytes:
    """Return the bytes of a file; raise OSError for a pipe or a device, which may have no end."""
    with open_regular(path) as file:
        return file.read()


def open_regular(path: Path) -> BinaryIO:
    """Open a file; raise OSError for a pipe or a device, which may have no end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.open("rb")


def open_stored(path: Path) -> BinaryIO:
    """Open a file of a run or a sweep; raise OSError for a pipe, a device, or a link that leads elsewhere."""
    file = open_regular(path)
    if link := untrusted_link(path):
        file.close()
        raise OSError(errno.ELOOP, "a link leads out of its directory", str(link))
    return file


def parse_stored(text: str | bytes, form: type[Form]) -> Form:
    """Return the value of a JSON document; see `read_stored`."""
    from pydantic import ValidationError

    try:
        value: Form = _adapter(cast(Hashable, form)).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise StoredFileError(f"{key}: {first['msg']}" if key else first["msg"]) from error
    return value


@cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(form)
