"""Sweeps whose trials nobody trained."""

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution

from hydratune.config.composition import Request
from hydratune.config.instantiate import build
from hydratune.sweep.plan import make_plan
from hydratune.sweep.stored_plan import write_plan
from hydratune.sweep.study import Study

RATE, DECAY = "trainer.args.learning_rate", "trainer.args.weight_decay"
SPACE = [f"{RATE}=tag(log,interval(1e-4,1e-1))", f"{DECAY}=0,0.1", "sweep=tpe", "sweep.n_trials=8"]
TWO = "sweep.objectives={eval_accuracy: maximize, eval_loss: minimize}"
_SPREAD = {RATE: FloatDistribution(1e-4, 1e-1, log=True), DECAY: CategoricalDistribution([0, 0.1])}


def fake_study(overrides, *trials, **where):
    """The study of a sweep, its plan written down, with these trials in it."""
    plan, cfg = make_plan(Request(tuple(overrides), **where))
    write_plan(plan)
    study = Study(plan, build(cfg.sweep))
    study.study.add_trials(list(trials))
    return study


def fake(rate, decay, *values, state="COMPLETE", said=(), **attrs):
    """A trial of SPACE."""
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        values=list(values) or None,
        params={RATE: rate, DECAY: decay},
        distributions=_SPREAD,
        intermediate_values=dict(enumerate(said, start=1)),
        user_attrs=attrs,
    )


def add_grid(study, *values):
    """Finished trials at the points of a grid, in their order."""
    for point, value in zip(study.plan.space.grid(), values, strict=True):
        spread = {p.name: CategoricalDistribution(p.labels) for p in study.plan.space.parameters if p.name in point}
        study.study.add_trial(optuna.trial.create_trial(value=value, params=point, distributions=spread))
