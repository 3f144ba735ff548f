"""Settings of a sweep: the group `sweep` of the config."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hydratune.config import servers
from hydratune.config.configurable import Configurable
from hydratune.utils.errors import Mistake, Problem, one_of

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
            fix = "It names a folder: set sweep.name=my_sweep."
            yield Mistake("name", "text without a slash or control characters", repr(self.name), fix)
        for name, minimum in (("n_trials", 1), ("max_retries", 0), ("workers", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                yield Mistake(name, f"a whole number from {minimum}", repr(value), "Raise it.")
        if self.max_hours is not None and self.max_hours <= 0:
            yield Mistake("max_hours", "a number above 0", repr(self.max_hours), "Raise it.")
        if len(set(self.seeds)) < len(self.seeds):
            yield Mistake("seeds", "different seeds", repr(self.seeds), "Name each once.")
        for name, direction in self.objectives.items():
            if direction not in _DIRECTIONS:
                yield Mistake(
                    f"objectives.{name}", one_of(_DIRECTIONS), repr(direction), "Name the one that is better."
                )
        if self.pruner != "none" and len(self.objectives) > 1:
            got, fix = f"{self.pruner!r} with {len(self.objectives)} objectives", "Set sweep.pruner=none."
            yield Mistake("pruner", "'none', since pruners compare one number", got, fix)
        if self.seeds and self.pruner not in ("none", "wilcoxon"):
            fix = "Set sweep.pruner=wilcoxon."
            yield Mistake("pruner", "'none' or 'wilcoxon' with seeds", repr(self.pruner), fix)
        if self.pruner == "wilcoxon" and not self.seeds:
            yield Mistake("pruner", "seeds to compare", "none", "Set sweep.seeds=[1,2,3,4,5].")
        elif self.pruner == "wilcoxon" and len(self.seeds) < (minimum := self._least_seeds()):
            fix = f"Set sweep.seeds=[{','.join(str(seed) for seed in range(1, minimum + 1))}]."
            expected = f"at least {minimum} seeds, since sweep.pruner=wilcoxon never prunes with fewer"
            yield Mistake("seeds", expected, repr(self.seeds), fix)
        if self.sampler is not None and self.n_trials is None and self.max_hours is None:
            yield Mistake("n_trials", "a budget", "none", "Set sweep.n_trials=30 or sweep.max_hours=2.")
        if self.sampler is not None and self.shuffle_trials:
            yield Mistake(
                "shuffle_trials", "false beside a sampler, which determines the order", "true", "Leave it out."
            )
        if self.storage is not None and self.storage.partition(":")[0].partition("+")[0] not in _SCHEMES:
            got, fix = repr(self.storage), "Set sweep.storage=postgresql://HOST/DATABASE."
            yield Mistake("storage", f"a database's address that starts with {one_of(_SCHEMES)}", got, fix)
        elif self.storage is not None and (wrong := servers.problem(self.storage, "storage")):
            yield wrong
        yield from self._check_pruner_args()

    def _least_seeds(self) -> int:
        """Return the smallest number of seeds with which the Wilcoxon pruner can prune, or 0 for an invalid threshold.

        The smallest one-sided p-value of n pairs is 1 / 2**n. The pairs are those of all seeds but the last, since
        nothing is left to prune after the last seed.
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
                fix = f"See optuna's {PRUNERS[self.pruner][0]}."
                yield Mistake(f"pruner_args.{name}", one_of(pruner_signature.parameters), repr(name), fix)

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
