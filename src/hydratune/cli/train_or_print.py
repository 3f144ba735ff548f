"""`hydratune OVERRIDES`: print what flags such as `--cfg` require, or train.

Printing imports no code of training, sweeps, and tracking, so that it starts fast.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import Container, DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.hydra_main import run_hydra
from hydratune.cli.train_options import (
    make_request,
    parse_overrides,
    print_options,
    request_flags,
    with_project_configs,
)
from hydratune.config import composition, hydra_guard
from hydratune.config.compose_errors import compose_error
from hydratune.config.composition import Request
from hydratune.utils.errors import KEY, ConfigError, Problem
from hydratune.utils.logs import is_quiet
from hydratune.utils.messages import print_line
from hydratune.utils.provenance import redact
from hydratune.utils.secret_names import LABELS

_DESCRIPTION = """Train a model, or several with -m. `train` may be omitted. `hydratune configs` lists the values of
dataset, model, task, and other groups; `hydratune help` lists the other commands. Most options are Hydra's."""
_REFERENCE = re.compile(r"\$\{[\w.:]+\}")  # an interpolation without literal text
_PRINT_FLAGS = ("shell_completion", "hydra_help", "help", "info", "cfg")


def main(arguments: Sequence[str]) -> int:
    """Run `hydratune train`, whose help lists its options; without the verb, the help lists all commands."""
    if {"-h", "--help"} & {*arguments}:
        print_options("hydratune train", _DESCRIPTION)
        return 0
    return train_or_print(arguments)


def train_or_print(arguments: Sequence[str]) -> int:
    """Print what the flags require, or else run one job, or several with `-m`; return the exit code."""
    if not (arguments or is_quiet()):
        print_line("no overrides: training the demo; Ctrl-C stops it, `hydratune --help` lists the commands")
    arguments = with_project_configs(arguments)
    flags = parse_overrides(arguments)
    if any(getattr(flags, name) for name in _PRINT_FLAGS):
        return _print_only(arguments, flags)
    from hydratune.cli.train import train

    return train(arguments)


def _print_only(arguments: Sequence[str], flags: Namespace) -> int:
    request = make_request(flags)
    hydra_arguments = [*request_flags(arguments, flags), *flags.overrides]
    if flags.shell_completion:
        return run_hydra(hydra_arguments)
    if flags.hydra_help:
        print_options()
        return 0
    try:
        with composition.composer(request):
            cfg = _printable_config(request)
            if not (flags.help or flags.info):
                _print_config(cfg, flags)
                return 0
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(compose_error(error)) from error
    return run_hydra(hydra_arguments)


def _printable_config(request: Request) -> DictConfig:
    """Return the config to print, which may be incomplete or wrong; raise ConfigError if it could run code."""
    if problems := [*composition.check_single(request)]:
        raise ConfigError(*problems)
    cfg = composition.compose_config(request, composition.force_add(request))
    if problems := [*hydra_guard.check_hydra_node(cfg.hydra)]:
        raise ConfigError(*problems)
    return cfg


def _print_config(cfg: DictConfig, flags: Namespace) -> None:
    """Print a composed config, or a node of it, as Hydra's flags `--cfg`, `--package`, and `--resolve` require."""
    with read_write(cfg.hydra):
        shown = GlobalHydra.instance().hydra.get_sanitized_cfg(cfg, flags.cfg)  # type: ignore[union-attr]
    package = None if flags.package == "_global_" else flags.package
    node = OmegaConf.select(shown, package) if package else shown
    if node is None:
        raise ConfigError(Problem("--package", f"{KEY} {package}: the config has no such node", "omit it to see all"))
    if package and isinstance(node, Container):
        print(f"# @package {package}")
    if flags.resolve:
        OmegaConf.resolve(node)
    if isinstance(node, Container):
        plain = _without_secrets(OmegaConf.to_container(node), package or "")
        print(OmegaConf.to_yaml(OmegaConf.create(plain)).rstrip("\n"))
    else:
        print(redact(node, package or ""))


def _without_secrets(node: Any, key: str) -> Any:
    """Return a copy with masked secrets, in which references such as `${oc.env:NAME}` remain."""
    if isinstance(node, dict):
        return {name: _without_secrets(value, "" if key in LABELS else str(name)) for name, value in node.items()}
    if isinstance(node, list):
        return [_without_secrets(value, key) for value in node]
    return node if _REFERENCE.fullmatch(str(node)) else redact(node, key)
