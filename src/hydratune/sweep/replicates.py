"""Replicates: the runs of one configuration, with different seeds or on different folds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Replicate:
    """One of the runs of a configuration.

    Args:
        seed: Seed of the run; None for the seed in the config.
        repeat: Repetition that the fold belongs to; None without folds, or if there is only one repetition.
        fold: Fold that the run validates on; None without folds.
    """

    seed: int | None = None
    repeat: int | None = None
    fold: int | None = None

    @property
    def parts(self) -> list[str]:
        """Parts of its name, e.g. `seed=1` and `fold=0`; empty for the only run of a configuration."""
        return [f"{key}={value}" for key, value in asdict(self).items() if value is not None]

    @property
    def folder(self) -> str:
        """Name of its directory inside that of the trial; empty for the only run of a configuration."""
        return "_".join(self.parts)

    def overrides(self) -> list[str]:
        """Return the overrides of the run."""
        return [f"++{part}" if part.startswith("seed=") else f"++cv.{part}" for part in self.parts]


def replicates(seeds: Sequence[int], folds: int | None, repeats: int) -> tuple[Replicate, ...]:
    """Return all replicates of a configuration: every fold of every repetition with each seed, at least one run."""
    all_seeds: Sequence[int | None] = seeds or [None]
    repetitions: Sequence[int | None] = range(repeats) if folds and repeats > 1 else [None]
    fold_numbers: Sequence[int | None] = range(folds) if folds else [None]
    return tuple(Replicate(*values) for values in itertools.product(all_seeds, repetitions, fold_numbers))
