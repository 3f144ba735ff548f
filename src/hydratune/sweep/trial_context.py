"""Context of a trial, for its run in any process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydratune.config.instantiate import build
from hydratune.sweep.plan import Plan, common_config, label, read_plan
from hydratune.sweep.study import PARENT, PROGRESS, ClaimedTrial, Study
from hydratune.tracking.delivery import SWEEP
from hydratune.tracking.runs_view import LOG10
from hydratune.training.job import TrialContext
from hydratune.training.run_params import param_name


def trial_context(study: Study, claim: ClaimedTrial, number: int) -> TrialContext:
    """Return the context of the run of a trial with its seed of this number."""
    from hydratune.sweep.callbacks import PruningCallback, ReportProgress

    plan, count = study.plan, len(study.plan.replicates)
    seed = plan.replicates[number]
    callbacks: list[Any] = [ReportProgress(lambda share: study.note(claim, PROGRESS, (number + share) / count))]
    if not plan.seeds and len(plan.objectives) == 1:  # one value per evaluation, for the pruner and learning curves
        callbacks.append(PruningCallback(claim.trial, next(iter(plan.objectives))))
    parent = study.attributes().get(PARENT, {}).get("key")
    tags, key = {SWEEP: parent or plan.name}, parent and f"{parent}.{claim.directory.name}.{seed}"
    origin = (str(plan.directory), str(claim.trial._trial_id), str(number))
    metrics = [name for name in plan.objectives if not name.endswith("_runtime")]
    charts = _chart_params(plan, claim.point)
    return TrialContext(label(claim.point, seed), tags, key, callbacks, origin, metrics, study.check_rows, charts)


def reopen_trial(directory: str, trial_id: str) -> tuple[Study, ClaimedTrial]:
    """Return the study of a sweep and one of its trials, as they are in the worker that has claimed the trial."""
    import optuna

    plan = read_plan(Path(directory))
    study = Study(plan, build(common_config(plan).sweep), waits=True)
    trial = optuna.trial.Trial(study.study, int(trial_id))
    frozen: Any = study.storage.get_trial(int(trial_id))
    return study, ClaimedTrial(trial, plan.space.suggest(trial), study.directory(frozen))


def _chart_params(plan: Plan, point: Mapping[str, Any]) -> dict[str, float]:
    """Return the logarithms of the values of logarithmic parameters, since the axes of MLflow's charts are linear."""
    parameters = [p for p in plan.space.parameters if p.is_logarithmic and p.name in point]
    values = {param_name(key): float(point[p.name]) for p in parameters for key in p.keys}
    return {f"{LOG10}{name}": float(f"{math.log10(value):.6g}") for name, value in values.items()}
