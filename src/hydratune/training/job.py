"""Name of a run, origin of its config, and the facts that are recorded about it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hydratune.config import allowlist
from hydratune.config.composition import config_flags
from hydratune.config.instantiate import build
from hydratune.config.project import typed_flags
from hydratune.tracking.base import RunInfo
from hydratune.tracking.runs_view import DIRECTION, OBJECTIVE, SWEEP_NAME
from hydratune.training.warm_cache import WarmCache
from hydratune.utils import provenance
from hydratune.utils.errors import optional_record
from hydratune.utils.short_forms import setting_text, settings_text

if TYPE_CHECKING:
    from hydratune.models.base import Checkpoint

GROUPS = ("dataset", "model", "adapter", "task", "trainer", "experiment")  # config groups with a chosen option
_ORIGINS = ("trainer", "experiment")
_NAME_LENGTH = 120
_VALUE_LENGTH = 40  # characters of a value in a name; longer ones would hide those after them
# Overrides that do not change what a run learns, or that its own name stands for. Its name does not include them.
_UNNAMED = (
    *("hardware.", "resume", "tracking.", "name", "sweep.", "cv.", "vars."),
    *(f"dataset.{name}" for name in ("files", "columns", "path", "name")),
    *(f"trainer.args.{name}_" for name in ("logging", "eval", "save", "hub", "push", "load", "dataloader")),
)


# Takes a name of the data and split -> hash of its rows; raises ConfigError if they changed.
RowCheck = Callable[[str, Mapping[str, str]], None]


@dataclass(frozen=True)
class TrialContext:
    """Context of a run inside a sweep, which reads no test data and leaves scores, but no weights.

    Args:
        name: Readable name, e.g. `lr=3e-05 seed=2`.
        tags: Tags for the tracker.
        key: Key by which the tracker identifies the run, whichever machine trains it; None for a random key.
        callbacks: Callbacks for Trainer.
        origin: Arguments by which another process finds it: the sweep's directory, the trial, and the number of its
            seed.
        objectives: Names of the metrics that the sweep ranks by, in addition to the run's own objective.
        check_rows: Takes a name of the data and split -> hash of its rows; raises ConfigError if they changed.
        chart_params: Params that only MLflow's charts use, e.g. `log10_learning_rate`.
    """

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    callbacks: Sequence[Any] = ()
    origin: Sequence[str] = ()
    objectives: Sequence[str] = ()
    check_rows: RowCheck = lambda name, digests: None  # noqa: ARG005
    chart_params: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """Origin of a run's config, and destination of its files.

    Args:
        directory: Directory of this run alone.
        overrides: Overrides of the command line, e.g. `seed=7`.
        choices: Config group -> chosen option.
        trial: Context of a run inside a sweep; None for other runs.
        cache: Cache from earlier runs of this process.
        is_main_process: Whether this process records the results; other processes of the same run only train.
        check_rows: Check for a run outside a sweep that must train on the sweep's rows, as in `TrialContext`.
        flags: Command-line flags that name the user's own configs, e.g. `--config-dir my_conf`, as typed.
        checkpoint: Config and processor that the checks before the run have loaded; None to load them.
        retrains: Name of a sweep and number of its trial that the run retrains; None for other runs.
    """

    directory: Path
    overrides: list[str] = field(default_factory=list)
    choices: Mapping[str, Any] = field(default_factory=dict)
    trial: TrialContext | None = None
    cache: WarmCache = field(default_factory=WarmCache)
    is_main_process: bool = True
    check_rows: RowCheck | None = None
    flags: Sequence[str] = ()
    checkpoint: Checkpoint | None = None
    retrains: tuple[str, int] | None = None

    def model_name(self, checkpoint: str) -> str:
        """Return the model as the user chose it: its option if that has the path of a directory, else the checkpoint.

        Args:
            checkpoint: Hub ID or path that the config has.
        """
        choice, key = self.choices.get("model"), "model.pretrained_model_name_or_path="
        is_typed = choice == "pretrained" or any(override.lstrip("+").startswith(key) for override in self.overrides)
        return str(choice) if choice and Path(checkpoint).is_absolute() and not is_typed else checkpoint


def hydra_job(trial: TrialContext | None = None, cache: WarmCache | None = None) -> Job:
    """Return the job that Hydra runs in this process; a secret in its overrides stays `${oc.env:NAME}`."""
    hydra_config = HydraConfig.get()
    typed: Any = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    flags = typed_flags(config_flags(hydra_config))
    return Job(
        Path(hydra_config.runtime.output_dir),
        list(typed),
        dict(hydra_config.runtime.choices),
        trial,
        cache or WarmCache(),
        flags=flags,
    )


def _is_short(value: str) -> bool:
    return len(value) <= _VALUE_LENGTH and os.sep not in value


def run_info(cfg: DictConfig, job: Job, params: Mapping[str, object] = MappingProxyType({})) -> RunInfo:
    """Return the name, params, and tags of a run.

    Args:
        cfg: Config of the run.
        job: Job of the run.
        params: Params of the run, see `hydratune.training.run_params`; empty if an earlier process has recorded them.
    """
    settings = {key: value for key, value in _typed_values(cfg, job) if not key.startswith(_UNNAMED)}
    # A path is a part of the name already, or too long for it.
    settings = {key: value for key, value in settings.items() if _is_short(setting_text(value))}
    tags = {f"version.{package}": package_version for package, package_version in provenance.versions().items()}
    tags["mlflow.source.name"] = provenance.command([*job.flags], job.overrides)
    tags["mlflow.source.type"] = "LOCAL"
    tags |= {OBJECTIVE: str(cfg.objective), DIRECTION: "max" if more_is_better(cfg) else "min"}
    # The origin of values is not a param, because two runs with the same values are the same training.
    tags |= {f"hydratune.{group}": str(job.choices[group]) for group in _ORIGINS if job.choices.get(group)}
    if foreign := foreign_code(cfg):
        tags["hydratune.foreign_code"] = ", ".join(foreign)
    with optional_record("git commit"):
        if commit := provenance.git_commit():
            tags["mlflow.source.git.commit"] = commit
    # What differs comes first, since tables cut long names. Secrets are masked before that.
    settings = ({"trial": job.retrains[1]} if job.retrains else {}) | settings
    name = str(provenance.redact(f"{settings_text(settings)} {cfg.name}".strip()))
    tags |= {SWEEP_NAME: job.retrains[0]} if job.retrains else {}
    if job.trial:
        name, tags = job.trial.name, tags | dict(job.trial.tags)
    key = job.trial.key if job.trial else None
    resume = "" if job.trial else shlex.join([provenance.cli_path(), "resume", os.path.relpath(job.directory)])
    return RunInfo(name[:_NAME_LENGTH], job.directory, params, tags, key, waits=not job.cache, resume=resume)


def foreign_code(cfg: DictConfig) -> list[str]:
    """Return the code that only the user's own allow-list permits a run to execute: classes, and Hub commits."""
    if not allowlist.user_allowlist():
        return []
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    model = plain["model"]
    remote_code = (
        [f"{model['pretrained_model_name_or_path']}@{model['revision']}"] if model.get("trust_remote_code") else []
    )
    return [*allowlist.user_allowed_targets(plain), *remote_code]


def more_is_better(cfg: DictConfig) -> bool:
    """Return whether a higher objective is better: as the user says, or else by the definition of the metric."""
    greater_is_better = cfg.trainer.args.get("greater_is_better")
    return (
        build(cfg.task).higher_is_better(str(cfg.objective)) if greater_is_better is None else bool(greater_is_better)
    )


def resolved_yaml(cfg: DictConfig) -> str:
    """Return the whole config as YAML, without interpolations and without secrets."""
    plain = provenance.redact(OmegaConf.to_container(cfg, resolve=True))
    return OmegaConf.to_yaml(OmegaConf.create(plain))


def _typed_values(cfg: DictConfig, job: Job) -> Iterator[tuple[str, Any]]:
    """Yield key and value of the overrides that set a value, not of those that choose an option."""
    for override in job.overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key in job.choices or key.startswith("hydra."):
            continue
        yield key, provenance.redact(OmegaConf.select(cfg, key), key)
