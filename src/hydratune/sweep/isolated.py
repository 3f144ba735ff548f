"""Run of a sweep in its own process: `sweep.process_per_trial=true`."""

from __future__ import annotations

import os
import sys
import tempfile
from subprocess import DEVNULL

from hydra.core.hydra_config import HydraConfig

from hydratune.config import servers
from hydratune.config.import_guards import guard_imports
from hydratune.sweep.study import ClaimedTrial, Study
from hydratune.sweep.trial import TrialResult, one_run
from hydratune.sweep.trial_context import reopen_trial
from hydratune.training.results import read_metrics
from hydratune.training.warm_cache import WarmCache
from hydratune.utils import gc_tuning, signals
from hydratune.utils.errors import FAILED, SAVED, one_line
from hydratune.utils.logs import guard_output
from hydratune.utils.python_processes import start_python

_PRUNED = 3  # exit code of a pruned run


def start(study: Study, claim: ClaimedTrial, number: int) -> TrialResult:
    """Train a configuration with one of its seeds in a new process, wait for it, and return its result."""
    arguments = [str(study.plan.directory), str(claim.trial._trial_id), str(number), str(os.getpid())]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:  # an unread pipe would block the process
        with start_python(__name__, *arguments, stdout=DEVNULL, stderr=errors) as process:
            try:
                process.wait()
            except BaseException:
                process.terminate()  # the process ends its MLflow run, and its checkpoints remain
                process.wait()  # `with` does not wait after Ctrl-C, and another worker would take over a running trial
                raise
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    if process.returncode == _PRUNED:
        return TrialResult(pruned=True)
    if signals.ended_by_request(process.returncode):  # not a failure of the trial
        raise SystemExit(SAVED)
    if process.returncode:
        return TrialResult(error=RuntimeError(lines[-1] if lines else f"exit code {process.returncode}"))
    directory = claim.run_directory(study.plan.replicates[number])
    return TrialResult(metrics=read_metrics(directory))


def main(directory: str, trial_id: str, number: str, parent: str) -> int:
    """Train a run in the new process, and return the exit code."""
    gc_tuning.defer_gc()
    signals.install_in_child(int(parent), SAVED)
    guard_output()
    servers.ignore_default_login()
    guard_imports()
    study, claim = reopen_trial(directory, trial_id)
    HydraConfig.instance().cfg = None  # no outer Hydra job has a log to restore
    result = one_run(study, claim, int(number), WarmCache())
    if result.error:
        print(f"{type(result.error).__name__}: {one_line(result.error)}", file=sys.stderr)
        return FAILED
    return _PRUNED if result.pruned else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
