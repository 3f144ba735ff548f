"""Loading of YAML files from users and runs, with errors that name the file and line."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.places import check_place
from hydratune.utils.stored_files import read_regular

_MOST_VALUES = 100_000  # of a file with aliases
_ALIASES = f"its aliases (*NAME) expand to more than {_MOST_VALUES:,} values"
_INTERPOLATIONS = "a stored config must have no interpolations (${...})"
_LONGEST = 5_000_000  # characters; longer files take minutes to parse
_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t\r]*$", re.DOTALL | re.MULTILINE)


def read_yaml(path: Path) -> Any:
    """Load a file as a `DictConfig` or `ListConfig`.

    Raises:
        ConfigError: The file cannot be read, is not UTF-8, or is not valid YAML.
    """
    if problems := [*check_yaml([path])]:
        raise ConfigError(*problems)
    return OmegaConf.load(path)


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML document of someone else, in bounded time and memory.

    Raises:
        ValueError: The document is too large, or its aliases are.
        RecursionError: It is nested too deeply.
        yaml.YAMLError: It is invalid.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST:,} characters")
    if _has_large_aliases(text):
        raise ValueError(_ALIASES)
    return yaml.safe_load(text)


def parse_plain_config(text: str) -> Any:
    """Do the same as `parse_yaml` for the config that a run wrote, which has no interpolations.

    Raises:
        ValueError: It has interpolations, which would read the environment, or is invalid for `parse_yaml`.
    """
    if "${" in json.dumps(content := parse_yaml(text), default=str):
        raise ValueError(_INTERPOLATIONS)
    return content


def read_front_matter(path: Path) -> dict[str, Any]:
    """Return the YAML at the start of a Markdown file, e.g. a model card; empty if it is missing or invalid."""
    with suppress(OSError, RecursionError, ValueError, yaml.YAMLError):
        match = _FRONT_MATTER.match(read_regular(path).decode("utf-8"))
        content = parse_yaml(match[1]) if match else {}
        return content if isinstance(content, dict) else {}
    return {}


def read_config(path: Path) -> DictConfig:
    """Load a file of keys and values.

    Raises:
        ConfigError: The file is invalid for `read_yaml`, or contains a list.
    """
    check_place(path.name, path)
    node = read_yaml(path)
    if not isinstance(node, DictConfig):
        raise ConfigError(_problem(path, 1, "a list instead of keys and values"))
    return node


def read_overrides(path: Path) -> list[Any]:
    """Load the overrides of a run as they were typed, with `${oc.env:NAME}` in them as text.

    Iterating over a `ListConfig` would resolve it: text from elsewhere would then read the environment.

    Raises:
        ConfigError: The file is invalid for `read_yaml`, or does not contain a list.
    """
    check_place(path.name, path)
    node = read_yaml(path)
    if not isinstance(node, ListConfig):
        raise ConfigError(_problem(path, None, "not a list of overrides"))
    return OmegaConf.to_container(node, resolve=False)  # type: ignore[return-value]


def read_hydra_node(directory: Path) -> DictConfig:
    """Load what commands need of the `hydra` node of a run: `runtime`, and ID and config name of the `job`.

    Interpolations in other parts of the node are Hydra's own. Nothing is resolved, as in `read_overrides`.

    Raises:
        ConfigError: The file is invalid for `read_yaml`, or is not what Hydra wrote.
    """
    path = directory / ".hydra" / "hydra.yaml"
    check_place(path.name, path)
    plain: Any = OmegaConf.to_container(read_yaml(path), resolve=False)
    try:
        runtime, job = plain["hydra"]["runtime"], plain["hydra"].get("job", {})
        sources = [
            {name: str(source[name]) for name in ("path", "provider", "schema")} for source in runtime["config_sources"]
        ]
        choices = {str(group): name for group, name in runtime.get("choices", {}).items()}
        node = {
            "runtime": {"cwd": str(runtime["cwd"]), "config_sources": sources, "choices": choices},
            "job": {name: job.get(name) for name in ("config_name", "id")},
        }
        if "${" in json.dumps(node):
            raise ValueError("an interpolation")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        text = ".hydra/hydra.yaml was not written by Hydra, or was changed"
        raise ConfigError(Problem("RUN", text, "restore the file, or train a new run", str(path))) from error
    return OmegaConf.create(node)


def read_plain_config(path: Path) -> DictConfig:
    """Load the config that a run wrote, which has no interpolations; someone else has added any that it contains.

    Raises:
        ConfigError: The file is invalid for `read_config`, or has interpolations, which would read the environment.
    """
    node = read_config(path)
    if "${" in json.dumps(OmegaConf.to_container(node, resolve=False), default=str):
        raise ConfigError(_problem(path, None, _INTERPOLATIONS))
    return node


def check_yaml(paths: Iterable[Path]) -> Iterator[Problem]:
    """Yield an error for each file that cannot be loaded; its key is `path:line`."""
    for path in paths:
        try:
            _check_encoding(path)
            if problem := next(check_aliases([path]), None):
                yield problem
                continue
            OmegaConf.load(path)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            text = f"invalid YAML: {error.problem or one_line(error, 200)}"
            yield _problem(path, mark.line + 1 if mark else None, text)
        except yaml.reader.ReaderError as error:
            line = path.read_text(encoding="utf-8")[: error.position].count("\n") + 1
            yield _problem(path, line, f"invalid YAML: the character {chr(error.character)!r}")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            yield _problem(path, line, f"invalid UTF-8 (byte {error.object[error.start]:#04x})")
        except RecursionError:
            yield _problem(path, None, "invalid YAML: values are nested too deeply")
        except (OSError, ValueError, OmegaConfBaseException) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error, 300)
            yield _problem(path, None, f"cannot be loaded: {reason}")


def check_aliases(paths: Iterable[Path]) -> Iterator[Problem]:
    """Yield an error for each file whose aliases (`*NAME`) would make it too large for the memory."""
    for path in paths:
        with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):  # reported when the file is loaded
            text = read_regular(path).decode("utf-8")
            if len(text) > _LONGEST:
                yield _problem(path, None, f"it has more than {_LONGEST:,} characters")
            elif _has_large_aliases(text):
                yield _problem(path, None, _ALIASES)


def _check_encoding(path: Path) -> None:
    read_regular(path).decode("utf-8")


def _has_large_aliases(text: str) -> bool:
    return "&" in text and "*" in text and _expanded_size(yaml.compose(text, yaml.SafeLoader), {}) > _MOST_VALUES


def _expanded_size(node: Any, sizes: dict[int, float]) -> float:
    """Return the number of values of a YAML node with all aliases replaced; infinity for a node inside itself."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        children = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        is_scalar = not isinstance(node, yaml.CollectionNode)
        sizes[id(node)] = 1 if is_scalar else 1 + sum(_expanded_size(child, sizes) for child in children)
    return sizes[id(node)]


def _problem(path: Path, line: int | None, text: str) -> Problem:
    name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    location = name if line is None else f"{name}:{line}"
    return Problem(location, text, source=location)
