"""Checks of `hydra.job_logging` and `hydra.hydra_logging`, since `dictConfig` can call code and write files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydratune.config import allowlist
from hydratune.utils.errors import KEY, Problem, child_key, display_value, invalid_value, one_of, similar

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
            text = f"unknown handler {name!r} in {KEY}"
            yield Problem(f"{key}.root.handlers", text, similar("handler", name, map(str, handlers)))
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
            yield from _named(str(name), value, child_key(key, name))
    elif isinstance(node, str) and "${" in node:
        yield Problem(key, f"{KEY} must not contain an interpolation: {node!r}", "write the value itself")
    elif isinstance(node, str) and node.startswith(("ext://", "cfg://")) and node not in _STREAMS:
        yield invalid_value(key, one_of(_STREAMS), repr(node))


def _named(name: str, value: Any, key: str) -> Iterator[Problem]:
    if name in ("()", "class") and value not in (*_CLASSES, *allowlist.user_allowlist()):
        yield invalid_value(key, one_of(_CLASSES), display_value(value))
    elif name == ".":
        yield Problem(key, f"{KEY} must not set attributes: {value!r}")
    elif name == "filename":
        if not _FILE.fullmatch(str(value)):
            hint = f"set {KEY}='${{hydra.runtime.output_dir}}/NAME.log'"
            yield invalid_value(key, "a .log file in the run directory", display_value(value), hint)
    elif name == "version" and value != 1:
        yield invalid_value(key, "1", display_value(value))
    elif name == "level" and value not in logging.getLevelNamesMapping() and not isinstance(value, int):
        yield invalid_value(key, one_of(_LEVELS), display_value(value))
    elif (name in _SECTIONS and not isinstance(value, Mapping | None)) or (name == "handlers" and value is None):
        yield invalid_value(key, "a mapping", display_value(value))
    else:
        yield from _values(value, key)


def _log_file(handler: Mapping[str, Any], formatters: Any, key: str) -> Iterator[Problem]:
    """Yield an error for each setting that lets a file hold anything but log lines."""
    for name in handler:
        if name not in _FILE_KEYS and f"{key}.{name}" not in allowlist.user_allowlist():
            yield Problem(f"{key}.{name}", f"{KEY} is not a setting of a log file: use {one_of(_FILE_KEYS)}")
    formatter = formatters.get(handler.get("formatter")) if isinstance(formatters, Mapping) else None
    if not isinstance(formatter, Mapping) or {*formatter} != {"format"} or formatter["format"] not in _FORMATS:
        requirement = "a formatter with the format of hydratune or Hydra alone, because it writes to a file"
        hint = f"name a formatter whose only key is format: {_FORMATS[0]!r}"
        yield invalid_value(f"{key}.formatter", requirement, display_value(formatter), hint)


def _root_handlers(node: Mapping[str, Any]) -> list[Any]:
    root = node.get("root")
    handlers = root.get("handlers") if isinstance(root, Mapping) else None
    return handlers if isinstance(handlers, list) else []
