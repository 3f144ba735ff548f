"""Hydra's own main, for configs that were checked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hydratune.config import checked_loader, composition
from hydratune.config.compose_errors import compose_error
from hydratune.utils.arguments import parse_overrides
from hydratune.utils.errors import FAILED, ConfigError, Problem, one_line
from hydratune.utils.hydra_versions import VERSION_BASE

Job = Callable[[DictConfig], None]


class RunFailedError(Exception):
    """Error for a run that failed or is incomplete; its log gives the reason."""


def run_hydra(arguments: Sequence[str], is_sweep: bool = False, job: Job | None = None) -> int:
    """Run Hydra's own main, which raises errors instead of printing them; return the exit code.

    Args:
        arguments: Command-line arguments.
        is_sweep: Whether they start a sweep, whose workers do not call `job`.
        job: Function that runs the single job with the config that Hydra has composed.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints a shortened traceback and exits with 1
    if folder := parse_overrides(arguments).config_path:
        arguments = [*arguments, "--config-path", str(Path(folder).absolute())]  # Hydra would read it from our package
    sys.argv = ["hydratune", *arguments]
    start = hydra.main(f"pkg://{composition.CONFIG_MODULE}", "train", **VERSION_BASE)
    errors: list[ConfigError | RunFailedError] = []
    started: list[DictConfig] = []

    def run_job(cfg: DictConfig) -> None:
        started.append(cfg)
        try:
            if job is not None:
                job(cfg)
        except (ConfigError, RunFailedError) as error:
            errors.append(error)

    try:
        with checked_loader.checked_loading():
            start(run_job)()
        if errors:
            raise errors[0]
    except RunFailedError:
        return FAILED
    except ConfigError as error:
        error.after_start = is_sweep or bool(started)
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(compose_error(error)) from error
    except (AssertionError, AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        if is_sweep or started or isinstance(error, BrokenPipeError):  # not of Hydra itself
            raise
        text = f"invalid settings of Hydra: {one_line(error, 200)}"
        raise ConfigError(Problem("hydra", text, "remove the overrides below hydra")) from error
    return 0
