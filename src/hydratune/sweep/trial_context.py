"""Context of a trial, for its run in any process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydratune.config.instantiate import build
from hydratune.sweep.plan import Plan, common_config, label
from hydratune.sweep.stored_plan import read_plan
from hydratune.sweep.study import EVALUATIONS, PARENT, PROGRESS, VALUES, ClaimedTrial, Study
from hydratune.tracking.delivery import SWEEP
from hydratune.tracking.runs_view import LOG10, SWEEP_NAME
from hydratune.training.job import TrialContext
from hydratune.training.run_params import param_name


def trial_context(study: Study, claim: ClaimedTrial, number: int) -> TrialContext:
    """Return the context of the run of a trial with its replicate of this number."""
    from hydratune.sweep.callbacks import EarlierRuns, PruningCallback, ReportProgress

    plan, count = study.plan, len(study.plan.replicates)
    replicate = plan.replicates[number]
    callbacks: list[Any] = [ReportProgress(lambda share: study.note(claim, PROGRESS, (number + share) / count))]
    # One value per evaluation, for the pruner and learning curves; the Wilcoxon pruner gets one value per run.
    if len(plan.objectives) == 1 and not (plan.is_replicated and study.options.pruner == "wilcoxon"):
        objective, noted = next(iter(plan.objectives)), study.noted(claim)
        values = noted.get(VALUES, {}).get(objective, [])[:number]
        earlier = EarlierRuns(values, sum(noted.get(EVALUATIONS, [])[:number]))
        callbacks.append(PruningCallback(claim.trial, objective, earlier, is_last=number == count - 1))
    parent = study.attributes().get(PARENT, {}).get("key")
    tags = {SWEEP: parent or plan.name, SWEEP_NAME: plan.name}
    key = parent and f"{parent}.{claim.directory.name}.{replicate.folder}"
    origin = (str(plan.directory), str(claim.trial._trial_id), str(number))
    metrics = [name for name in plan.objectives if not name.endswith("_runtime")]
    charts = _chart_params(plan, claim.point)
    return TrialContext(label(claim.point, replicate), tags, key, callbacks, origin, metrics, study.check_rows, charts)


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
