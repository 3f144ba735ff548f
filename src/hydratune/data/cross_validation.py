"""Cross-validation: the fold that a run validates on, and the assignment of rows to folds."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydratune.config.configurable import Configurable
from hydratune.utils.errors import KEY, NODE, ConfigError, Problem, invalid_value

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CrossValidation(Configurable):
    """Folds of the training and validation rows, and the fold that a run validates on.

    Args:
        folds: Number of folds; null for no cross-validation.
        repeats: Number of times that the rows are divided into folds, each time at random.
        seed: Seed of the folds. It differs from the run's seed, so that runs are compared on the same folds.
        fold: Fold that the run validates on, from 0; the other folds are its training rows. A sweep sets it.
        repeat: Repetition that the fold belongs to, from 0. A sweep sets it.

    Example:
        >>> [problem.key for problem in CrossValidation(folds=1).check()]
        ['folds']
    """

    folds: int | None = None
    repeats: int = 1
    seed: int = 0
    fold: int | None = None
    repeat: int = 0

    def check(self) -> Iterator[Problem]:
        """Yield an error for each number out of range, and for folds without the fold of the run."""
        if self.folds is not None and self.folds < 2:
            yield invalid_value("folds", "null or an integer of at least 2", self.folds, f"set {KEY}=5")
            return
        for name, lowest in (("repeats", 1), ("seed", 0)):
            if getattr(self, name) < lowest:
                yield invalid_value(name, f"an integer of at least {lowest}", getattr(self, name))
        if self.folds is None:
            if self.fold is not None or self.repeats != 1 or self.repeat:
                name = "fold" if self.fold is not None else "repeats" if self.repeats != 1 else "repeat"
                yield Problem(name, f"{KEY}={getattr(self, name)} requires {NODE}folds", f"set {NODE}folds=5")
            return
        if self.fold is None:
            hint = (
                f"run a sweep over all folds: hydratune -m {KEY}={self.folds}\nset {NODE}fold=0 for a run on one fold"
            )
            yield Problem("folds", f"{KEY}={self.folds} needs a sweep, or the fold of a run", hint)
        elif not 0 <= self.fold < self.folds:
            yield invalid_value("fold", f"an integer from 0 to {self.folds - 1}", self.fold)
        if not 0 <= self.repeat < max(self.repeats, 1):
            yield invalid_value("repeat", f"an integer from 0 to {self.repeats - 1}", self.repeat)

    def check_dataset(self, dataset: Any) -> Iterator[Problem]:
        """Yield an error for each option of a dataset that folds do not support, with keys of the whole config."""
        if self.folds is None:
            return
        if getattr(dataset, "streaming", False):
            text = f"{KEY}=true does not support cv.folds, which need all rows"
            yield Problem("dataset.streaming", text, f"set {KEY}=false, or cv.folds=null")
        if dataset.validation_sets():
            key = f"dataset.{dataset.sets_option}.validation" if dataset.sets_option else "dataset"
            text = f"{KEY} names several sets, which cv.folds does not support"
            yield Problem(key, text, f"set {KEY} to one set or null, or cv.folds=null")
        if getattr(dataset, "unseen_labels", "") == "keep":
            text = f"{KEY}=keep does not support cv.folds, which train on validation rows"
            yield Problem("dataset.unseen_labels", text, f"set {KEY}=drop, or cv.folds=null")

    def is_held_out(
        self, count: int, strata: Sequence[str] | None, groups: Sequence[Any], shuffle: bool = True
    ) -> np.ndarray:
        """Return whether each row is in the fold that the run validates on: shape (rows,), bool.

        The folds are those of scikit-learn's `RepeatedStratifiedKFold` with this seed if all groups differ. Otherwise
        they are those of `StratifiedGroupKFold`; or `RepeatedKFold` and `GroupKFold` without `strata`.

        Args:
            count: Number of rows.
            strata: Label of each row, whose shares are about equal in all folds; None for no stratification.
            groups: Group of each row; rows of one group are in one fold. Empty if each row is its own group.
            shuffle: Whether rows are assigned at random; false for folds of consecutive rows.

        Raises:
            ConfigError: If there are fewer rows or groups than folds.
        """
        import numpy as np

        assert self.folds is not None
        units = len(set(groups)) if len(groups) else count
        if units < self.folds:
            what = "groups" if len(groups) else "rows"
            text = f"{KEY}={self.folds} is more than the {units} {what} of train and validation"
            raise ConfigError(Problem("cv.folds", text, f"set {KEY}={max(units, 2)}, or add rows"))
        _warn_of_rare(strata or (), self.folds)
        splitter = self._splitter(strata is not None, len(groups) > 0, shuffle)
        with warnings.catch_warnings():  # scikit-learn's warning does not name the label
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            try:
                for _ in range(self.repeat + 1):  # each call draws the next repetition from the same generator
                    parts = [*splitter.split(np.zeros(count), strata, groups if len(groups) else None)]
            except ValueError as error:
                most = max(Counter(strata or ("",)).values())
                text = f"{KEY}={self.folds} is more than the rows of any label ({most})"
                raise ConfigError(Problem("cv.folds", text, f"set {KEY}={max(most, 2)}, or add rows")) from error
        held_out = np.zeros(count, dtype=bool)
        held_out[parts[self.fold or 0][1]] = True
        return held_out

    def _splitter(self, is_stratified: bool, is_grouped: bool, shuffle: bool) -> Any:
        import numpy as np
        from sklearn import model_selection

        name = f"{'Stratified' if is_stratified and shuffle else ''}{'Group' if is_grouped else ''}KFold"
        generator = np.random.RandomState(self.seed) if shuffle else None
        return getattr(model_selection, name)(self.folds, shuffle=shuffle, random_state=generator)


NO_FOLDS = CrossValidation()


def _warn_of_rare(strata: Sequence[str], folds: int) -> None:
    rare = {name: count for name, count in Counter(strata).items() if count < folds}
    if rare:
        names = ", ".join(f"{name!r} ({count})" for name, count in list(rare.items())[:5])
        log.warning(
            "data: %d labels have fewer rows than cv.folds=%d, so some folds lack them: %s", len(rare), folds, names
        )
