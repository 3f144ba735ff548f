"""CMA-ES without pickles."""

import os
import pickle
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from hydratune.config import allowlist
from hydratune.sweep.cma_es import CmaEsSampler


class Evil:
    """Unpickled, it creates the directory `canary`."""

    def __reduce__(self):
        return (os.mkdir, ("canary",))


def objective(trial):
    """A function of two floats, one of which is searched by its logarithm, and an integer."""
    x, y, n = trial.suggest_float("x", -1, 1), trial.suggest_float("y", 1e-5, 1, log=True), trial.suggest_int("n", 1, 9)
    return (x - 0.3) ** 2 + abs(y - 0.01) + (n - 4) ** 2


def searched(sampler, direction, storage=None, trials=40, **options):
    """The params of the trials of a study in which each trial has a sampler of its own, as in a sweep."""
    study = optuna.create_study(direction=direction, storage=storage, study_name="s", load_if_exists=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for number in range(len(study.trials), trials):
            study.sampler = sampler(seed=number, **options)
            study.optimize(objective, n_trials=1)
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("options", [{}, {"popsize": 5}, {"with_margin": True}, {"use_separable_cma": True},
                                     {"lr_adapt": True}])  # fmt: skip
def test_draws_are_those_of_optuna(direction, options):
    """State that is rebuilt from trials is the state that optuna stores: forty trials are equal."""
    ours, theirs = (searched(one, direction, **options) for one in (CmaEsSampler, optuna.samplers.CmaEsSampler))
    for mine, other in zip(ours.trials, theirs.trials, strict=True):
        assert mine.params == pytest.approx(other.params, rel=1e-6)  # a pickle rounds the covariance


def test_study_holds_no_pickle():
    """Nothing in the study's attributes is more than a number or a list of numbers."""
    study = searched(CmaEsSampler, "minimize", trials=30)
    values = [value for trial in study.trials for value in trial.system_attrs.values()]
    assert values
    assert all(isinstance(value, int) for value in values)


def evil_study(own_directory):
    """A study of someone else whose trials hold a pickle where optuna looks for the state."""
    storage = f"sqlite:///{own_directory}/study.db"
    study = searched(CmaEsSampler, "minimize", storage, trials=3)
    like = study.trials[-1]
    attrs = {**like.system_attrs, "cma:optimizer:0": pickle.dumps(Evil()).hex()}
    evil = create_trial(params=like.params, distributions=like.distributions, value=0.5, system_attrs=attrs)
    study.add_trial(evil)
    return storage


def test_pickle_in_a_study_is_not_loaded(own_directory):
    """A study from someone else runs no code."""
    searched(CmaEsSampler, "minimize", evil_study(own_directory), trials=6)
    assert not Path("canary").exists()


def test_pickle_in_a_study_works(own_directory):
    """The positive control: optuna's own sampler loads it."""
    searched(optuna.samplers.CmaEsSampler, "minimize", evil_study(own_directory), trials=5)
    assert Path("canary").exists()


def test_config_cannot_name_the_sampler_of_optuna():
    """Its state is a pickle; ours may be named."""
    key = "sweep.sampler._target_"
    assert allowlist.check_target("optuna.samplers.CmaEsSampler", key).key == key
    assert allowlist.check_target("hydratune.sweep.CmaEsSampler", key) is None
