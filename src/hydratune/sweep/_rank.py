"""Process of a distributed trial: `python -m hydratune.sweep._rank CONFIG PARENT SWEEP TRIAL_ID NUMBER`."""

from __future__ import annotations

import sys

from hydratune.sweep.trial_context import reopen_trial, trial_context
from hydratune.training import rank

if __name__ == "__main__":
    config, parent, sweep, trial_id, number = sys.argv[1:]
    rank.main(
        lambda _: (trial_context(*reopen_trial(sweep, trial_id), int(number)), None), config, parent, is_trial=True
    )
