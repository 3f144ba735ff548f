"""The command line: `hydratune OVERRIDES` trains; other verbs list configs, open MLflow, deliver to it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from hydratune.errors import (
    FAILED,
    INTERRUPTED,
    TERMINATED,
    USER_MISTAKE,
    ConfigError,
    Mistake,
    did_you_mean,
    one_of,
)


def main() -> None:
    """The console script; exits with 0, 1 after a failure, 2 after a mistake, 130 after Ctrl-C, 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(dispatch(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(_say(error))
    except BrokenPipeError:  # `hydratune configs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains while it exits
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("\nhydratune: interrupted", file=sys.stderr)  # below the progress bar
        sys.exit(INTERRUPTED)


def dispatch(arguments: Sequence[str]) -> int:
    """Runs the verb that comes first, or `train` where none does."""
    first, *rest = arguments or [""]
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        verb.__name__: verb for verb in (train, configs, ui, sync, resume)
    }
    if first in verbs:
        return verbs[first](rest)
    if first.replace("_", "").isalpha():  # neither a flag nor an override
        fix = did_you_mean(first, verbs, "See hydratune --help.")
        raise ConfigError(Mistake(first, f"{one_of(verbs)} or KEY=VALUE", repr(first), fix))
    return train(arguments)


def train(arguments: Sequence[str]) -> int:
    """Composes, checks and runs; every flag and override of Hydra works."""
    from hydratune.train import train as run_hydra

    return run_hydra(arguments)


def configs(arguments: Sequence[str]) -> int:
    """Lists the shipped configs, or copies one."""
    from hydratune.configs import main as list_or_copy

    return list_or_copy(arguments)


def ui(arguments: Sequence[str]) -> int:
    """Serves the MLflow UI on loopback."""
    from hydratune.tracking.ui import main as serve

    serve(arguments)
    return 0


def resume(arguments: Sequence[str]) -> int:
    """Goes on with a run that was cut off."""
    from hydratune.resume import main as go_on

    return go_on(arguments)


def sync(arguments: Sequence[str]) -> int:
    """Delivers to MLflow what a run could not."""
    from hydratune.tracking.sync import main as deliver

    return deliver(arguments)


def _terminate(*_: object) -> NoReturn:
    """Unwinds on SIGTERM as on Ctrl-C, so that MLflow is told before the process ends."""
    sys.exit(TERMINATED)


def _say(error: ConfigError) -> int:
    if len(error.mistakes) > 1:
        print(f"hydratune: {len(error.mistakes)} mistakes", file=sys.stderr)
    print(error, file=sys.stderr)
    return USER_MISTAKE
