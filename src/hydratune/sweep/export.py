"""Export of the best trial of a sweep as an experiment: a small file that composes to its config."""

from __future__ import annotations

import functools
import operator
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from hydratune.config import composition
from hydratune.config.composition import Request, flat
from hydratune.config.project import typed_flags
from hydratune.sweep.plan import Plan
from hydratune.sweep.report import results
from hydratune.sweep.stored_plan import config_flags
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.files import make_directory, remove_file, write_text

_GROUP = "experiment"
_OF_THE_SWEEP = re.compile(r"(sweep|hydra|cv)($|[./])")  # keys that do not apply to a single run
_ODD = re.compile(r"[^\w.-]+")  # characters to replace in the name of an option


@dataclass(frozen=True)
class Experiment:
    """Experiment file to write.

    Args:
        name: Name of the option.
        path: Path of the file.
        text: Content of the file.
        flags: Command-line flags that set where a run of the experiment reads its config.
        config: Config that the file must compose to, with interpolations unresolved.
        seed: Seed in the config.
    """

    name: str
    path: Path
    text: str
    flags: tuple[str, ...]
    config: Mapping[str, Any]
    seed: int


def experiment(plan: Plan, row: results.TrialRow, conf: Path, is_best: bool = True) -> Experiment:
    """Return the experiment of a trial in a conf directory; call it in the working directory of the sweep.

    Args:
        plan: Plan of the sweep.
        row: The trial.
        conf: Conf directory.
        is_best: Whether the name ends with `best`. Otherwise, it ends with the number of the trial.
    """
    request = replace(plan.request, overrides=(*plan.overrides, *plan.space.overrides(row.point)))
    with composition.composer(request):
        overrides = [override for override in request.parsed if not _OF_THE_SWEEP.match(override.key_or_group)]
        cfg = composition.compose_config(request, [str(override.input_line) for override in overrides])
        if OmegaConf.select(cfg, "cv.folds"):  # of a config file; the retraining uses the usual validation split
            overrides += replace(request, overrides=("cv.folds=null", "cv.repeats=1")).parsed
            cfg = composition.compose_config(request, [str(override.input_line) for override in overrides])
    name = f"{_ODD.sub('_', plan.name)}_{'best' if is_best else f'trial_{row.number}'}"
    flags = tuple(config_flags(plan, str(conf)))
    config = _comparable(cfg)
    head = [
        "# @package _global_",
        f"# {shlex.join(['hydratune', *typed_flags(flags), f'{_GROUP}={name}'])}",
        f"# Trial {row.number} of the sweep {plan.name}: {results.scores_text(plan, row)} (selected on validation).",
    ]
    body = OmegaConf.to_yaml(OmegaConf.merge(_defaults(overrides, request), _values(overrides, request, config)))
    path = conf / _GROUP / f"{name}.yaml"
    return Experiment(name, path, "\n".join([*head, body]), flags, config, int(cfg.seed))


@contextmanager
def temporary_experiment(experiment: Experiment, plan: Plan, *, keep: bool = True) -> Iterator[None]:
    """Write the file, and check that it composes to the trial's config; undo the changes after an error.

    Args:
        experiment: Experiment to write.
        plan: Plan of the sweep.
        keep: Whether the file stays if there is no error.
    """
    previous_content = experiment.path.read_text(encoding="utf-8") if experiment.path.exists() else None
    new_folders = [folder for folder in experiment.path.parents if not folder.exists()]
    make_directory(experiment.path.parent)
    write_text(experiment.path, experiment.text)
    is_undone = True
    try:
        _check(experiment, plan)
        yield
        is_undone = not keep
    finally:
        if is_undone and previous_content is None:
            remove_file(experiment.path)
            for folder in new_folders:
                folder.rmdir()
        elif is_undone and previous_content is not None:
            write_text(experiment.path, previous_content)


def _check(exported: Experiment, plan: Plan) -> None:
    """Raise ConfigError if the file composes to a different config than the overrides of the sweep."""
    request = replace(plan.request, overrides=(f"{_GROUP}={exported.name}",), config_dir=exported.path.parents[1])
    with composition.composer(request):
        composed = _comparable(composition.compose_config(request, request.overrides))
    actual, intended = dict(flat(composed)), dict(flat(exported.config))
    if keys := [
        key
        for key in {**actual, **intended}
        if key not in actual or key not in intended or actual[key] != intended[key]
    ]:
        text = f"a file cannot express these settings of the sweep as an experiment: {', '.join(keys)}"
        raise ConfigError(Problem(_GROUP, text, "write the file by hand; `hydratune configs copy` gives you a start"))


def _comparable(cfg: DictConfig) -> dict[str, Any]:
    """Return the part of a config that its run depends on."""
    raw: Any = OmegaConf.to_container(composition.without_hydra(cfg), resolve=False)
    return {key: value for key, value in raw.items() if key not in ("sweep", "cv")}


def _defaults(overrides: Sequence[Override], request: Request) -> dict[str, Any]:
    """Return the defaults list: the selected options of config groups, and the experiments that this one extends."""
    first: list[Any] = []
    last: list[Any] = []
    for override in overrides:
        if override.key_or_group not in request.groups or override.is_delete():
            continue
        key = f"/{override.key_or_group}{f'@{override.package}' if override.package else ''}"
        value: Any = override.value()
        if override.key_or_group == _GROUP:
            first += value if isinstance(value, list) else [value] if value else []
        elif override.is_add():
            first.append({key: value})
        else:
            last.append({f"override {key}": value})
    entries = [*first, "_self_", *last] if first else last
    return {"defaults": entries} if entries else {}


def _values(overrides: Sequence[Override], request: Request, config: Any) -> DictConfig:
    """Return the values that were typed or swept, in the form that they have in the config."""
    node = OmegaConf.create({})
    for key in (override.key_or_group for override in overrides if override.key_or_group not in request.groups):
        with suppress(KeyError, TypeError):  # a deleted key, which a file cannot express
            OmegaConf.update(node, key, functools.reduce(operator.getitem, key.split("."), config))
    return node
