"""Checks of `hydra.job_logging` and `hydra.hydra_logging`, since `dictConfig` can call code and write files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydratune.config import allowlist
from hydratune.utils.errors import Mistake, Problem, one_of

_CLASSES = ("logging.FileHandler", "logging.Formatter", "logging.NullHandler", "logging.StreamHandler")
_STREAMS = ("ext://sys.stderr", "ext://sys.stdout")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SECTIONS = ("formatters", "loggers", "root")
# A log file must be in the run's directory and have complete lines in one of our formats. With another place, name, or
# format, a log could be a program, such as a .pth file among Python's packages.
_FILE = re.compile(r"\$\{hydra\.runtime\.output_dir\}/(\$\{hydra\.job\.name\}|[\w.-])+\.log")
_FILE_KEYS = ("class", "delay", "encoding", "filename", "formatter", "level", "mode")
_FORMATS = (
    "%(asctime)s %(levelname)s %(name)s: %(message)s",
    "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s",  # Hydra's
)


def problems(node: Any, key: str) -> Iterator[Problem]:
    """Yield the errors of a logging config.

    Args:
        node: The config as plain data, with unresolved interpolations.
        key: `hydra.job_logging` or `hydra.hydra_logging`.
    """
    yield from _values(node, key)
    handlers = node.get("handlers") if isinstance(node, Mapping) else None
    if not isinstance(handlers, Mapping):
        return
    for name in _root_handlers(node):
        if name not in handlers:
            yield Mistake(f"{key}.root.handlers", one_of(handlers), repr(name), f"Leave out {name}.")
    for name, handler in handlers.items():
        if isinstance(handler, Mapping) and ("filename" in handler or handler.get("class") == "logging.FileHandler"):
            yield from _log_file(handler, node.get("formatters"), f"{key}.handlers.{name}")


def _values(node: Any, key: str) -> Iterator[Problem]:
    """Yield an error for each value that `dictConfig` would look up or call, and for each interpolation."""
    if isinstance(node, list):
        for i, value in enumerate(node):
            yield from _values(value, f"{key}[{i}]")
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from _named(str(name), value, f"{key}.{name}")
    elif isinstance(node, str) and "${" in node:
        yield Mistake(key, "a value without interpolations", repr(node), "Write the value itself.")
    elif isinstance(node, str) and node.startswith(("ext://", "cfg://")) and node not in _STREAMS:
        yield Mistake(key, one_of(_STREAMS), repr(node), f"Set {key}={_STREAMS[0]}.")


def _named(name: str, value: Any, key: str) -> Iterator[Problem]:
    if name in ("()", "class") and value not in (*_CLASSES, *allowlist.user_allowlist()):
        yield Mistake(key, one_of(_CLASSES), repr(value), "Leave it out.")
    elif name == ".":
        yield Mistake(key, "no attributes of handlers", repr(value), "Leave it out.")
    elif name == "filename":
        if not _FILE.fullmatch(str(value)):
            fix = f"Set {key}='${{hydra.runtime.output_dir}}/NAME.log'."
            yield Mistake(key, "a file NAME.log in the run's directory", repr(value), fix)
    elif name == "version" and value != 1:
        yield Mistake(key, "1", repr(value), "Leave it out.")
    elif name == "level" and value not in logging.getLevelNamesMapping() and not isinstance(value, int):
        yield Mistake(key, one_of(_LEVELS), repr(value), f"Set {key}=INFO.")
    elif (name in _SECTIONS and not isinstance(value, Mapping | None)) or (name == "handlers" and value is None):
        yield Mistake(key, "keys with values", repr(value), "Leave it out.")
    else:
        yield from _values(value, key)


def _log_file(handler: Mapping[str, Any], formatters: Any, key: str) -> Iterator[Problem]:
    """Yield an error for each setting that lets a file hold anything but log lines."""
    for name in handler:
        if name not in _FILE_KEYS and f"{key}.{name}" not in allowlist.user_allowlist():
            yield Mistake(f"{key}.{name}", one_of(_FILE_KEYS), repr(name), "Leave it out.")
    formatter = formatters.get(handler.get("formatter")) if isinstance(formatters, Mapping) else None
    if not isinstance(formatter, Mapping) or {*formatter} != {"format"} or formatter["format"] not in _FORMATS:
        fix = f"Name a formatter whose only key is format: {_FORMATS[0]!r}."
        yield Mistake(f"{key}.formatter", "a format of hydratune or Hydra for a file", repr(formatter), fix)


def _root_handlers(node: Mapping[str, Any]) -> list[Any]:
    root = node.get("root")
    handlers = root.get("handlers") if isinstance(root, Mapping) else None
    return handlers if isinstance(handlers, list) else []
