"""Loading of YAML files from users and runs, with errors that name the file and line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.utils.errors import ConfigError, Problem, one_line


def read_yaml(path: Path) -> Any:
    """Load a file as a `DictConfig` or `ListConfig`.

    Raises:
        ConfigError: The file cannot be read, is not UTF-8, or is not valid YAML.
    """
    if problems := [*check_yaml([path])]:
        raise ConfigError(*problems)
    return OmegaConf.load(path)


def read_config(path: Path) -> DictConfig:
    """Load a file of keys and values.

    Raises:
        ConfigError: The file is invalid for `read_yaml`, or contains a list.
    """
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
        text = ".hydra/hydra.yaml is not what Hydra wrote"
        raise ConfigError(Problem("RUN", text, "restore the file, or train a new run", str(path))) from error
    return OmegaConf.create(node)


def read_plain_config(path: Path) -> DictConfig:
    """Load the config that a run wrote, which has no interpolations; someone else has added any that it contains.

    Raises:
        ConfigError: The file is invalid for `read_config`, or has interpolations, which would read the environment.
    """
    node = read_config(path)
    if "${" in json.dumps(OmegaConf.to_container(node, resolve=False), default=str):
        raise ConfigError(_problem(path, None, "a stored config must have no interpolations (${...})"))
    return node


def check_yaml(paths: Iterable[Path]) -> Iterator[Problem]:
    """Yield an error for each file that cannot be loaded; its key is `path:line`."""
    for path in paths:
        try:
            _check_encoding(path)
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


def _check_encoding(path: Path) -> None:
    path.read_bytes().decode("utf-8")


def _problem(path: Path, line: int | None, text: str) -> Problem:
    name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    location = name if line is None else f"{name}:{line}"
    return Problem(location, text, source=location)
