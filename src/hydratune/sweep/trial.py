"""One run of a sweep: its config composed, run as a Hydra job of its own, its scores returned."""

from __future__ import annotations

import json
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
from hydratune.sweep.plan import Plan, checked_job
from hydratune.sweep.study import ClaimedTrial, Study
from hydratune.sweep.trial_context import trial_context
from hydratune.training.job import TrialContext, facts, hydra_job
from hydratune.training.launch import is_distributed, launch
from hydratune.training.run import run
from hydratune.training.warm_cache import WarmCache
from hydratune.utils.errors import PrunedError
from hydratune.utils.files import METRICS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialResult:
    """What a run of a sweep came to.

    Args:
        metrics: Of the weights that were best; empty where it was pruned or failed.
        pruned: Whether its study ended it early.
        error: What it failed with.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    pruned: bool = False
    error: Exception | None = None


def train(plan: Plan, overrides: Sequence[str], directory: Path, part: TrialContext, kept: WarmCache) -> TrialResult:
    """Trains in `directory`, from its last checkpoint where it has one; leaves this process as it was.

    A run that is finished there is not run again.
    """
    with _own_world(plan):
        cfg, loader = compose(plan, overrides, directory)
        ret = run_job(
            lambda own: _run(own, part, kept),
            cfg,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks(cfg)),
        )
    result = ret._return_value  # `return_value` raises what the job raised
    if isinstance(result, PrunedError):
        return TrialResult(pruned=True)
    return TrialResult(error=result) if isinstance(result, Exception) else TrialResult(metrics=result)


def compose(plan: Plan, overrides: Sequence[str], directory: Path) -> tuple[DictConfig, Any]:
    """The checked config of a run, and Hydra's loader that it came from."""
    with composition.composer(plan.request):
        experiment = _experiment(plan)
        cfg = checked_job(plan.request, overrides)
        loader = GlobalHydra.instance().config_loader()
    with read_write(cfg.hydra):
        cfg.hydra.run.dir = str(directory)
        cfg.hydra.output_subdir = None  # what a trial did is in its config.yaml and overrides.yaml
    if experiment and "experiment" in cfg.tracking:
        cfg.tracking.experiment = experiment
    return cfg, loader


def _experiment(plan: Plan) -> str | None:
    """The experiment of a sweep over data sets, whose trials would else be in experiments of their own."""
    keys = {re.split("[.@]", key)[0] for parameter in plan.space.parameters for key in parameter.keys}
    if "dataset" not in keys or "tracking" in keys:
        return None
    common = composition.compose_config(plan.request, plan.overrides)
    name: str | None = common.tracking.get("experiment")
    return name


def _run(cfg: DictConfig, part: TrialContext, kept: WarmCache) -> Mapping[str, Any]:
    """The job inside Hydra; returns the metrics."""
    quiet_terminal()
    job = hydra_job(part, kept)
    finished = job.directory / METRICS
    if finished.is_file():  # its worker was killed before the study knew
        with build(cfg.tracking).start(facts(cfg, job)):
            pass  # MLflow hears the rest
        return dict(json.loads(finished.read_text(encoding="utf-8")))
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
    """Logs go to files alone: the terminal has the sweep's table."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.StreamHandler) and getattr(handler, "stream", None) in (sys.stdout, sys.stderr):
            root.removeHandler(handler)


@contextmanager
def _own_world(plan: Plan) -> Iterator[None]:
    """What a run changes in its process is put back behind it: the environment, the directory, Hydra, accelerate."""
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
    """Forgets accelerate's state, which outlives a Trainer: the next one would get the precision of this one."""
    if "accelerate" in sys.modules:
        import gc

        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        gc.collect()
        if (torch := sys.modules["torch"]).cuda.is_initialized():
            torch.cuda.empty_cache()


def one_run(study: Study, claim: ClaimedTrial, number: int, kept: WarmCache) -> TrialResult:
    """Train one configuration with one of its seeds, in its own directory."""
    plan, seed = study.plan, study.plan.replicates[number]
    directory = claim.run_directory(seed)
    return train(plan, plan.job(claim.point, seed), directory, trial_context(study, claim, number), kept)
