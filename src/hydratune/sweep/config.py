"""Settings of a sweep: the group `sweep` of the config."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from omegaconf import DictConfig

from hydratune.config import servers
from hydratune.config.configurable import Configurable
from hydratune.config.instantiate import build
from hydratune.config.validate import check_part
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, similar

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

# Name -> class of optuna.pruners, and arguments that differ from its defaults. The resource is the number of
# evaluations.
PRUNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "asha": ("SuccessiveHalvingPruner", {"min_resource": 1}),
    "hyperband": ("HyperbandPruner", {}),
    "median": ("MedianPruner", {"n_startup_trials": 4, "n_warmup_steps": 1}),
    "wilcoxon": ("WilcoxonPruner", {}),
    "none": ("NopPruner", {}),
}
_P_THRESHOLD = 0.1  # the default of optuna.pruners.WilcoxonPruner
_DIRECTIONS = ("maximize", "minimize")
_SCHEMES = ("mysql", "postgresql", "sqlite")
T = TypeVar("T")


def check_node(cfg: DictConfig) -> None:
    """Raise ConfigError unless the node `sweep` of a config describes a sweep with valid settings.

    An option of the group, e.g. of someone else, can be any YAML file.
    """
    if not isinstance(cfg.get("sweep"), DictConfig):  # `sweep:` in a file replaces the node by null
        text = f"{KEY} must be a node with keys, not {cfg.get('sweep')!r}"
        hint = f"remove the key {KEY} from your config, or give it keys, e.g. params"
        raise ConfigError(Problem("sweep", text, hint))
    check_part(cfg, "sweep")
    if not isinstance(build(cfg.sweep), Sweep):
        text = f"{KEY} must have the _target_ of a sweep, not {cfg.sweep.get('_target_')!r}"
        raise ConfigError(Problem("sweep", text, "start your option with `defaults: [grid]`"))


def _listed(seeds: Iterable[int]) -> str:
    return f"[{','.join(map(str, seeds))}]"


@dataclass(kw_only=True)
class Sweep(Configurable):
    """Settings of `hydratune -m`; conf/sweep/grid.yaml describes each field."""

    name: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    zip: list[list[str]] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=dict)
    objectives: dict[str, str] = field(default_factory=dict)
    sampler: Any = None
    shuffle_trials: bool = False
    n_trials: int | None = None
    max_hours: float | None = None
    seeds: list[int] = field(default_factory=list)
    pruner: Literal["asha", "hyperband", "median", "none", "wilcoxon"] = "none"
    pruner_args: dict[str, Any] = field(default_factory=dict)
    max_retries: int = 1
    workers: int = 1
    process_per_trial: bool = False
    storage: str | None = None
    seed: int = 0

    def check(self) -> Iterator[Problem]:
        """Yield the errors that can be detected without the search space."""
        if self.name is not None and (not self.name or "/" in self.name or not self.name.isprintable()):
            requirement = "the name of a folder, without slashes and control characters"
            yield invalid_value("name", requirement, repr(self.name), f"set {KEY}=my_sweep")
        for name, minimum in (("n_trials", 1), ("max_retries", 0), ("workers", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                yield invalid_value(name, f"at least {minimum}", value)
        if self.max_hours is not None and self.max_hours <= 0:
            yield invalid_value("max_hours", "greater than 0", self.max_hours)
        if len(set(self.seeds)) < len(self.seeds):
            hint = f"set {KEY}={_listed(dict.fromkeys(self.seeds))}"
            yield Problem("seeds", f"{KEY}={_listed(self.seeds)} contains a seed twice", hint)
        for name, direction in self.objectives.items():
            if direction not in _DIRECTIONS:
                yield invalid_value(f"objectives.{name}", " or ".join(_DIRECTIONS), repr(direction))
        if self.pruner != "none" and len(self.objectives) > 1:
            text = f"{KEY}={self.pruner} supports one objective, not {len(self.objectives)}"
            yield Problem("pruner", text, f"set {KEY}=none")
        if self.sampler is not None and self.n_trials is None and self.max_hours is None:
            text = f"{KEY} or sweep.max_hours is required with a sampler"
            yield Problem("n_trials", text, f"set {KEY}=30 or sweep.max_hours=2")
        if self.sampler is not None and self.shuffle_trials:
            text = f"{KEY}=true applies only to a grid; a sampler determines the order itself"
            yield Problem("shuffle_trials", text, f"leave out {KEY}=true")
        if self.storage is not None and self.storage.partition(":")[0].partition("+")[0] not in _SCHEMES:
            requirement = f"a database URL ({', '.join(_SCHEMES)})"
            yield invalid_value("storage", requirement, repr(self.storage), f"set {KEY}=postgresql://HOST/DATABASE")
        elif self.storage is not None and (wrong := servers.problem(self.storage, "storage")):
            yield wrong
        yield from self._check_pruner_args()

    def check_replicates(self, folds: int) -> Iterator[Problem]:
        """Yield an error if there are too few runs per configuration for the Wilcoxon pruner.

        Args:
            folds: Number of folds of all repetitions; 1 without cross-validation.
        """
        if self.pruner != "wilcoxon":
            return
        count, minimum = max(len(self.seeds), 1) * folds, self._least_replicates()
        if count == 1:
            hint = "set sweep.seeds=[1,2,3,4,5]\nset cv.folds=5"
            yield Problem("pruner", f"{KEY}=wilcoxon needs several seeds or folds", hint)
        elif count < minimum and folds > 1:
            text = (
                f"{KEY}=wilcoxon never prunes with fewer than {minimum} runs per configuration, but there are {count}"
            )
            yield Problem("pruner", text, f"set cv.folds={minimum}")
        elif count < minimum:
            text = (
                f"sweep.pruner=wilcoxon never prunes with fewer than {minimum} seeds, but {KEY}={_listed(self.seeds)}"
            )
            yield Problem("seeds", text, f"set {KEY}={_listed(range(1, minimum + 1))}")

    def _least_replicates(self) -> int:
        """Return the smallest number of runs with which the Wilcoxon pruner can prune, or 0 for an invalid threshold.

        The smallest one-sided p-value of n pairs is 1 / 2**n. The pairs are those of all runs but the last, since
        nothing is left to prune after the last run.
        """
        threshold = self.pruner_args.get("p_threshold", _P_THRESHOLD)
        if not isinstance(threshold, int | float) or not 0 < threshold <= 1:  # optuna rejects it
            return 0
        return next(count for count in itertools.count(2) if 0.5 ** (count - 1) < threshold)

    def _check_pruner_args(self) -> Iterator[Problem]:
        from hydratune.config.signatures import signature

        pruner_signature = signature(f"optuna.pruners.{PRUNERS[self.pruner][0]}")
        for name in self.pruner_args:
            if pruner_signature and name not in pruner_signature.parameters and not pruner_signature.accepts_any:
                text = f"unknown argument {name!r} of optuna.pruners.{PRUNERS[self.pruner][0]} in sweep.pruner_args"
                yield Problem(f"pruner_args.{name}", text, similar("argument", name, pruner_signature.parameters))

    def in_order(self, points: Sequence[T]) -> list[T]:
        """Return the points of a grid in the order of the trials, which is the same at each start."""
        ordered = list(points)
        if self.shuffle_trials:
            random.Random(self.seed).shuffle(ordered)  # noqa: S311 (no secret)
        return ordered

    def optuna_pruner(self) -> BasePruner:
        """Return the optuna pruner with the configured name and arguments."""
        import optuna

        name, args = PRUNERS[self.pruner]
        return getattr(optuna.pruners, name)(**{**args, **self.pruner_args})

    def optuna_sampler(self, number: int) -> BaseSampler:
        """Return the sampler of the trial with this number.

        Each trial has its own random numbers, whichever process draws it. With a shared seed, the workers would draw
        the same trials, and a resumed sweep would repeat its first ones.
        """
        import hashlib

        import optuna

        if self.sampler is None:
            return optuna.samplers.RandomSampler()  # draws nothing: the points of a grid are fixed
        if self.sampler.func is optuna.samplers.QMCSampler:  # one sequence; the study stores the position in it
            return self.sampler(seed=self.seed)
        digest = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
        return self.sampler(seed=int.from_bytes(digest[:4], "big"))
