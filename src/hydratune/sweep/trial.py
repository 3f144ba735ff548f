"""Run of one trial: it composes the config, runs it as its own Hydra job, and returns the metrics."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, read_write

from hydratune.config import composition
from hydratune.config.instantiate import build
from hydratune.sweep.plan import Plan, checked_job, composed_common_config
from hydratune.sweep.study import ClaimedTrial, Study
from hydratune.sweep.trial_context import trial_context
from hydratune.training.job import TrialContext, hydra_job, run_info
from hydratune.training.launch import is_distributed, launch
from hydratune.training.results import read_metrics
from hydratune.training.run import run
from hydratune.training.warm_cache import WarmCache
from hydratune.utils.errors import PrunedError
from hydratune.utils.files import METRICS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialResult:
    """Result of a run of a sweep.

    Args:
        metrics: Metrics of the best checkpoint; empty if the run was pruned or failed.
        pruned: Whether the study pruned the run.
        error: Exception of a failed run.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    pruned: bool = False
    error: Exception | None = None


def train(plan: Plan, overrides: Sequence[str], directory: Path, trial: TrialContext, cache: WarmCache) -> TrialResult:
    """Train in `directory`, resume from its last checkpoint if it has one, and restore the state of this process.

    A run that has finished in this directory does not run again.
    """
    with _own_world(plan):
        cfg, loader = compose(plan, overrides, directory)
        job_return = run_job(
            lambda job_cfg: _run(job_cfg, trial, cache),
            cfg,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks(cfg)),
        )
    result = job_return._return_value  # `return_value` raises what the job raised
    if isinstance(result, PrunedError):
        return TrialResult(pruned=True)
    return TrialResult(error=result) if isinstance(result, Exception) else TrialResult(metrics=result)


def compose(plan: Plan, overrides: Sequence[str], directory: Path) -> tuple[DictConfig, Any]:
    """Return the validated config of a run, and the Hydra config loader that composed it."""
    with composition.composer(plan.request):
        experiment = _experiment(plan)
        cfg = checked_job(plan, overrides)
        loader = GlobalHydra.instance().config_loader()
    with read_write(cfg.hydra):
        cfg.hydra.run.dir = str(directory)
        cfg.hydra.output_subdir = None  # the run writes its own config.yaml and overrides.yaml
    if experiment and "experiment_name" in cfg.tracking:
        cfg.tracking.experiment_name = experiment
    return cfg, loader


def _experiment(plan: Plan) -> str | None:
    """Return the MLflow experiment of a sweep over datasets, which would otherwise get one each; None for others."""
    keys = {re.split("[.@]", key)[0] for parameter in plan.space.parameters for key in parameter.keys}
    if "dataset" not in keys or "tracking" in keys:
        return None
    name: str | None = composed_common_config(plan).tracking.get("experiment_name")
    return name


def _run(cfg: DictConfig, trial: TrialContext, cache: WarmCache) -> Mapping[str, Any]:
    """Run the job inside Hydra, and return the metrics."""
    quiet_terminal()
    job = hydra_job(trial, cache)
    metrics_file = job.directory / METRICS
    if metrics_file.is_file():  # its worker was killed before it reported the result
        with build(cfg.tracking).start(run_info(cfg, job)):
            pass  # uploads the rest to MLflow
        return read_metrics(job.directory)
    try:
        result = launch(cfg, job, "hydratune.sweep._rank") if is_distributed(cfg) else run(cfg, job)
        return result.metrics
    except PrunedError as error:
        log.info("%s", error)
        raise
    except Exception:
        log.exception("run failed")
        raise


def quiet_terminal() -> None:
    """Stop logging to the terminal, which shows the table of the sweep; files still get the logs."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.StreamHandler) and getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
            root.removeHandler(handler)


@contextmanager
def _own_world(plan: Plan) -> Iterator[None]:
    """Restore what a run changes in its process: environment variables, working directory, Hydra, and accelerate."""
    environment, cwd = dict(os.environ), Path.cwd()
    config: Any = HydraConfig.instance().cfg
    hydra = GlobalHydra.instance().hydra
    os.chdir(plan.cwd)
    try:
        yield
    finally:
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra = config, hydra
        if config is not None:
            configure_log(config.hydra.job_logging, config.hydra.verbose)
            quiet_terminal()
        reset_accelerate()


def reset_accelerate() -> None:
    """Reset accelerate's state, which outlives a Trainer: the next one would get the precision of this one."""
    if "accelerate" in sys.modules:
        import gc

        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        gc.collect()
        if (torch := sys.modules["torch"]).cuda.is_initialized():
            torch.cuda.empty_cache()


def one_run(study: Study, claim: ClaimedTrial, number: int, cache: WarmCache) -> TrialResult:
    """Train one configuration with one of its seeds or on one of its folds, in its own directory."""
    plan, replicate = study.plan, study.plan.replicates[number]
    directory = claim.run_directory(replicate)
    return train(plan, plan.job(claim.point, replicate), directory, trial_context(study, claim, number), cache)
