"""Sweeps as a user starts them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import optuna

import processes

TESTS = Path(__file__).parent
RATES, DECAYS = (0.002, 0.02), (0, 0.1, 0.2)
GRID = [
    f"trainer.args.learning_rate={','.join(map(str, RATES))}",
    f"trainer.args.weight_decay={','.join(map(str, DECAYS))}",
]
SIX = Counter((rate, decay) for rate in RATES for decay in DECAYS)


def signed(folder: Path) -> set[int]:
    """The processes that have trained."""
    return {int(path.name) for path in folder.iterdir()} if folder.is_dir() else set()


def signs(folder: Path, people: int = 1) -> str:
    """The override that adds `Sign`."""
    return f"+trainer.callbacks.sign={{_target_: signing.Sign, folder: '{folder}', people: {people}}}"


def start(*overrides: str, cwd: Path | None = None, cold: bool = False, **environment: str) -> processes.Started:
    """`hydratune -m` in the background."""
    more = {"PYTHONPATH": str(TESTS), "HYDRATUNE_ALLOW": "signing", **environment}
    return processes.start("-m", *overrides, cwd=cwd, cold=cold, **more)


def ended(process: processes.Started) -> str:
    """What a sweep said that went well."""
    with process:
        said = "".join(process.communicate())
    assert process.returncode == 0, said
    return said


def studies(storage: str) -> list[optuna.Study]:
    """Those of a storage."""
    return [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]


def completed(study: optuna.Study) -> Counter[tuple[float, ...]]:
    """Configuration -> how many trials of it are complete; there are no others."""
    trials = study.get_trials()
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    return Counter(tuple(trial.params.values()) for trial in trials)
