"""CMA-ES with its state rebuilt from the trials; optuna stores it in the study as a pickle, which could run code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial


class CmaEsSampler(optuna.samplers.CmaEsSampler):
    """CMA-ES sampler of optuna without pickles; it draws the same values.

    An update of the distribution depends only on the parameters and values of one generation of trials. The state
    therefore follows from the trials of all generations. Replaying them costs a few matrix operations per generation.
    """

    _completed: Sequence[FrozenTrial] = ()

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        self._completed = completed_trials  # for `_init_optimizer`, which is called next

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> Any:
        import numpy as np

        random_state = self._cma_rng.rng.get_state()
        optimizer = super()._init_optimizer(trans, direction)
        sign = 1 if direction == StudyDirection.MINIMIZE else -1
        size = optimizer.population_size
        while len(trials := self._get_solution_trials(list(self._completed), optimizer.generation)) >= size:
            points = [
                np.array(trial.system_attrs["x_for_tell"]) if self._with_margin else trans.transform(trial.params)
                for trial in trials[:size]
            ]
            values = [sign * float(str(trial.value)) for trial in trials[:size]]
            optimizer.tell(list(zip(points, values, strict=True)))
        if any(trial.system_attrs.get(self._attr_key_generation) for trial in self._completed):
            self._cma_rng.rng.set_state(random_state)  # optuna draws no random number to restore a stored state
        return optimizer
