"""Plan of a sweep: all its jobs are validated before the first one starts, and it is stored for resuming the sweep."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hydratune.config import composition
from hydratune.config.composition import Request, flat
from hydratune.config.validate import check_config, check_part
from hydratune.sweep.space import Parameter, Point, Space, format_value, read_space, short
from hydratune.training.job import more_is_better
from hydratune.utils.console import plain_console
from hydratune.utils.errors import KEY, ConfigError, Problem, mapping_setting, one_line, similar
from hydratune.utils.files import PRIVATE_FOLDER, write_json
from hydratune.utils.provenance import redact

PLAN = "sweep.json"
# Keys that may change when a sweep is resumed: they set the budget, the speed, and the tracker.
_MAY_CHANGE = ("hardware", "hydra", "name", "resume", "sweep", "tracking", "vars")
_NAMED = ("sampler", "shuffle_trials", "seed", "seeds", "pruner", "pruner_args")  # keys of `sweep` that identify it
_HASH, _LONGEST = 6, 80  # characters of the hash in a name, and of the text before it
_KEPT = 200  # composed jobs of a plan that are cached for its trials
_planned: dict[tuple[Request, tuple[str, ...]], DictConfig] = {}


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
        identity: Settings that identify this sweep: dotted key -> value.
        flags: Command-line flags that set where configs are read from.
        cwd: Working directory, which relative paths start from.
    """

    name: str
    directory: Path
    overrides: tuple[str, ...]
    space: Space
    objectives: Mapping[str, str]
    seeds: tuple[int, ...]
    identity: Mapping[str, Any]
    flags: Mapping[str, str | None] = field(default_factory=dict)
    cwd: str = ""

    @property
    def request(self) -> Request:
        """Request with the shared overrides, and the locations of the config files."""
        folders = {key: Path(value) if value else None for key, value in self.flags.items() if key != "config_name"}
        return Request(self.overrides, **folders, config_name=self.flags["config_name"] or composition.CONFIG_NAME)

    @property
    def replicates(self) -> tuple[int | None, ...]:
        """Seeds that each configuration is trained with; None for the seed in the config."""
        return self.seeds or (None,)

    def job(self, point: Point, seed: int | None) -> list[str]:
        """Return the overrides of one run."""
        return [*self.overrides, *self.space.overrides(point), *([] if seed is None else [f"++seed={seed}"])]


def label(point: Point, seed: int | None = None) -> str:
    """Return a readable name of a run: `learning_rate=3e-05 weight_decay=0.1 seed=2`."""
    parts = [f"{short(name)}={format_value(value)}" for name, value in point.items()]
    return " ".join([*parts, *([] if seed is None else [f"seed={seed}"])])


def make_plan(request: Request) -> tuple[Plan, DictConfig]:
    """Return the validated plan of a request with sweep overrides, and the config that its trials share.

    Every job of a grid is composed and validated. For other search spaces, the validated jobs contain each choice
    and each end of an interval at least once. No heavy package is imported.

    Raises:
        ConfigError: If a job is invalid; it lists the errors of all jobs.
    """
    _planned.clear()  # the files may have changed since the last plan of this process
    with composition.composer(request):
        wrong = list(composition.check_choices(request))
        invalid = {text for text, _ in wrong}
        request = replace(request, overrides=tuple(o for o in request.overrides if o not in invalid))
        plan, cfg = _plan(request, [problem for _, problem in wrong])
    return plan, cfg


def _plan(request: Request, problems: list[Problem]) -> tuple[Plan, DictConfig]:
    cfg = composition.compose_config(request, _fixed(request))
    if not isinstance(cfg.get("sweep"), DictConfig):  # `sweep:` in a file replaces the node by null
        text = f"{KEY} must be a node with keys, not {cfg.get('sweep')!r}"
        hint = f"remove the key {KEY} from your config, or give it keys, e.g. params"
        raise ConfigError(*problems, Problem("sweep", text, hint))
    try:
        check_part(cfg, "sweep")
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems, *_of_jobs_alone(request)) from error
    if cfg.sweep.params:
        typed_keys = {override.key_or_group for override in request.parsed}
        param_overrides = [f"{key}={values}" for key, values in cfg.sweep.params.items() if key not in typed_keys]
        request = replace(request, overrides=(*request.overrides, *param_overrides))
        fixed = [text for text in _fixed(request) if not text.lstrip("+").startswith("sweep.params")]
        problems += [problem for _, problem in composition.check_choices(request)]
    else:
        fixed = _fixed(request)
    try:
        space = read_space(request, cfg.sweep.zip, cfg.sweep.conditions)
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    points = space.grid() if cfg.sweep.sampler is None else space.corners()
    seed = [] if not cfg.sweep.seeds else [f"++seed={cfg.sweep.seeds[0]}"]
    objectives: dict[str, str] = dict(cfg.sweep.objectives)
    for i, point in enumerate(_in_sight(points)):
        try:
            job = _keep(request, [*fixed, *space.overrides(point), *seed])
            if i == 0 and not objectives:
                objectives = {str(job.objective): "maximize" if more_is_better(job) else "minimize"}
        except ConfigError as error:
            problems += error.problems
    problems = problems or [*_unknown_objectives(objectives, job)]
    if problems:
        raise ConfigError(*problems)
    identity = _identity(cfg, space, objectives)
    name = cfg.sweep.name or _name(str(cfg.name), space, identity)
    cfg = composition.compose_config(request, [*fixed, f"++sweep.name='{name}'"])
    flags = {"config_dir": request.config_dir, "config_path": request.config_path}
    plan = Plan(
        name=name,
        directory=Path(cfg.hydra.sweep.dir).absolute(),
        overrides=tuple(fixed),
        space=space,
        objectives=objectives,
        seeds=tuple(cfg.sweep.seeds),
        identity=identity,
        flags={**{key: str(path) if path else None for key, path in flags.items()}, "config_name": request.config_name},
        cwd=str(Path.cwd()),
    )
    return plan, cfg


def _in_sight(points: Sequence[Point]) -> Iterable[Point]:
    """Show a progress bar in a terminal: a job takes 0.1 seconds to check, and there may be thousands."""
    from rich.progress import track

    terminal = plain_console(stderr=True)
    return track(points, "checking", console=terminal, transient=True, disable=not terminal.is_terminal)


def checked_job(request: Request, overrides: Sequence[str]) -> DictConfig:
    """Return the validated config of one run of a sweep, inside `composer`.

    A config that the plan of this process cached is taken out of the cache: a config takes half a megabyte, and a
    worker composes hundreds.
    """
    request, typed = _job(request, overrides)
    job = _planned.pop((request, typed), None)
    if job is None:
        job = composition.compose_config(request, typed)
        check_config(job)
    HydraConfig.instance().set_config(job)
    return job


def _keep(request: Request, overrides: Sequence[str]) -> DictConfig:
    """Return the validated config of a run, and cache it for a trial in this process."""
    job = checked_job(request, overrides)
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
            yield from (problem for problem in error.problems if not problem.key.startswith("sweep."))


def _fixed(request: Request) -> list[str]:
    """Return the overrides that all trials share."""
    pairs = zip(request.parsed, composition.force_add(request), strict=True)
    return [text for override, text in pairs if not override.is_sweep_override()]


def _unknown_objectives(objectives: Mapping[str, str], cfg: DictConfig) -> Iterator[Problem]:
    from hydratune.config.instantiate import build

    names = [*build(cfg.task).objectives(), "train_runtime", "eval_runtime"]
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
    swept = "-".join(short(parameter.name).replace("/", "_") for parameter in space.parameters)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{f'{run}-{swept}'[:_LONGEST]}-{digest[:_HASH]}"


# --- on disk ---------------------------------------------------------------------------------------------


def write_plan(plan: Plan) -> None:
    """Write the plan into its directory.

    Raises:
        ConfigError: If the directory has a different sweep; it lists the differences.
    """
    path = plan.directory / PLAN
    if path.is_file():
        check_same(plan, read_plan(plan.directory).identity, str(os.path.relpath(plan.directory)))
    else:
        plan.directory.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    write_json(path, {**asdict(plan), "directory": str(plan.directory)})


def common_config(plan: Plan) -> DictConfig:
    """Compose the config that the trials of a sweep share."""
    with composition.composer(plan.request):
        return composition.compose_config(plan.request, plan.overrides)


def check_same(plan: Plan, before: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError if an existing sweep of the same name has a different identity."""
    keys = [key for key in dict.fromkeys((*before, *plan.identity)) if before.get(key) != plan.identity.get(key)]
    if keys:
        hint = "set sweep.name=NAME for a new sweep, or restore the value"
        start = f"the sweep {plan.name!r} in {where} has {KEY}="
        values = {key: (_as_text(key, before.get(key)), _as_text(key, plan.identity.get(key))) for key in keys}
        raise ConfigError(*(Problem(key, f"{start}{old}, not {new}", hint) for key, (old, new) in values.items()))


def _as_text(key: str, value: Any) -> str:
    if key == "sweep.space" and value:
        parameters = [_parameter(parameter) for parameter in value]
        return "; ".join(f"{short(parameter.name)}={values_of(parameter)}" for parameter in parameters)
    return repr(value)


def values_of(one: Parameter) -> str:
    """Return the values of a parameter on one line."""
    return ",".join(format_value(value) for value in one.labels) or f"interval({one.low:g},{one.high:g})"


def read_plan(directory: Path) -> Plan:
    """Read the plan in a sweep's directory, or raise ConfigError if it does not exist or has another form."""
    try:
        stored = json.loads((directory / PLAN).read_text(encoding="utf-8"))
        space = Space(tuple(_parameter(parameter) for parameter in stored["space"]["parameters"]))
        lists = {key: tuple(stored[key]) for key in ("overrides", "seeds")}
        return Plan(**{**stored, **lists, "space": space, "directory": directory.absolute()})
    except (OSError, LookupError, RecursionError, TypeError, ValueError) as error:
        hint = "name the directory of a sweep; by default, it is in multirun/"
        if not directory.is_dir():
            text = f"no such directory: {directory}"
        elif not (directory / PLAN).is_file():
            text = f"{directory} is not the directory of a sweep: it has no {PLAN}"
        else:
            text, hint = f"{directory / PLAN} is corrupt: {type(error).__name__}: {one_line(error, 200)}", ""
        raise ConfigError(Problem("SWEEP", text, hint)) from error


def _parameter(stored: Mapping[str, Any]) -> Parameter:
    """Return a parameter from JSON, which has no tuples."""
    only_if = stored["only_if"] and (stored["only_if"][0], tuple(stored["only_if"][1]))
    texts: Sequence[Sequence[str]] = stored["choices"]
    keys = {"keys": tuple(stored["keys"]), "prefix": tuple(stored["prefix"])}
    return Parameter(**{**stored, **keys, "choices": tuple(tuple(choice) for choice in texts), "only_if": only_if})
