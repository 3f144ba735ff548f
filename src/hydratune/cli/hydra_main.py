"""What Hydra's main does, with configs that were composed and checked before."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, configure_log, run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.train_options import parse_overrides
from hydratune.config import checked_loader, composition
from hydratune.config.compose_errors import compose_error
from hydratune.config.options import CONFIG_MODULE
from hydratune.utils.errors import FAILED, ConfigError, Problem, one_line
from hydratune.utils.hydra_versions import VERSION_BASE

Job = Callable[[DictConfig], None]
Sweep = Callable[[DictConfig, HydraContext, list[str]], None]


class RunFailedError(Exception):
    """Error for a run that failed or is incomplete; its log gives the reason."""


def run_composed(cfg: DictConfig, loader: ConfigLoader, settings: Mapping[str, str], job: Job) -> int:
    """Run a job as Hydra's own main does, with a config that was composed and checked; return the exit code.

    Args:
        cfg: Config with its node `hydra`.
        loader: Loader that has composed it.
        settings: More overrides of Hydra's own keys, e.g. the directory of the run.
        job: Function that runs the job with the config.
    """
    with _errors_of_hydra():
        job_return = _run_job(cfg, loader, settings, job)
    result = job_return._return_value  # `return_value` prints the error of a job that failed
    if isinstance(result, RunFailedError):
        return FAILED
    if isinstance(result, ConfigError):
        result.after_start = True
    if isinstance(result, Exception):
        raise result
    return 0


def _run_job(cfg: DictConfig, loader: ConfigLoader, settings: Mapping[str, str], job: Job) -> JobReturn:
    """Do what `hydra.main` does after it has composed the config of a run."""
    context = _prepare(cfg, loader, settings, RunMode.RUN)
    context.callbacks.on_run_start(config=cfg, config_name=cfg.hydra.job.config_name)
    job_return = run_job(job, cfg, job_dir_key="hydra.run.dir", job_subdir_key=None, hydra_context=context)
    context.callbacks.on_run_end(config=cfg, config_name=cfg.hydra.job.config_name, job_return=job_return)
    return job_return


def run_sweep(cfg: DictConfig, loader: ConfigLoader, settings: Mapping[str, str], sweep: Sweep) -> None:
    """Run a sweep as Hydra's own main does, with a config that was composed and checked.

    Hydra would look for a sweeper among its plugins. A plugin of ours below the namespace package `hydra_plugins` would
    let an editable install add a relative path to `sys.path`, so that any project could put plugins there.

    Args:
        cfg: Config that the trials share, with its node `hydra`.
        loader: Loader that has composed it.
        settings: More overrides of Hydra's own keys, e.g. the directory of the sweep.
        sweep: Function that runs the sweep with the config, Hydra's context, and the overrides.
    """
    try:
        with _errors_of_hydra(raises_others=True):
            context = _prepare(cfg, loader, settings, RunMode.MULTIRUN)
            context.callbacks.on_multirun_start(config=cfg, config_name=cfg.hydra.job.config_name)
            sweep(cfg, context, [*cfg.hydra.overrides.task])
            context.callbacks.on_multirun_end(config=cfg, config_name=cfg.hydra.job.config_name)
    except ConfigError as error:
        error.after_start = True
        raise


def _prepare(cfg: DictConfig, loader: ConfigLoader, settings: Mapping[str, str], mode: RunMode) -> HydraContext:
    """Apply the settings to the config, and configure the logs."""
    overrides = [f"{key}={composition.quoted(value)}" for key, value in settings.items()]
    with read_write(cfg.hydra):
        for key, value in settings.items():
            OmegaConf.update(cfg, key, value)
        cfg.hydra.overrides.hydra.extend(overrides)
        cfg.hydra.mode = mode
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    return HydraContext(config_loader=loader, callbacks=Callbacks(cfg))


def run_hydra(arguments: Sequence[str]) -> int:
    """Run Hydra's own main with a flag that only prints, e.g. `--info`; return the exit code.

    It raises errors instead of printing them.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints a shortened traceback and exits with 1
    if folder := parse_overrides(arguments).config_path:
        arguments = [*arguments, "--config-path", str(Path(folder).absolute())]  # Hydra would read it from our package
    sys.argv = ["hydratune", *arguments]
    start = hydra.main(f"pkg://{CONFIG_MODULE}", "train", **VERSION_BASE)
    with checked_loader.checked_loading(), _errors_of_hydra():
        start(_no_job)()
    return 0


def _no_job(_: DictConfig) -> None:
    raise AssertionError("Hydra runs no job: the sweeper starts workers, and the flags only print")


@contextmanager
def _errors_of_hydra(*, raises_others: bool = False) -> Iterator[None]:
    """Raise ConfigError for Hydra's own errors, which invalid settings below `hydra` cause.

    Args:
        raises_others: Whether to raise errors of other classes as they are, which may not be Hydra's.
    """
    try:
        yield
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(compose_error(error)) from error
    except (AssertionError, AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        if raises_others or isinstance(error, BrokenPipeError):
            raise
        text = f"invalid settings of Hydra: {one_line(error, 200)}"
        raise ConfigError(Problem("hydra", text, "remove the overrides under hydra")) from error
