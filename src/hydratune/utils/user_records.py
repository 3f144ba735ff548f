"""Files of the user, outside projects, that record what they have typed or trusted, such as addresses of servers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from hydratune.utils.atomic import replaced
from hydratune.utils.json_text import parse_json

Record = TypeVar("Record", list[str], dict[str, str])


def record_path(name: str) -> Path:
    """Return the path of a record."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "hydratune" / name


def read_record(name: str, empty: Record) -> Record:
    """Return a recorded list or mapping of texts, or `empty` if it does not exist or has another form.

    Every command reads records when it starts, so this does not import pydantic as `read_stored` does.
    """
    try:
        is_file = record_path(name).is_file()  # not a pipe, which may have no end
        content: Any = parse_json(record_path(name).read_bytes()) if is_file else empty
    except (OSError, ValueError):
        return empty
    texts = [*content, *content.values()] if isinstance(content, dict) else content
    is_valid = type(content) is type(empty) and all(isinstance(text, str) for text in texts)
    return content if is_valid else empty


def write_record(name: str, content: Record) -> None:
    """Write a record that only the user may read.

    Raises:
        OSError: The file cannot be written, e.g. without a home directory.
    """
    # The directory is the user's own, also if it is a link, e.g. to a repository of settings.
    record_path(name).parent.mkdir(0o700, parents=True, exist_ok=True)
    with replaced(record_path(name)) as temp_path:
        temp_path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
