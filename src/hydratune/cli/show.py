"""Show the state, command, changed settings, metrics, and files of one run, and how to load its model."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.run_argument import add_run_argument
from hydratune.cli.run_status import FAILED, FINISHED, INTERRUPTED, format_age, run_status
from hydratune.cli.run_summary import details, metrics_table
from hydratune.config.composition import Request, compose_config, composer, config_flags, flat, without_hydra
from hydratune.config.options import shipped_dir
from hydratune.config.project import typed_flags
from hydratune.tracking.run_directories import is_in_sweep
from hydratune.tracking.run_lookup import RunLookup
from hydratune.training import model_card
from hydratune.training.results import read_metrics
from hydratune.utils import clock, provenance
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.console import plain_console
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import CONFIG, OVERRIDES, check_links, not_a_run
from hydratune.utils.yaml_files import read_hydra_node, read_overrides, read_plain_config

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # a default that is the value of another key
_DERIVED = ("name", "tracking.experiment_name")  # keys whose defaults follow from the data


def main(arguments: Sequence[str]) -> int:
    """Print what is known of a run, and return the exit code."""
    parser = ArgumentParser(prog="hydratune show", description=__doc__)
    add_run_argument(parser)
    args = parser.parse_args(arguments)
    directory = RunLookup(args.uri).directory(args.run)
    is_trial = is_in_sweep(directory)
    file = directory / OVERRIDES if is_trial else directory / ".hydra" / OVERRIDES
    if not file.is_file():
        raise ConfigError(not_a_run(directory, f".hydra/{OVERRIDES}"))
    check_links(directory)
    run = run_status(directory)
    console = plain_console(soft_wrap=True)
    overrides = [str(text) for text in read_overrides(file)]
    hydra_node = None if is_trial else read_hydra_node(directory)
    flags = typed_flags(config_flags(hydra_node)) if hydra_node else []
    console.print(f"run       {directory}")
    console.print(f"state     {run.state}, started {format_age(clock.time() - run.started)} ago")
    console.print(f"command   {provenance.command(flags, overrides)}")
    if run.run_id:
        console.print(f"MLflow ID {run.run_id}")
    for number, (key, value, default) in enumerate(_changes(directory, hydra_node, overrides) if hydra_node else ()):
        console.print(f"{'' if number else 'changed':<9} {key}={value}  ({default})")
    if run.state == FINISHED:
        console.print(metrics_table(read_metrics(directory)))
        for name, text in details(directory):
            console.print(f"{name:<9} {text}")
    console.print(f"files     {', '.join(_files(directory))}")
    for label, text in () if is_trial else _next_steps(directory, run.state):
        console.print(f"{label:<9} {text}")
    return 0


def _changes(directory: Path, hydra_node: Any, overrides: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield key, value, and a note about the default for each setting that differs from that of its option."""
    with suppress(ConfigError, OmegaConfBaseException):  # options of another version, or a config that is gone
        stored = dict(flat(OmegaConf.to_container(read_plain_config(directory / CONFIG))))
        typed = {text.lstrip("+~").partition("=")[0] for text in overrides}
        config = _default_config(hydra_node)
        default = dict(flat(OmegaConf.to_container(config, resolve=True)))
        references = dict(flat(OmegaConf.to_container(config)))
        for key, value in stored.items():
            if key in _DERIVED and key not in typed:
                continue
            reference = _REFERENCE.fullmatch(str(references.get(key)))
            follows = reference is not None and value == stored.get(reference[1])
            if value != default.get(key) and not follows:
                yield key, str(provenance.redact(value, key)), _note(key, default)


def _note(key: str, default: Mapping[str, Any]) -> str:
    if key not in default:
        return "unset by default"
    return "required" if default[key] == "???" else f"default: {provenance.redact(default[key], key)}"


def _default_config(hydra_node: Any) -> DictConfig:
    """Return the config of a run's options without its overrides of single values."""
    groups = {path.parent.name for path in shipped_dir().glob("*/*.yaml")}
    choices = {group: name for group, name in hydra_node.runtime.choices.items() if group in groups}
    overrides = [f"{group}={name}" for group, name in choices.items() if name and group != "experiment"]
    request = Request(tuple(overrides))
    with composer(request):
        return without_hydra(compose_config(request, overrides))


def _files(directory: Path) -> list[str]:
    """Return the names of what is in a run directory, folders with a slash."""
    paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return [f"{path.name}/" if path.is_dir() else path.name for path in paths]


def _next_steps(directory: Path, state: str) -> Iterator[tuple[str, str]]:
    if state == FINISHED:
        for number, line in enumerate(model_card.checked_loading_code(directory)):
            yield ("" if number else "load"), line
        yield "next", f"{shlex.join(['hydratune', 'predict', str(directory)])} FILE"
    elif state in (FAILED, INTERRUPTED):
        yield "next", shlex.join(["hydratune", "resume", str(directory)])
