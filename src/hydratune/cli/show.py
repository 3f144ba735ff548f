"""`hydratune show RUN`: state, command, changed settings, metrics, and files of one run, and how to load its model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.run_list import FAILED, FINISHED, INTERRUPTED, format_age, is_in_sweep, run_status
from hydratune.cli.run_summary import metrics_table
from hydratune.config.composition import (
    Request,
    compose_config,
    composer,
    config_flags,
    flat,
    shipped_dir,
    without_hydra,
)
from hydratune.evaluation.load_run import directory_of, read_metrics
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils import clock, provenance
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.console import plain_console
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import CONFIG, MODEL, OVERRIDES, not_a_run
from hydratune.utils.yaml_files import read_hydra_node, read_overrides, read_plain_config

_FENCED = re.compile(r"^```python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_MANAGED = ("name", "hydra")  # keys of the config that follow from others


def main(arguments: Sequence[str]) -> int:
    """Print what is known of a run, and return the exit code."""
    parser = ArgumentParser(prog="hydratune show", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run directory or MLflow run ID")
    parser.add_argument("--uri", default=Mlflow.uri, metavar="URI", help="MLflow store of RUN [default: %(default)s]")
    args = parser.parse_args(arguments)
    directory = directory_of(args.run, args.uri)
    is_trial = is_in_sweep(directory)
    file = directory / OVERRIDES if is_trial else directory / ".hydra" / OVERRIDES
    if not file.is_file():
        raise ConfigError(not_a_run(Path(args.run), f".hydra/{OVERRIDES}"))
    run = run_status(directory)
    console = plain_console(soft_wrap=True)
    overrides = [str(text) for text in read_overrides(file)]
    hydra_node = None if is_trial else read_hydra_node(directory)
    console.print(f"run       {directory}")
    console.print(f"state     {run.state}, started {format_age(clock.time() - run.started)} ago")
    console.print(f"command   {provenance.command(config_flags(hydra_node) if hydra_node else [], overrides)}")
    if run.run_id:
        console.print(f"MLflow ID {run.run_id}")
    for number, (key, value, default) in enumerate(_changes(directory, hydra_node) if hydra_node else ()):
        console.print(f"{'' if number else 'changed':<9} {key}={value}  ({default})")
    if run.state == FINISHED:
        console.print(metrics_table(read_metrics(directory)))
    console.print(f"files     {', '.join(_files(directory))}")
    for label, text in () if is_trial else _next_steps(directory, run.state):
        console.print(f"{label:<9} {text}")
    return 0


def _changes(directory: Path, hydra_node: Any) -> Iterator[tuple[str, str, str]]:
    """Yield key, value, and a note about the default for each setting that differs from that of its option."""
    with suppress(ConfigError, OmegaConfBaseException):  # options of another version, or a config that is gone
        stored = dict(flat(OmegaConf.to_container(read_plain_config(directory / CONFIG))))
        default = dict(flat(_default_config(hydra_node)))
        for key, value in stored.items():
            if key not in _MANAGED and value != default.get(key):
                yield key, str(provenance.redact(value, key)), _note(key, default)


def _note(key: str, default: Mapping[str, Any]) -> str:
    if key not in default:
        return "unset by default"
    return "required" if default[key] == "???" else f"default: {provenance.redact(default[key], key)}"


def _default_config(hydra_node: Any) -> Any:
    """Return the config of a run's options without its overrides of single values."""
    groups = {path.parent.name for path in shipped_dir().glob("*/*.yaml")}
    choices = {group: name for group, name in hydra_node.runtime.choices.items() if group in groups}
    overrides = [f"{group}={name}" for group, name in choices.items() if name and group != "experiment"]
    request = Request(tuple(overrides))
    with composer(request):
        return OmegaConf.to_container(without_hydra(compose_config(request, overrides)), resolve=True)


def _files(directory: Path) -> list[str]:
    """Return the names of what is in a run directory, folders with a slash."""
    paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return [f"{path.name}/" if path.is_dir() else path.name for path in paths]


def _next_steps(directory: Path, state: str) -> Iterator[tuple[str, str]]:
    if state == FINISHED:
        with suppress(OSError):
            card = (directory / MODEL / "README.md").read_text(encoding="utf-8")
            if block := _FENCED.search(card):
                for number, line in enumerate(block[1].splitlines()):
                    yield ("" if number else "load"), line
        yield "next", f"hydratune predict {directory} FILE"
    elif state in (FAILED, INTERRUPTED):
        yield "next", f"hydratune resume {directory}"
