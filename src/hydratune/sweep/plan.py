"""Plan of a sweep: all its jobs are validated before the first one starts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hydratune.config import composition, hydra_guard, user_settings
from hydratune.config.composition import Request, flat
from hydratune.config.frozen_values import freeze
from hydratune.config.instantiate import build
from hydratune.config.launchers import LauncherKind, launcher_kind
from hydratune.config.secret_values import STORES, all_secrets
from hydratune.config.validate import check_config
from hydratune.sweep.config import check_node
from hydratune.sweep.replicates import Replicate, replicates
from hydratune.sweep.space import Parameter, Point, Space, read_space
from hydratune.training.job import more_is_better
from hydratune.utils.console import plain_console
from hydratune.utils.errors import KEY, ConfigError, Problem, mapping_setting, similar
from hydratune.utils.provenance import redact
from hydratune.utils.short_forms import setting_text, settings_text, short_name, short_names

# Keys that may change when a sweep is resumed: they set the budget, the speed, and the tracker.
_MAY_CHANGE = ("hardware", "hydra", "name", "resume", "sweep", "tracking", "vars")
_NAMED = ("sampler", "shuffle_trials", "seed", "seeds", "pruner", "pruner_args")  # keys of `sweep` that identify it
_HASH, _LONGEST = 6, 80  # characters of the hash in a name, and of the text before it
_KEPT = 200  # composed jobs of a plan that are cached for its trials
_planned: dict[tuple[Request, tuple[str, ...]], DictConfig] = {}


@dataclass(frozen=True)
class ConfigFlags:
    """Command-line flags that set where configs are read from; see `Request`."""

    config_dir: str | None = None
    config_path: str | None = None
    config_name: str = composition.CONFIG_NAME


@dataclass(frozen=True)
class Plan:
    """Plan of a sweep, as requested.

    Args:
        name: Name of the study, and of the directory unless that is set.
        directory: Directory of the sweep's files.
        overrides: Overrides that all trials share.
        space: Search space.
        objectives: Metric -> `maximize` or `minimize`; the first one counts where a single number is shown.
        seeds: Seeds that each configuration is trained with; empty for the seed in the config.
        folds: Number of folds that each configuration is trained on; None without cross-validation.
        repeats: Number of times that the rows are divided into folds.
        identity: Settings that identify this sweep: dotted key -> value.
        flags: Where configs are read from.
        cwd: Working directory, which relative paths start from.
        typed: Keys whose values the user typed.
        typed_overrides: Overrides as the user typed them; empty for a sweep of an earlier version.
    """

    name: str
    directory: Path
    overrides: tuple[str, ...]
    space: Space
    objectives: Mapping[str, str]
    seeds: tuple[int, ...]
    identity: Mapping[str, Any]
    flags: ConfigFlags
    cwd: str
    typed: tuple[str, ...] = ()
    folds: int | None = None
    repeats: int = 1
    typed_overrides: tuple[str, ...] = ()

    @property
    def request(self) -> Request:
        """Request with the shared overrides, and the locations of the config files."""
        config_dir, config_path = (Path(d) if d else None for d in (self.flags.config_dir, self.flags.config_path))
        return Request(self.overrides, config_dir, config_path, self.flags.config_name)

    @property
    def short_names(self) -> dict[str, str]:
        """Names of the parameters -> short names, for tables and figures."""
        return short_names(parameter.name for parameter in self.space.parameters)

    @property
    def replicates(self) -> tuple[Replicate, ...]:
        """Runs of each configuration, at least one."""
        return replicates(self.seeds, self.folds, self.repeats)

    @property
    def is_replicated(self) -> bool:
        """Return whether the value of a configuration is a mean over seeds or folds."""
        return bool(self.seeds or self.folds)

    def job(self, point: Point, replicate: Replicate) -> list[str]:
        """Return the overrides of one run."""
        return [*self.overrides, *self.space.overrides(point), *replicate.overrides()]


def label(point: Point, replicate: Replicate | None = None) -> str:
    """Return a readable name of a run: `lr=3e-05 wd=0.1 seed=2 fold=0`."""
    return " ".join([settings_text(point) or "default", *(replicate.parts if replicate else ())])


def make_plan(request: Request) -> tuple[Plan, DictConfig]:
    """Return the validated plan of a request with sweep overrides, and the config that its trials share.

    Every job of a grid is composed and validated. For other search spaces, the validated jobs contain each choice
    and each end of an interval at least once. No heavy package is imported.

    Raises:
        ConfigError: If a job is invalid; it lists the errors of all jobs.
    """
    typed_overrides = request.overrides
    _planned.clear()  # the files may have changed since the last plan of this process
    with composition.composer(request):
        wrong = list(composition.check_choices(request))
        invalid = {text for text, _ in wrong}
        request = replace(request, overrides=tuple(o for o in request.overrides if o not in invalid))
        plan, cfg = _plan(request, [problem for _, problem in wrong])
    return replace(plan, typed_overrides=typed_overrides), cfg


def _plan(request: Request, problems: list[Problem]) -> tuple[Plan, DictConfig]:
    typed = tuple(request.typed_keys)  # before those that a file adds
    cfg = composition.compose_config(request, _fixed(request))
    try:
        check_node(cfg)
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems, *_of_jobs_alone(request)) from error
    if parallel := _launcher_overrides(cfg):
        cfg = composition.compose_config(request, [*_fixed(request), *parallel])
    # Jobs can have other names, which hide those of the sweep.
    problems += [*all_secrets(cfg), *hydra_guard.unsafe(cfg.hydra)]
    if cfg.sweep.params:
        given = {override.key_or_group for override in request.parsed}
        param_overrides = [f"{key}={values}" for key, values in cfg.sweep.params.items() if key not in given]
        request = replace(request, overrides=(*request.overrides, *param_overrides))
        problems += _misplaced(cfg.sweep.params)
        fixed = [text for text in _fixed(request) if not text.lstrip("+").startswith("sweep.params")]
        problems += [problem for _, problem in composition.check_choices(request)]
    else:
        fixed = _fixed(request)
    folds, repeats = _folds(cfg)
    problems += _replicate_problems(cfg, folds, repeats)
    try:
        space = read_space(
            request, cfg.sweep.zip, cfg.sweep.conditions, may_be_empty=folds is not None and cfg.sweep.sampler is None
        )
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    points = space.grid() if cfg.sweep.sampler is None else space.corners()
    replicate = replicates(cfg.sweep.seeds, folds, repeats)[0].overrides()
    objectives: dict[str, str] = dict(cfg.sweep.objectives)
    for i, point in enumerate(_in_sight(points)):
        try:
            job = _keep(request, [*fixed, *space.overrides(point), *replicate], typed)
            if i == 0 and not objectives:
                objectives = {str(job.objective): "maximize" if more_is_better(job) else "minimize"}
        except ConfigError as error:
            problems += error.problems
    problems = problems or [*_unknown_objectives(objectives, job)]
    if problems:
        raise ConfigError(*problems)
    identity = _identity(cfg, space, objectives)
    name = cfg.sweep.name or _name(str(cfg.name), space, identity)
    cfg.sweep.name = name  # the name of the sweep's directory contains it
    _freeze(cfg)
    config_dir, config_path = (str(d) if d else None for d in (request.config_dir, request.config_path))
    plan = Plan(
        name=name,
        directory=Path(cfg.hydra.sweep.dir).absolute(),
        overrides=tuple(fixed),
        space=space,
        objectives=objectives,
        seeds=tuple(cfg.sweep.seeds),
        folds=folds,
        repeats=repeats,
        identity=identity,
        flags=ConfigFlags(config_dir, config_path, request.config_name),
        cwd=str(Path.cwd()),
        typed=typed,
    )
    return plan, cfg


def _launcher_overrides(cfg: DictConfig) -> list[str]:
    """Return the overrides that run several workers in parallel, if the launcher starts them on this machine."""
    workers, launcher = cfg.sweep.workers, launcher_kind(cfg.hydra.launcher)
    if workers > 1 and launcher is LauncherKind.BASIC:  # runs its jobs one after another
        return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"]
    return [f"hydra.launcher.n_jobs={workers}"] if launcher is LauncherKind.JOBLIB else []


def _freeze(cfg: DictConfig) -> None:
    """Replace the interpolations of the nodes that a sweep uses by the values that were checked."""
    used: Any = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("sweep", "tracking")}
    if problems := [*freeze(cfg, used, STORES)]:  # their addresses may differ between machines
        raise ConfigError(*problems)


def _folds(cfg: DictConfig) -> tuple[int | None, int]:
    """Return the number of folds that each configuration is trained on, and of repetitions; None for no folds."""
    cv = cfg.get("cv") or {}
    folds = cv.get("folds")
    if not isinstance(folds, int) or cv.get("fold") is not None:  # checked with each job
        return None, 1
    repeats = cv.get("repeats")
    return max(folds, 2), repeats if isinstance(repeats, int) and repeats > 0 else 1


def _replicate_problems(cfg: DictConfig, folds: int | None, repeats: int) -> Iterator[Problem]:
    """Yield the errors of a pruner that needs several seeds or folds."""
    sweep = build(cfg.sweep)
    yield from (problem.under("sweep") for problem in sweep.check_replicates((folds or 1) * repeats))


def _in_sight(points: Sequence[Point]) -> Iterable[Point]:
    """Show a progress bar in a terminal: a job takes 0.1 seconds to check, and there may be thousands."""
    from rich.progress import track

    terminal = plain_console(stderr=True)
    return track(points, "checking", console=terminal, transient=True, disable=not terminal.is_terminal)


def checked_job(plan: Plan, overrides: Sequence[str]) -> DictConfig:
    """Return the validated config of one run of a sweep, inside `composer`.

    A config that the plan of this process cached is taken out of the cache: a config takes half a megabyte, and a
    worker composes hundreds.
    """
    job = _planned.pop(_job(plan.request, overrides), None) or _checked_job(plan.request, overrides, plan.typed)
    HydraConfig.instance().set_config(job)
    return job


def _checked_job(request: Request, overrides: Sequence[str], typed: Collection[str]) -> DictConfig:
    job = composition.compose_config(*_job(request, overrides))
    check_config(job)
    if problems := [*user_settings.problems(job, typed)]:
        raise ConfigError(*problems)
    return job


def _keep(request: Request, overrides: Sequence[str], typed: Collection[str]) -> DictConfig:
    """Return the validated config of a run, and cache it for a trial in this process."""
    job = _checked_job(request, overrides, typed)
    if len(_planned) < _KEPT:
        _planned[_job(request, overrides)] = job
    return job


def _job(request: Request, overrides: Sequence[str]) -> tuple[Request, tuple[str, ...]]:
    """Return the request and overrides that determine the config of a job, without the options of the sweep."""
    return replace(request, overrides=()), tuple(text for text in overrides if not text.lstrip("+").startswith("sweep"))


def _of_jobs_alone(request: Request) -> Iterator[Problem]:
    """Yield the errors of the jobs of a sweep that cannot be planned."""
    for overrides in composition.expand_multirun(request):
        try:
            check_config(composition.compose_config(request, overrides))
        except ConfigError as error:
            yield from (problem for problem in error.problems if problem.key.partition(".")[0] != "sweep")


def _misplaced(params: Iterable[str]) -> Iterator[Problem]:
    """Yield an error for each parameter in a file that is a setting of the sweep itself."""
    for key in params:
        if re.match(r"[+~]*(hydra|sweep)($|[./@])", key):
            text = f"{KEY} must name keys of a run, not {key!r}, which belongs to the sweep"
            yield Problem("sweep.params", text, "set the key itself")


def _fixed(request: Request) -> list[str]:
    """Return the overrides that all trials share."""
    pairs = zip(request.parsed, composition.force_add(request), strict=True)
    return [text for override, text in pairs if not override.is_sweep_override()]


def _unknown_objectives(objectives: Mapping[str, str], cfg: DictConfig) -> Iterator[Problem]:
    sets = build(cfg.dataset).validation_sets()
    names = [*build(cfg.task).objectives(None, sets), "train_runtime", "eval_runtime"]
    for name in objectives:
        if name not in names:
            example = f"set {mapping_setting('sweep.objectives', {names[-3]: 'maximize'})}"
            yield Problem(
                "sweep.objectives", f"unknown metric {name!r} in {KEY}", similar("metric", name, names, example)
            )


def _identity(cfg: DictConfig, space: Space, objectives: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that identify a sweep, with interpolations, whose values differ between machines."""
    raw: Any = OmegaConf.to_container(composition.without_hydra(cfg), resolve=False)
    sweep = raw["sweep"]
    settings = {key: value for key, value in raw.items() if key not in _MAY_CHANGE}
    identity = {
        **dict(flat(redact(settings))),
        **{f"sweep.{name}": sweep[name] for name in _NAMED},
        "sweep.objectives": dict(objectives),
        "sweep.space": [asdict(parameter) for parameter in space.parameters],
    }
    return json.loads(json.dumps(identity))  # in the form in which it is read back


def _name(run: str, space: Space, identity: Mapping[str, Any]) -> str:
    swept = "-".join(short_name(parameter.name).replace("/", "_") for parameter in space.parameters)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{f'{run}-{swept}'[:_LONGEST]}-{digest[:_HASH]}"


def common_config(plan: Plan) -> DictConfig:
    """Compose the config that the trials of a sweep share.

    Raises:
        ConfigError: It contains a secret that the config of no trial has.
    """
    with composition.composer(plan.request):
        return composed_common_config(plan)


def composed_common_config(plan: Plan) -> DictConfig:
    """Do the same as `common_config`, inside `composer`."""
    cfg = composition.compose_config(plan.request, plan.overrides)
    check_node(cfg)
    if problems := [*all_secrets(cfg)]:
        raise ConfigError(*problems)
    _freeze(cfg)
    return cfg


def values_of(one: Parameter) -> str:
    """Return the values of a parameter on one line."""
    return ",".join(setting_text(value) for value in one.labels) or f"interval({one.low:g},{one.high:g})"
